"""Reading a store: rows by key, by condition and in order, whatever holds the connection."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.store.rows import Table

Entry = tuple[str, bytes, int]
"""One id under one key of one index."""


class StoreError(Exception):
    """The store's file can not be used; delete it and the next start builds it from the journal."""


class Look:
    """Reads over one connection; `Database` reads the latest checkpoint, `Database.aside` one that stands still."""

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        self.path = path
        self._reader = reader

    def meta(self, name: str) -> int:
        """A number the file keeps about itself."""
        found = self._reader.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise StoreError(f"{self.path.name} does not say its {name}")
        return int(found[0])

    def row(self, table: Table, key: str | int) -> Any:
        """The row of a key, None when there is none."""
        statement = f"SELECT row FROM {table.name} WHERE {table.key} = ?"  # noqa: S608 - Constants of rows.py.
        found = self._reader.execute(statement, (key,)).fetchone()
        return None if found is None else table.decode(found[0])

    def rows(self, table: Table, where: str = "1", values: Iterable[Any] = ()) -> Iterator[Any]:
        """Rows by a condition of our own making; values are bound, never written into it."""
        statement = f"SELECT row FROM {table.name} WHERE {where}"  # noqa: S608 - Conditions are literals of ours.
        for found in self._reader.execute(statement, tuple(values)):
            yield table.decode(found[0])

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """What a statement of our own making finds, all of it; values are bound, never written into it."""
        return self._reader.execute(statement, values).fetchall()

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """What such a statement finds, as it is read."""
        yield from self._reader.execute(statement, values)

    def entries(self, name: str, key: bytes, limit: int, *, latest: bool) -> list[int]:
        """Ids filed under a key, the first or the last `limit` of them, in that order."""
        order = "DESC" if latest else "ASC"
        found = self._reader.execute(
            f"SELECT id FROM entries WHERE name = ? AND key = ? ORDER BY id {order} LIMIT ?",  # noqa: S608 - One of two literals.
            (name, key, limit),
        )
        return [one for (one,) in found]

    def all_entries(self) -> Iterator[Entry]:
        """Every entry of every index, in order."""
        yield from self._reader.execute("SELECT name, key, id FROM entries ORDER BY name, key, id")
