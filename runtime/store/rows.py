"""Rows as the store writes them: which table, which key, and the columns that look-ups need."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from protocol.state import ROW_KEYS, CycleRow, DefinitionRow, HitRow, IncidentRow, Row, TransactionRow, UsageRow

encode = msgspec.msgpack.Encoder().encode


class Table(NamedTuple):
    """How rows of one type are kept."""

    name: str
    key: str
    columns: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]  # The key and the columns of a row, in order.
    decode: Callable[[bytes], Any]

    @property
    def into(self) -> str:
        """How a statement begins that keeps rows, whether they are new or not."""
        return f"INSERT OR REPLACE INTO {self.name} ({', '.join((self.key, *self.columns, 'row'))})"

    @property
    def upsert(self) -> str:
        """The statement that keeps one row."""
        return f"{self.into} VALUES ({', '.join('?' * (len(self.columns) + 2))})"

    @property
    def delete(self) -> str:
        """The statement that removes the row of a key."""
        return f"DELETE FROM {self.name} WHERE {self.key} = ?"  # noqa: S608 - Names are constants of this file.


def _transaction(row: TransactionRow) -> tuple[Any, ...]:
    active = not row.until and (row.status == "running" or row.call is not None or bool(row.queue))
    idle = 0 if row.status == "running" else row.updated
    return (row.id, row.cycle, row.status, row.step, row.created, row.until, int(active), idle, int(row.purged > 0))


def parked_until(row: HitRow) -> int:
    """When the parking of a hit ends; 0 when it is not parked."""
    return row.until if row.status in ("parked", "collected") else 0


def _hit(row: HitRow) -> tuple[Any, ...]:
    waiting = int(row.fate == "waiting")
    return (row.id, row.cycle, row.status, row.transaction, parked_until(row), waiting, int(row.purged > 0))


TABLES: dict[type[Row], Table] = {
    CycleRow: Table("cycles", "name", (), lambda row: (row.name,), msgspec.msgpack.Decoder(CycleRow).decode),
    DefinitionRow: Table(
        "definitions", "hash", (), lambda row: (row.hash,), msgspec.msgpack.Decoder(DefinitionRow).decode
    ),
    TransactionRow: Table(
        "transactions",
        "id",
        ("cycle", "status", "step", "created", "due", "active", "idle", "purged"),
        _transaction,
        msgspec.msgpack.Decoder(TransactionRow).decode,
    ),
    HitRow: Table(
        "hits",
        "id",
        ("cycle", "status", "txn", "due", "waiting", "purged"),
        _hit,
        msgspec.msgpack.Decoder(HitRow).decode,
    ),
    IncidentRow: Table(
        "incidents",
        "id",
        ("cycle", "txn"),
        lambda row: (row.id, row.cycle, row.transaction),
        msgspec.msgpack.Decoder(IncidentRow).decode,
    ),
    UsageRow: Table("usages", "id", (), lambda row: (row.id,), msgspec.msgpack.Decoder(UsageRow).decode),
}


def row_key(row: Row) -> str | int:
    """What names a row within its table."""
    key: str | int = ROW_KEYS[type(row)](row)
    return key
