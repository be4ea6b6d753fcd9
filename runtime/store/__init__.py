"""The checkpoint of the fold: SQLite behind the journal, disposable, and what lists and searches read."""

from runtime.store.database import Database, StoreFull
from runtime.store.digest import digest
from runtime.store.look import Look, StoreError
from runtime.store.state import Checkpoint, StoredState

__all__ = ["Checkpoint", "Database", "Look", "StoreError", "StoreFull", "StoredState", "digest"]
