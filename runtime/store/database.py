"""The SQLite file behind the store: opened, checked, written in batches, read by key and by page.

The file is always the fold of the journal up to a sequence number it knows, because a batch and that number are
written in one transaction. So it needs no sync of its own: after a power loss it is an older, whole checkpoint.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from protocol.events import SCHEMA
from protocol.state import CycleRow, DefinitionRow, Row
from runtime.store.look import Entry, Look, StoreError
from runtime.store.rows import TABLES, encode

SCHEMA_VERSION = 5  # Of the tables and rows; another version's file is rebuilt from the journal.
CACHE_KIB = 16 * 1024  # Page cache of each connection; look-ups by key stay in memory at 100,000 holds.
INSERTED_AT_ONCE = 64, 8, 1  # Rows of one statement; ten columns of 64 are below the 999 values that any SQLite takes.
BUSY_S = 30.0  # Readers never block the writer in WAL mode; this bounds a checkpoint at most.

_key = msgspec.msgpack.Decoder(list[str]).decode


class StoreFull(StoreError):
    """The file can not be written now, mostly because the disk is full; the same batch can be written later."""


class Database(Look):
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
            super().__init__(path, self._connect())
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

    def check(self) -> None:
        """Look at the structure of the whole file: a tenth of a second for 100,000 rows. Blocks.

        Raises:
            StoreError: it is damaged; what a request would meet is found before the first one comes.
        """
        try:
            (found,) = self.select("PRAGMA quick_check(1)")[0]
        except sqlite3.DatabaseError as fault:
            found = str(fault)
        if found != "ok":
            raise StoreError(f"{self.path.name} is damaged: {found}")

    def close(self) -> None:
        """Close both connections; nothing is lost, batches are written when they are given."""
        self._reader.close()
        self._writer.close()

    def _set_meta(self, values: dict[str, int]) -> None:
        self._writer.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def write(
        self,
        rows: dict[type[Row], list[tuple[Any, ...]]],
        filed: list[tuple[str, bytes, int]],
        unfiled: list[tuple[str, bytes, int]],
        applied: int,
        dropped: Iterable[tuple[type[Row], str | int]] = (),
    ) -> None:
        """Write one batch and the sequence number it reaches, all or nothing. Blocks; runs in a thread."""
        with self._writing(applied) as writer:
            for kind, values in rows.items():
                _insert(writer, TABLES[kind].into, values)
            for kind, key in dropped:
                writer.execute(TABLES[kind].delete, (key,))
            writer.executemany("DELETE FROM entries WHERE name = ? AND key = ? AND id = ?", unfiled)
            writer.executemany("DELETE FROM matched WHERE value = ? AND id = ? AND step = ?", _matched(unfiled))
            _file(writer, filed)

    def fill(self, contents: Iterable[Row | Entry], applied: int, check: Callable[[Look], None]) -> None:
        """Fill a file that is empty, all or nothing, however much it is. Blocks.

        Args:
            contents: rows and entries.
            applied: the sequence number that they reach.
            check: looks at the whole of it, and raises when it is not to be kept.
        """
        with self._writing(applied) as writer:
            for item in contents:
                if isinstance(item, tuple):
                    _file(writer, [item])
                else:
                    table = TABLES[type(item)]
                    writer.execute(table.upsert, (*table.values(item), encode(item)))
            check(Look(self.path, writer))

    @contextmanager
    def _writing(self, applied: int) -> Generator[sqlite3.Connection]:
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            yield writer
            self._set_meta({"applied": applied})
            writer.execute("COMMIT")
        except BaseException as fault:
            if writer.in_transaction:  # SQLite has rolled back by itself after some failures.
                writer.execute("ROLLBACK")
            if isinstance(fault, sqlite3.OperationalError):
                raise StoreFull(f"{self.path.name} can not be written: {fault}") from fault
            raise

    @contextmanager
    def aside(self) -> Generator[Look]:
        """A look at the checkpoint of this moment, for as long as it takes, over a connection of its own.

        For a thread: looks over the reader's connection would wait for each other, and the loop with them.

        Raises:
            StoreError: it can not be read now.
        """
        try:
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
        except sqlite3.OperationalError as fault:  # The process has no file handle left, say.
            raise StoreError(f"{self.path.name} can not be looked at: {fault}") from fault
        connection.isolation_level = None
        try:
            connection.execute("BEGIN")
            look = Look(self.path, connection)
            look.meta("applied")  # The first read is what fixes the moment.
            yield look
        except sqlite3.OperationalError as fault:
            raise StoreError(f"{self.path.name} can not be looked at: {fault}") from fault
        finally:
            connection.close()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Reads inside the block see one checkpoint, whatever is written meanwhile; it must not wait for anything."""
        self._reader.execute("BEGIN")
        try:
            yield
        finally:
            self._reader.execute("COMMIT")


@contextmanager
def look_at(path: Path) -> Generator[Look]:
    """A look into a store's file, of a running server or of none, as of one moment, changing nothing.

    Raises:
        StoreError: there is no file, or it can not be used.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
    except sqlite3.DatabaseError as fault:
        raise StoreError(f"{path.name} can not be read: {fault}") from None
    try:
        connection.isolation_level = None
        connection.execute("BEGIN")
        look = Look(path, connection)
        if (look.meta("version"), look.meta("events")) != (SCHEMA_VERSION, SCHEMA):
            raise StoreError(f"{path.name} was written by another version")
        yield look
    except sqlite3.DatabaseError as fault:
        raise StoreError(f"{path.name} is not a usable store: {fault}") from None
    finally:
        connection.close()


def peek(path: Path) -> tuple[int, list[CycleRow], list[DefinitionRow]]:
    """What a store's file says, of a running server or of none, changing nothing.

    Returns:
        The sequence number it reaches, its cycles and the definitions of all their versions.

    Raises:
        StoreError: there is no file, or it can not be used.
    """
    with look_at(path) as look:
        return look.meta("applied"), list(look.rows(TABLES[CycleRow])), list(look.rows(TABLES[DefinitionRow]))


def _file(writer: sqlite3.Connection, entries: list[Entry]) -> None:
    _insert(writer, "INSERT OR IGNORE INTO entries", entries)
    _insert(writer, "INSERT OR IGNORE INTO matched", list(_matched(entries)))


def _insert(writer: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, many by one statement: each statement is a crossing of the interpreter lock, which a busy loop has.

    The fewer sizes there are, the fewer statements SQLite has to compile: it keeps those that it has compiled.
    """
    at = 0
    for size in INSERTED_AT_ONCE:
        while len(rows) - at >= size:
            one = f"({', '.join('?' * len(rows[at]))})"
            values = [value for row in rows[at : at + size] for value in row]
            writer.execute(f"{into} VALUES {', '.join([one] * size)}", values)
            at += size


def _matched(entries: Iterable[tuple[str, bytes, int]]) -> Iterator[tuple[str, int, str]]:
    """The rows of `matched` that belong to entries: one for each value of a match key."""
    for name, key, row_id in entries:
        if name in ("reached", "parted"):
            _cycle, step, *values = _key(key)
            for value in values:
                yield value, row_id, step
