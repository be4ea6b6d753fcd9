"""The SQLite file behind the store: opened, checked, written in batches, read by key and by page.

The file is always the fold of the journal up to a sequence number it knows, because a batch and that number are
written in one transaction. So it needs no sync of its own: after a power loss it is an older, whole checkpoint.
"""

import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from protocol.events import SCHEMA
from protocol.state import CycleRow, DefinitionRow, Row
from runtime.store.rows import TABLES, Table

SCHEMA_VERSION = 4  # Of the tables and rows; another version's file is rebuilt from the journal.
CACHE_KIB = 16 * 1024  # Page cache of each connection; look-ups by key stay in memory at 100,000 holds.
BUSY_S = 30.0  # Readers never block the writer in WAL mode; this bounds a checkpoint at most.

_key = msgspec.msgpack.Decoder(list[str]).decode


class StoreError(Exception):
    """The store's file can not be used; delete it and the next start builds it from the journal."""


class StoreFull(StoreError):
    """The file can not be written now, mostly because the disk is full; the same batch can be written later."""


class Database:
    """One SQLite file with a writer's connection and a reader's."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            StoreError: the file is not ours, or of another version, or damaged.
        """
        self.path = path
        fresh = not path.exists()
        path.touch(mode=0o600)
        try:
            self._writer = self._connect()
            if fresh:
                self._writer.executescript(files("runtime.store").joinpath("schema.sql").read_text())
                self._set_meta({"version": SCHEMA_VERSION, "events": SCHEMA, "applied": -1, "journal": 0})
            self._reader = self._connect()
            if self.meta("version") != SCHEMA_VERSION or self.meta("events") != SCHEMA:
                raise StoreError(f"{path.name} was written by another version")
        except sqlite3.DatabaseError as fault:
            raise StoreError(f"{path.name} is not a usable store: {fault}") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection

    def close(self) -> None:
        """Close both connections; nothing is lost, batches are written when they are given."""
        self._reader.close()
        self._writer.close()

    def meta(self, name: str) -> int:
        """A number the file keeps about itself."""
        found = self._reader.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise StoreError(f"{self.path.name} does not say its {name}")
        return int(found[0])

    def _set_meta(self, values: dict[str, int]) -> None:
        self._writer.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def write(
        self,
        rows: dict[type[Row], list[tuple[Any, ...]]],
        filed: list[tuple[str, bytes, int]],
        unfiled: list[tuple[str, bytes, int]],
        applied: int,
    ) -> None:
        """Write one batch and the sequence number it reaches, all or nothing. Blocks; runs in a thread."""
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            for kind, values in rows.items():
                writer.executemany(TABLES[kind].upsert, values)
            writer.executemany("DELETE FROM entries WHERE name = ? AND key = ? AND id = ?", unfiled)
            writer.executemany("DELETE FROM matched WHERE value = ? AND id = ? AND step = ?", _matched(unfiled))
            writer.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", filed)
            writer.executemany("INSERT OR IGNORE INTO matched VALUES (?, ?, ?)", _matched(filed))
            self._set_meta({"applied": applied})
            writer.execute("COMMIT")
        except BaseException as fault:
            if writer.in_transaction:  # SQLite has rolled back by itself after some failures.
                writer.execute("ROLLBACK")
            if isinstance(fault, sqlite3.OperationalError):
                raise StoreFull(f"{self.path.name} can not be written: {fault}") from fault
            raise

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Reads inside the block see one checkpoint, whatever is written meanwhile; it must not wait for anything."""
        self._reader.execute("BEGIN")
        try:
            yield
        finally:
            self._reader.execute("COMMIT")

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

    def entries(self, name: str, key: bytes, limit: int, *, latest: bool) -> list[int]:
        """Ids filed under a key, the first or the last `limit` of them, in that order."""
        order = "DESC" if latest else "ASC"
        found = self._reader.execute(
            f"SELECT id FROM entries WHERE name = ? AND key = ? ORDER BY id {order} LIMIT ?",  # noqa: S608 - One of two literals.
            (name, key, limit),
        )
        return [one for (one,) in found]

    def all_entries(self) -> Iterator[tuple[str, bytes, int]]:
        """Every entry of every index, in order."""
        yield from self._reader.execute("SELECT name, key, id FROM entries ORDER BY name, key, id")


def peek(path: Path) -> tuple[int, list[CycleRow], list[DefinitionRow]]:
    """What a store's file says, of a running server or of none, changing nothing.

    Returns:
        The sequence number it reaches, its cycles and the definitions of all their versions.

    Raises:
        StoreError: there is no file, or it can not be used.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
    except sqlite3.DatabaseError as fault:
        raise StoreError(f"{path.name} can not be read: {fault}") from None
    try:
        meta = dict(connection.execute("BEGIN").execute("SELECT name, value FROM meta"))
        if (meta.get("version"), meta.get("events")) != (SCHEMA_VERSION, SCHEMA):
            raise StoreError(f"{path.name} was written by another version")
        tables = (TABLES[CycleRow], TABLES[DefinitionRow])
        cycles, definitions = (
            [table.decode(row) for (row,) in connection.execute(f"SELECT row FROM {table.name}")]  # noqa: S608 - Constants of rows.py.
            for table in tables
        )
        return int(meta["applied"]), cycles, definitions
    except (sqlite3.DatabaseError, KeyError) as fault:
        raise StoreError(f"{path.name} is not a usable store: {fault}") from None
    finally:
        connection.close()


def _matched(entries: Iterable[tuple[str, bytes, int]]) -> Iterator[tuple[str, int, str]]:
    """The rows of `matched` that belong to entries: one for each value of a match key."""
    for name, key, row_id in entries:
        if name in ("reached", "parted"):
            _cycle, step, *values = _key(key)
            for value in values:
                yield value, row_id, step
