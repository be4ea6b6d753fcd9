"""The invariants of a state, asked of a store of any size: row by row, for so long, and from where one stopped.

1. Rows are read in the order of their keys, a page at a time, of one checkpoint; what lies beside a row is looked up.
2. A look ends when its time is over, and says how far it came.
3. What is broken names its row, so that it can be looked at again: of a live store one look may come between two turns
   that belong together.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from protocol.definition import Dedupe, WebhookStep
from protocol.duration import parse_duration
from protocol.invariants import (
    Key,
    Window,
    broken_cycle,
    broken_entry,
    broken_hit,
    broken_transaction,
    is_behind,
)
from protocol.loading import decode_definition
from protocol.state import CycleRow, DefinitionRow, HitRow, Row, TransactionRow
from runtime.doctor.report import FOUND_MAX
from runtime.store import Look
from runtime.store.look import Entry
from runtime.store.rows import TABLES, encode

PAGE_ROWS = 200  # Between two looks at the time, and two pauses: some 4 ms.
RUNNING_MAX = 50_000  # Passes in progress that are counted by their hits.
KINDS: tuple[type[Row], ...] = (TransactionRow, HitRow)

_key = msgspec.msgpack.Decoder(tuple[str, ...]).decode

INDEX = "index "
Place = tuple[str, str | int]
"""What names a row or an entry: its table and its key, or `INDEX` with its name and the id that is filed."""


class Broken(Struct, frozen=True):
    """A rule that a row breaks: the number of the promise, and words that name the row.

    Attributes:
        row: as it was, so that a later look can tell whether it still is.
    """

    rule: int
    said: str
    place: Place
    row: bytes


class Looked(Struct):
    """What a look came to: broken rules, the first of each, how many there are, and how much was looked at."""

    applied: int
    broken: list[Broken] = msgspec.field(default_factory=list)
    counts: Counter[int] = msgspec.field(default_factory=Counter)
    rows: Counter[str] = msgspec.field(default_factory=Counter)
    whole: bool = True

    def add(self, one: Broken) -> None:
        """One more."""
        self.counts[one.rule] += 1
        if self.counts[one.rule] <= FOUND_MAX:
            self.broken.append(one)


class Looking:
    """A checkpoint of a store, as the rules see it: `protocol.invariants.Seen`."""

    def __init__(
        self,
        look: Look,
        ahead: Collection[int] | None = None,
        *,
        window: Window | None = None,
        running_max: int = RUNNING_MAX,
    ) -> None:
        """Begin to look.

        Args:
            look: one moment of a store.
            ahead: transactions for which an input waits; None for those that the next start has one for.
            window: for how long delivery keys are remembered; None to read it from the definitions.
            running_max: with more passes in progress the rules that count them are left out.
        """
        self.look = look
        self.ahead = self._active() if ahead is None else ahead
        self.window = window or windows(look)
        self._running_max = running_max
        self._behind: Counter[int] | None = None

    def _active(self) -> Collection[int]:
        return {one for (one,) in self.look.select("SELECT id FROM transactions WHERE active = 1")}

    def transaction(self, one: int) -> TransactionRow | None:
        row: TransactionRow | None = self._row(TransactionRow, one)
        return row

    def hit(self, one: int) -> HitRow | None:
        row: HitRow | None = self._row(HitRow, one)
        return row

    def _row(self, kind: type[Row], one: int) -> Any:
        """A row, None also for one that can not be read: it is told where it is come by."""
        try:
            return self.look.row(TABLES[kind], one)
        except msgspec.MsgspecError:
            return None

    def has(self, name: str, key: Key, one: int) -> bool:
        return bool(self._entries("name = ? AND key = ? AND id = ?", (name, encode(key), one)))

    def before(self, name: str, key: Key, one: int) -> int | None:
        where = "name = ? AND key = ? AND id < ? ORDER BY id DESC"
        return next((found for (found,) in self._entries(where, (name, encode(key), one))), None)

    def any_filed(self, name: str, key: Key) -> bool:
        return bool(self._entries("name = ? AND key = ?", (name, encode(key))))

    def _entries(self, where: str, values: tuple[Any, ...]) -> list[Any]:
        return self.look.select(f"SELECT id FROM entries WHERE {where} LIMIT 1", values)  # noqa: S608 - Literals of ours.

    def runs(self, hit: int) -> int | None:
        if self._behind is None:
            self._behind = self._count_behind()
        return None if self._behind.get(-1) else self._behind[hit]

    def _count_behind(self) -> Counter[int]:
        """Passes in progress by their hits; under -1 whether there are too many to count."""
        table, found = TABLES[TransactionRow], Counter[int]()
        cycles = [name for (name,) in self.look.select("SELECT name FROM cycles")]
        seen: set[int] = set()
        places = [("cycle = ? AND status = 'running'", (name,)) for name in cycles] + [("active = 1", ())]
        for where, values in places:
            statement = f"SELECT id, row FROM {table.name} WHERE {where} LIMIT ?"  # noqa: S608 - Literals of ours.
            for one, packed in self.look.each(statement, (*values, self._running_max + 1)):
                row = None if one in seen else _decoded(packed)
                if row is not None and is_behind(row):
                    found[row.hit] += 1
                seen.add(one)
                if len(seen) > self._running_max:
                    return Counter({-1: 1})
        return found

    def counts(self, cycle: str) -> Mapping[str, int]:
        found = Counter[str]()
        for status, count in self.look.select(
            "SELECT status, count(*) FROM transactions WHERE cycle = ? GROUP BY status", (cycle,)
        ):
            found[status] = count
        kept = "SELECT count(*) FROM hits WHERE cycle = ? AND status IN ('parked', 'collected')"
        ((found["parked"],),) = self.look.select(kept, (cycle,))
        return found

    def broken_at(self, place: Place) -> Iterator[Broken]:
        """What is wrong with one row."""
        table = next(one for one in TABLES.values() if one.name == place[0])
        columns = ", ".join((table.key, *table.columns, "row"))
        for found in self.look.select(f"SELECT {columns} FROM {table.name} WHERE {table.key} = ?", (place[1],)):  # noqa: S608 - Names of rows.py.
            yield from self.broken_row(next(kind for kind, one in TABLES.items() if one is table), found)

    def broken_row(self, kind: type[Row], found: tuple[Any, ...]) -> Iterator[Broken]:
        """What is wrong with a row as the store has it: its key, its columns and its bytes."""
        table, packed = TABLES[kind], found[-1]
        place = table.name, found[0]
        try:
            row = table.decode(packed)
        except msgspec.MsgspecError as fault:
            yield Broken(5, f"5: its row can not be read: {fault} [{table.name} {found[0]}]", place, packed)
            return
        if table.values(row) != found[:-1]:
            yield Broken(
                5, f"5: the columns beside its row say something else [{table.name} {found[0]}]", place, packed
            )
        for said in self._said(row):
            yield Broken(int(said.partition(":")[0]), said, place, packed)

    def _said(self, row: Any) -> Iterator[str]:
        match row:
            case TransactionRow():
                yield from broken_transaction(self, row, self.ahead)
            case HitRow():
                yield from broken_hit(self, row)
            case CycleRow():
                yield from broken_cycle(self, row, self.ahead)
            case _:
                return

    def broken_there(self, place: Place, packed: bytes) -> Iterator[Broken]:
        """What is wrong with one entry of an index, if it is there."""
        name = place[0].removeprefix(INDEX)
        if self._entries("name = ? AND key = ? AND id = ?", (name, packed, place[1])):
            yield from self.broken_of_entry(name, packed, int(place[1]))

    def broken_of_entry(self, name: str, packed: bytes, one: int) -> Iterator[Broken]:
        """What is wrong with an entry of an index."""
        try:
            key = _key(packed)
        except msgspec.MsgspecError as fault:
            yield Broken(5, f"5: a key of the index {name} can not be read: {fault}", (INDEX + name, one), packed)
            return
        for said in broken_entry(self, name, key, one, self.window):
            yield Broken(int(said.partition(":")[0]), said, (INDEX + name, one), packed)


def _decoded(packed: bytes) -> TransactionRow | None:
    try:
        row: TransactionRow = TABLES[TransactionRow].decode(packed)
    except msgspec.MsgspecError:
        return None
    return row


def look_through(
    seen: Looking,
    *,
    seconds: float,
    pause: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Looked:
    """Ask every row and entry, for at most so long. Blocks.

    Args:
        seen: what to look at.
        seconds: after so long the look ends, and says that it is not whole.
        pause: called after each page.
        clock: of the seconds.
    """
    until = clock() + seconds
    looked = Looked(seen.look.meta("applied"))
    for kind, found in _pieces(seen):
        looked.rows[kind] += 1
        for one in found:
            looked.add(one)
        if looked.rows.total() % PAGE_ROWS == 0:
            pause()
            if clock() > until:
                looked.whole = False
                break
    return looked


def _pieces(seen: Looking) -> Iterator[tuple[str, Iterator[Broken]]]:
    for kind in (CycleRow, *KINDS):
        for found in rows_after(seen.look, kind, None):
            yield TABLES[kind].name, seen.broken_row(kind, found)
    for name, packed, one in entries_after(seen.look, None):
        yield "entries", seen.broken_of_entry(name, packed, one)


def rows_after(look: Look, kind: type[Row], after: str | int | None, limit: int = -1) -> Iterator[tuple[Any, ...]]:
    """Keys, columns and bytes of rows, in the order of their keys, beyond one."""
    table = TABLES[kind]
    columns = ", ".join((table.key, *table.columns, "row"))
    where, values = ("1", ()) if after is None else (f"{table.key} > ?", (after,))
    return look.each(f"SELECT {columns} FROM {table.name} WHERE {where} ORDER BY {table.key} LIMIT ?", (*values, limit))  # noqa: S608 - Names of rows.py.


def entries_after(look: Look, after: Entry | None, limit: int = -1) -> Iterator[Entry]:
    """Entries of all indexes, in order, beyond one."""
    where, values = ("1", ()) if after is None else ("(name, key, id) > (?, ?, ?)", after)
    statement = f"SELECT name, key, id FROM entries WHERE {where} ORDER BY name, key, id LIMIT ?"  # noqa: S608 - Literals of ours.
    return ((name, key, one) for name, key, one in look.each(statement, (*values, limit)))


def still_broken(seen: Looking, before: Collection[Broken]) -> list[Broken]:
    """Of what an earlier look found, what is the same in this one, the rows included."""
    now: set[tuple[str, bytes]] = set()
    for place, row in {(one.place, one.row) for one in before}:
        found = seen.broken_there(place, row) if place[0].startswith(INDEX) else seen.broken_at(place)
        now.update((one.said, one.row) for one in found)
    return [one for one in before if (one.said, one.row) in now]


def windows(look: Look) -> Window:
    """For how long each webhook remembers a delivery key: of all versions, the shortest."""
    shortest: dict[tuple[str, str], int] = {}
    for row in look.rows(TABLES[DefinitionRow]):
        definition = decode_definition(row.definition)
        for name, step in definition.steps.items():
            if isinstance(step, WebhookStep) and isinstance(step.dedupe, Dedupe):
                place, length = (definition.cycle, name), parse_duration(step.dedupe.window)
                shortest[place] = min(length, shortest.get(place, length))
    return lambda cycle, step: shortest.get((cycle, step), 0)
