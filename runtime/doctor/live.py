"""The doctor of a running server: looks at the store beside the loop, and believes only what a second look sees too.

1. A look reads one checkpoint over a connection of its own, in a thread; the loop only says what waits in the mailbox.
2. Between two turns that belong together a row may look stuck. What is told is the same in two looks, the row
   included, with nothing for it in the mailbox in between: a turn that was on its way would have changed it.
3. `Scrub` looks at every row in turn, a few every few seconds, while anything changes; what it finds is counted.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

import structlog
import trio

from protocol.inputs import Continue, Input, Recover
from protocol.invariants import Window
from protocol.state import CycleRow, DefinitionRow, HitRow, TransactionRow
from runtime.blocking import Blocking, in_thread
from runtime.doctor.rules import (
    Broken,
    Looked,
    Looking,
    entries_after,
    look_through,
    rows_after,
    still_broken,
    windows,
)
from runtime.engine import Engine
from runtime.store import Database, Look, StoreError
from runtime.store.look import Entry
from runtime.store.rows import TABLES

CONFIRM_MAX = 200  # Rows that are looked at again; where more is wrong, that much says enough.
STORED_S = 5.0  # For the store to get what was decided; a full disk keeps it waiting.
TOLD_MAX = 10_000  # Broken rows that are remembered as counted.
PAUSE_S = 0.001  # Between pages, so that turns are taken meanwhile.
ROUND_S = 5.0  # Between two rounds of the scrub.
ROUND_ROWS = 200  # Transactions, as many hits, and twice as many entries: some 4 ms of a thread, 0.1 % of one core.
SCRUB_RUNNING_MAX = 500  # With more passes in progress, only `doctor` counts what runs each hit.
COUNT_S = 60.0  # Between two looks at what cycles count, which SQLite walks an index for.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.doctor")


class Busy(Exception):
    """Another look is under way."""


def ahead_of(waiting: Iterable[Input]) -> set[int]:
    """The transactions for which an input waits, that goes on with them."""
    found: set[int] = set()
    for given in waiting:
        match given:
            case Continue(transaction=one):
                found.add(one)
            case Recover(transactions=several):
                found.update(several)
            case _:
                pass
    return found


class Doctor:
    """Looks at the state of a running engine.

    Attributes:
        blocking: where the store is read.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.blocking: Blocking = in_thread
        self._busy = False
        self._told: set[tuple[int, str]] = set()

    async def look(self, seconds: float) -> Looked:
        """Ask every row, for at most so long.

        Raises:
            Busy: another look is under way.
        """
        if self._busy:
            raise Busy
        self._busy = True
        try:
            await self._stored()
            looked = await self.blocking(_whole, self.engine.state.database, seconds)
            confirmed = await self.confirm(looked.broken)
        finally:
            self._busy = False
        gone = Counter(one.rule for one in looked.broken) - Counter(one.rule for one in confirmed)
        looked.broken, looked.counts = confirmed, looked.counts - gone
        return looked

    async def confirm(self, found: Collection[Broken]) -> list[Broken]:
        """Of what one look found, what another one sees as well; counted and told in the log, each once."""
        if not found:
            return []
        ahead = ahead_of(self.engine.waiting_inputs)
        await self._stored()
        still = await self.blocking(_again, self.engine.state.database, list(found)[:CONFIRM_MAX], ahead)
        for one in still:
            name = one.rule, f"{one.place}"
            if name not in self._told and len(self._told) < TOLD_MAX:
                self._told.add(name)
                self.engine.counters.broken[one.rule] += 1
                log.error("an invariant is broken", rule=one.rule, found=one.said)
        return still

    async def _stored(self) -> None:
        with trio.move_on_after(STORED_S):
            await self.engine.checkpointed()


def _pause() -> None:
    trio.from_thread.check_cancelled()
    time.sleep(PAUSE_S)


def _whole(database: Database, seconds: float) -> Looked:
    with database.aside() as look:
        return look_through(Looking(look, ()), seconds=seconds, pause=_pause)


def _again(database: Database, found: list[Broken], ahead: Collection[int]) -> list[Broken]:
    with database.aside() as look:
        return still_broken(Looking(look, ahead), found)


class Scrub:
    """Looks at a few rows at a time, through all of them, for as long as anything changes.

    Attributes:
        done: the last event of the state of which every row was looked at.
    """

    def __init__(self, doctor: Doctor, clock: Callable[[], float] = trio.current_time) -> None:
        self._doctor = doctor
        self._clock = clock
        self._transaction = self._hit = -1
        self._entry: Entry | None = None
        self._begun = -1  # The last event of the state when the walk through all rows began.
        self.done = -1
        self._counts_at = 0.0
        self._versions = -1
        self._window: Window = lambda *_: 0

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            await trio.sleep(ROUND_S)
            if self._doctor.engine.next_seq - 1 > self.done:
                try:
                    await self.round()
                except (StoreError, sqlite3.Error) as fault:
                    log.warning("the scrub waits for the store", reason=str(fault))

    async def round(self) -> None:
        """Look at the next rows."""
        counts = self._clock() >= self._counts_at
        if counts:
            self._counts_at = self._clock() + COUNT_S
        found = await self._doctor.blocking(self._look, counts)
        await self._doctor.confirm(found)

    def _look(self, counts: bool) -> list[Broken]:
        with self._doctor.engine.state.database.aside() as look:
            return list(self._broken(look, counts))

    def _broken(self, look: Look, counts: bool) -> Iterable[Broken]:
        seen = Looking(look, (), window=self._windows(look), running_max=SCRUB_RUNNING_MAX)
        if self._begun < 0:
            self._begun = look.meta("applied")
        if counts:
            for found in rows_after(look, CycleRow, None):
                yield from seen.broken_row(CycleRow, found)
        last = self._transaction
        for found in rows_after(look, TransactionRow, last, ROUND_ROWS):
            self._transaction = found[0]
            yield from seen.broken_row(TransactionRow, found)
        last_hit = self._hit
        for found in rows_after(look, HitRow, last_hit, ROUND_ROWS):
            self._hit = found[0]
            yield from seen.broken_row(HitRow, found)
        last_entry = self._entry
        for entry in entries_after(look, last_entry, 2 * ROUND_ROWS):
            self._entry = entry
            yield from seen.broken_of_entry(*entry)
        if (last, last_hit, last_entry) == (self._transaction, self._hit, self._entry):
            self.done, self._begun = self._begun, -1  # All was looked at; what changed since is for the next walk.
            self._transaction = self._hit = -1
            self._entry = None

    def _windows(self, look: Look) -> Window:
        """For how long delivery keys are remembered, read again when there is another version."""
        ((versions,),) = look.select(f"SELECT count(*) FROM {TABLES[DefinitionRow].name}")  # noqa: S608 - A name of rows.py.
        if versions != self._versions:
            self._versions, self._window = versions, windows(look)
        return self._window
