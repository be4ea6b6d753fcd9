"""One number for a whole state, so that two ways to the same state can be compared.

Checkpoint and tail, full replay and the live state must all give it alike.
"""

import hashlib
from collections.abc import Iterable, Iterator

from protocol.memory import MemoryState
from protocol.state import Row
from runtime.store.look import Entry, Look
from runtime.store.rows import TABLES, encode, row_key

DIGEST_BYTES = 16


def digest(state: MemoryState | Look) -> str:
    """The digest of every row and index entry, in order, as 32 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for item in contents(state):
        total.update(packed(item))
    return total.hexdigest()


def contents(state: MemoryState | Look) -> Iterator[Row | Entry]:
    """Everything that a state holds: its rows, table by table and in the order of their keys, then its entries."""
    rows, entries = _of_memory(state) if isinstance(state, MemoryState) else _of_store(state)
    yield from rows
    yield from entries


def packed(item: Row | Entry) -> bytes:
    """A row as (table, row), or an entry as (index, key, id): what is digested, and what a snapshot holds."""
    return encode(item if isinstance(item, tuple) else (TABLES[type(item)].name, item))


def _of_memory(state: MemoryState) -> tuple[Iterator[Row], Iterable[Entry]]:
    tables = (state.cycles, state.definitions, state.transactions, state.hits, state.incidents, state.usages)
    rows = (row for table in tables for row in sorted(table.values(), key=row_key))
    entries = sorted((name, encode(key), one) for name, key, ids in state.entries() for one in ids)
    return rows, entries


def _of_store(store: Look) -> tuple[Iterator[Row], Iterable[Entry]]:
    rows = (row for table in TABLES.values() for row in store.rows(table, f"1 ORDER BY {table.key}"))
    return rows, store.all_entries()
