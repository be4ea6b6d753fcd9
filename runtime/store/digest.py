"""One number for a whole state, so that two ways to the same state can be compared.

Checkpoint and tail, full replay and the live state must all give it alike.
"""

import hashlib
from collections.abc import Iterable, Iterator

from protocol.memory import MemoryState
from protocol.state import Row
from runtime.store.database import Database
from runtime.store.rows import TABLES, encode, row_key


def digest(state: MemoryState | Database) -> str:
    """The digest of every row and index entry, in order, as 32 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=16)
    rows, entries = _of_memory(state) if isinstance(state, MemoryState) else _of_database(state)
    for row in rows:
        total.update(encode((type(row).__name__, row)))
    for entry in entries:
        total.update(encode(entry))
    return total.hexdigest()


def _of_memory(state: MemoryState) -> tuple[Iterator[Row], Iterable[tuple[str, bytes, int]]]:
    tables = (state.cycles, state.definitions, state.transactions, state.hits, state.incidents, state.usages)
    rows = (row for table in tables for row in sorted(table.values(), key=row_key))
    entries = sorted((name, encode(key), one) for name, key, ids in state.entries() for one in ids)
    return rows, entries


def _of_database(database: Database) -> tuple[Iterator[Row], Iterable[tuple[str, bytes, int]]]:
    rows = (row for table in TABLES.values() for row in database.rows(table, f"1 ORDER BY {table.key}"))
    return rows, database.all_entries()
