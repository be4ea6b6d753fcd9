"""The live state: hot rows in memory over the checkpoint in SQLite.

1. A row in memory is newer than, or the same as, the row in the file.
2. A checkpoint is taken at one instant and is written only after the journal is durable up to it.
3. A row leaves memory only when the file has it; what a running pass needs stays.
So memory grows with what is in progress, not with what is held or finished.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct

from protocol.loading import decode_definition
from protocol.program import Program, compile_program
from protocol.state import (
    ROW_KEYS,
    CycleRow,
    DefinitionRow,
    HitRow,
    IncidentRow,
    IndexName,
    Removable,
    Row,
    TransactionRow,
    UsageRow,
    usage_name,
)
from runtime.store.database import Database
from runtime.store.rows import TABLES, encode

RowName = tuple[type[Row], str | int]
EntryName = tuple[str, bytes, int]
_Kind = TypeVar("_Kind", DefinitionRow, TransactionRow, HitRow, IncidentRow, UsageRow)


class Checkpoint(Struct, frozen=True):
    """The rows and entries that changed since the last one, and the sequence number they reach.

    A row begins with its key.
    """

    applied: int
    rows: dict[type[Row], list[tuple[Any, ...]]]
    entries: dict[EntryName, bool]
    dropped: list[RowName] = []

    def write(self, database: Database) -> None:
        """Write it, all or nothing. Blocks; runs in a thread."""
        filed = [entry for entry, there in self.entries.items() if there]
        unfiled = [entry for entry, there in self.entries.items() if not there]
        database.write(self.rows, filed, unfiled, self.applied, self.dropped)


class StoredState:
    """A `protocol.state.State` over a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._rows: dict[type[Row], dict[Any, Any]] = {kind: {} for kind in TABLES}
        self._changed: dict[int, Row] = {}  # By identity: rows are saved several times in one turn, nearly all of them.
        self._dropped: set[RowName] = set()  # The file may still have these.
        self._newly_dropped: list[RowName] = []  # Those that no checkpoint has taken yet.
        self._read: list[RowName] = []  # Rows that were only looked at: they leave with the next checkpoint.
        self._entries: dict[tuple[str, bytes], dict[int, bool]] = {}
        self._changed_entries: dict[EntryName, bool] = {}
        self._running: set[int] = set()
        self._transactions: dict[int, TransactionRow] = self._rows[TransactionRow]
        self._hits: dict[int, HitRow] = self._rows[HitRow]
        self._cycles: dict[str, CycleRow] = self._rows[CycleRow]
        self._usages: dict[str, UsageRow] = self._rows[UsageRow]
        self._programs: dict[str, Program] = {}
        for row in database.rows(TABLES[CycleRow]):
            self._cycles[row.name] = row
        for row in database.rows(TABLES[TransactionRow], "active = 1"):
            self._transactions[row.id] = row
            if row.status == "running":  # And does not wait, since it is active.
                self._running.add(row.id)

    @property
    def changed(self) -> int:
        """How many rows the next checkpoint has."""
        return len(self._changed) + len(self._changed_entries) + len(self._newly_dropped)

    def cycles(self) -> list[CycleRow]:
        """Every cycle, by name."""
        return sorted(self._cycles.values(), key=lambda row: row.name)

    def cycle(self, name: str) -> CycleRow:
        return self._cycles[name]

    def program(self, definition_hash: str) -> Program:
        program = self._programs.get(definition_hash)
        if program is None:
            row: DefinitionRow = self._load(DefinitionRow, definition_hash)
            program = compile_program(decode_definition(row.definition), definition_hash)
            self._programs[definition_hash] = program
        return program

    def transaction(self, transaction: int) -> TransactionRow:
        row = self._transactions.get(transaction)
        return self._load(TransactionRow, transaction) if row is None else row

    def hit(self, hit: int) -> HitRow:
        row = self._hits.get(hit)
        return self._load(HitRow, hit) if row is None else row

    def incident(self, incident: int) -> IncidentRow:
        return self._load(IncidentRow, incident)

    def usage(self, day: int, cycle: str, step: str) -> UsageRow:
        name = usage_name(day, cycle, step)
        try:
            return self._usages.get(name) or self._load(UsageRow, name)
        except KeyError:
            return UsageRow(name, day, cycle, step)

    def usages(self, first: str, limit: int) -> list[UsageRow]:
        """Rows of usage from a name on, in their order, as they are now."""
        found = {
            row.id: row for row in self.database.rows(TABLES[UsageRow], "id >= ? ORDER BY id LIMIT ?", (first, limit))
        }
        found |= {name: row for name, row in self._rows[UsageRow].items() if name >= first}
        return [found[name] for name in sorted(found)][:limit]

    def _load(self, kind: type[_Kind], key: str | int) -> _Kind:
        row: _Kind | None = self._rows[kind].get(key)
        if row is None:
            if (kind, key) in self._dropped:
                raise KeyError(key)
            row = self.database.row(TABLES[kind], key)
            if row is None:
                raise KeyError(key)
            self._rows[kind][key] = row
            self._read.append((kind, key))
        return row

    @property
    def running_count(self) -> int:
        """Transactions of all cycles whose pass is in progress, those that wait aside."""
        return len(self._running)

    def running(self, cycle: str) -> list[int]:
        waits = self.database.rows(TABLES[TransactionRow], "cycle = ? AND status = 'running' AND due > 0", (cycle,))
        found = {row.id for row in waits}
        for row in self._transactions.values():  # Newer than the file.
            if row.cycle == cycle and row.status == "running":
                found.add(row.id)
            else:
                found.discard(row.id)
        return sorted(found)

    def changed_rows(self, kind: type[Any]) -> list[Any]:
        """Rows of a type that the file does not have yet, and those it has whose pass is in progress."""
        return list(self._rows[kind].values())

    def find(self, index: IndexName, key: tuple[str, ...], limit: int) -> list[int]:
        return self._find(index, key, limit, latest=False)

    def find_latest(self, index: IndexName, key: tuple[str, ...], limit: int) -> list[int]:
        return self._find(index, key, limit, latest=True)

    def _find(self, index: IndexName, key: tuple[str, ...], limit: int, *, latest: bool) -> list[int]:
        packed = encode(key)
        over = self._entries.get((index, packed), {})
        ids = set(self.database.entries(index, packed, limit + len(over), latest=latest))
        ids.update(one for one, there in over.items() if there)
        ids.difference_update(one for one, there in over.items() if not there)
        return sorted(ids, reverse=latest)[:limit]

    def save(self, row: Row) -> None:
        if id(row) not in self._changed:
            kind = type(row)
            self._changed[id(row)] = self._rows[kind][ROW_KEYS[kind](row)] = row
        if type(row) is TransactionRow:
            if row.status == "running" and not row.until:
                self._running.add(row.id)
            else:
                self._running.discard(row.id)

    def drop(self, kind: type[Removable], row_id: int) -> None:
        row = self._rows[kind].pop(row_id, None)
        self._changed.pop(id(row), None)
        self._dropped.add((kind, row_id))
        self._newly_dropped.append((kind, row_id))
        if kind is TransactionRow:
            self._running.discard(row_id)

    def file(self, index: IndexName, key: tuple[str, ...], row_id: int) -> None:
        self._note_entry(index, key, row_id, there=True)

    def unfile(self, index: IndexName, key: tuple[str, ...], row_id: int) -> None:
        self._note_entry(index, key, row_id, there=False)

    def _note_entry(self, index: IndexName, key: tuple[str, ...], row_id: int, *, there: bool) -> None:
        packed = encode(key)
        self._entries.setdefault((index, packed), {})[row_id] = there
        self._changed_entries[index, packed, row_id] = there

    def checkpoint(self, applied: int) -> Checkpoint:
        """Take what changed since the last checkpoint, as of now; `applied` is the last event folded in."""
        rows: dict[type[Row], list[tuple[Any, ...]]] = {kind: [] for kind in TABLES}
        for row in self._changed.values():
            kind = type(row)
            rows[kind].append((*TABLES[kind].values(row), encode(row)))
        taken = Checkpoint(applied, rows, self._changed_entries, self._newly_dropped)
        self._changed = {}
        self._changed_entries, self._newly_dropped = {}, []
        return taken

    def written(self, taken: Checkpoint) -> None:
        """The file has a checkpoint: let go of rows that are neither in progress nor changed again."""
        self._dropped.difference_update(taken.dropped)
        read, self._read = self._read, []
        for kind, written in taken.rows.items():
            self._let_go(kind, [values[0] for values in written])
        for kind, name in read:
            self._let_go(kind, [name])
        for index, key, row_id in taken.entries:
            over = self._entries.get((index, key))
            if over is not None and (index, key, row_id) not in self._changed_entries:
                over.pop(row_id, None)
                if not over:
                    del self._entries[index, key]

    def _let_go(self, kind: type[Row], names: Iterable[str | int]) -> None:
        rows, changed, is_cold = self._rows[kind], self._changed, _COLD[kind]
        for name in names:
            row = rows.get(name)
            if row is not None and id(row) not in changed and is_cold(row):
                del rows[name]


def _is_idle(row: TransactionRow) -> bool:
    return bool(row.until) or (row.status != "running" and row.call is None and not row.queue)


_COLD: dict[type[Row], Callable[[Any], bool]] = {
    CycleRow: lambda _: False,
    DefinitionRow: lambda _: True,
    TransactionRow: _is_idle,
    HitRow: lambda row: row.status != "running",
    IncidentRow: lambda _: True,
    UsageRow: lambda _: True,
}
"""Whether a row that the file has may leave memory."""
