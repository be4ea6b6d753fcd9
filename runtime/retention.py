"""Retention as a task: offers what is old to the core, and drops the segments of the journal that nothing needs.

1. One input at a time, of at most `BATCH` rows, and then a rest: turns of requests come first, however much is old.
2. A segment goes when all that was kept of it is in a snapshot: nothing that is kept with its data began in it or
   before it, and the state after it was written beside the journal, read back and verified.
3. Whatever fails here fails no request: it is told in the log and tried again, unless the journal itself is lost.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import TypeVar

import structlog
import trio

from journal import LOCAL_PARTITION, JournalDamaged, JournalFull, JournalUnreadable, Log
from protocol.ages import Ages, ages_of
from protocol.ages import Retention as Said
from protocol.inputs import Receipt, Retain
from runtime.blocking import Blocking, in_thread
from runtime.engine import Engine
from runtime.snapshots import save_snapshot
from runtime.store import Look, StoreError
from runtime.store.aging import START, Kind, Stage, aged, floor, ownerless, stages

BATCH = 100  # Rows of one turn: some 3 ms of the loop.
REST = 2  # Rests are this many times as long as the turn before took, waiting for it included.
ROUND_S_MAX = 60.0  # Between two rounds: what is kept for days is not missed for a minute.
ROUND_S_MIN = 0.2
PAUSE_S = 0.005  # Between the blocks of a snapshot, each of which takes the interpreter lock for about as long.
SNAPSHOT_REST = 20  # Snapshots rest this many times as long as the one before took, however much there is to drop.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.retention")
_Found = TypeVar("_Found")


class Retention:
    """Keeps store and journal to the ages that cycles and the server say.

    Args:
        engine: whose state it is.
        journal: whose segments are dropped.
        said: the ages of the server, for what a cycle does not say.

    Attributes:
        blocking: where the store is looked through, and snapshots are written.
        pause: called between the blocks of a snapshot.
    """

    def __init__(self, engine: Engine, journal: Log, said: Said) -> None:
        self._engine = engine
        self._journal = journal
        self._said = said
        self.blocking: Blocking = in_thread
        self.pause: Callable[[], None] = _pause
        self._floor = 0
        self._saves_at = -math.inf

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            await trio.sleep(self._pause_s())
            try:
                await self.round()
            except (JournalFull, StoreError) as fault:
                log.warning("retention waits for room", reason=str(fault))
            except (JournalDamaged, JournalUnreadable) as fault:
                self._saves_at = -math.inf  # A fresh snapshot takes the place of a damaged one.
                log.error("no segment is dropped", reason=str(fault))  # noqa: TRY400 - Of the disk, no defect.

    async def round(self) -> None:
        """Look at everything once."""
        cut = 0
        for cycle in self._engine.state.cycles():
            ages = self._ages(cycle.name)
            for stage in stages(ages):
                cut += await self._stage(cycle.name, ages, stage)
        cut += await self._ownerless("hits")
        cut += await self._ownerless("incidents")
        if cut:
            log.info("retention", rows=cut)
        await self.drop_segments()

    async def drop_segments(self) -> None:
        """Drop what nothing needs of the journal, once a snapshot has the state after it."""
        await self._engine.checkpointed()
        self._floor = await self._look(partial(floor, known=self._floor))
        if not self._ends_before(self._floor):
            return
        began = trio.current_time()
        newest = next(iter(self._journal.snapshots(LOCAL_PARTITION)), -1)
        if began >= self._saves_at and newest < self._engine.next_seq - 1:  # Else it would only write the same again.
            seq = await self.blocking(save_snapshot, self._journal, self._engine.state.database, self.pause)
            self._saves_at = trio.current_time() + SNAPSHOT_REST * (trio.current_time() - began)
            log.info("snapshot", seq=seq)
        older = min(self._journal.snapshots(LOCAL_PARTITION), default=-1)
        if not self._ends_before(min(self._floor, older + 1)):
            return  # Trimming reads both snapshots again, for nothing.
        dropped = await self.blocking(self._journal.trim, LOCAL_PARTITION, self._floor - 1)
        if dropped:
            log.info("segments dropped", segments=dropped, first=self._journal.first_seq)

    def _ends_before(self, seq: int) -> bool:
        """Whether a whole segment lies before a sequence number."""
        return any(info.sealed and info.next_seq <= seq for info in self._journal.segments())

    def _ages(self, cycle: str) -> Ages:
        state = self._engine.state
        return ages_of(state.program(state.cycle(cycle).definition_hash).definition.settings.retention, self._said)

    def _pause_s(self) -> float:
        """Half of the shortest age, so that what is to go soon goes soon."""
        cycles = self._engine.state.cycles()
        ages = [stage.age for cycle in cycles for stage in stages(self._ages(cycle.name))]
        return max(ROUND_S_MIN, min(ROUND_S_MAX, min(ages, default=0) / 2e9)) if ages else ROUND_S_MAX

    async def _stage(self, cycle: str, ages: Ages, stage: Stage) -> int:
        cut, after = 0, START
        at = self._engine.clock()
        find = partial(aged, cycle=cycle, stage=stage, at=at, limit=BATCH)
        while page := await self._look(partial(find, after=after)):
            cut += await self._offer(Retain(cycle, at, ages, transactions=tuple(one for _, one in page)))
            after = page[-1]
        if cut:
            await self._engine.checkpointed()  # What goes with these is found in the store.
        return cut

    async def _ownerless(self, kind: Kind) -> int:
        cut, after = 0, 0
        while page := await self._look(partial(ownerless, kind=kind, after=after, limit=BATCH)):
            for cycle, ids in _by_cycle(page):
                cut += await self._offer(Retain(cycle, self._engine.clock(), self._ages(cycle), **{kind: ids}))
            after = page[-1][0]
        return cut

    async def _offer(self, given: Retain) -> int:
        """Put rows to the core, and rest; how many were dropped."""
        began = trio.current_time()
        outcome = await self._engine.order(given).decided()
        await trio.sleep(REST * (trio.current_time() - began))
        assert isinstance(outcome.verdict, Receipt), "retention is answered with a receipt"
        return outcome.verdict.cut

    async def _look(self, find: Callable[[Look], _Found]) -> _Found:
        def look() -> _Found:
            with self._engine.state.database.aside() as found:
                return find(found)

        return await self.blocking(look)


def _by_cycle(page: Iterable[tuple[int, str]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    ordered = sorted(page, key=lambda one: (one[1], one[0]))
    return ((cycle, tuple(one for one, _ in rows)) for cycle, rows in groupby(ordered, key=lambda one: one[1]))


def _pause() -> None:
    """Let turns be taken; a server that ends does not wait for its snapshot."""
    trio.from_thread.check_cancelled()
    time.sleep(PAUSE_S)
