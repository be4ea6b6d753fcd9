"""Durable timers: due times are facts of the state, and here is only what wakes the process for the next ones.

Memory holds the timers of the near future; later ones stay in the store and are read when their time comes near.
A timer that fires for something that has changed since does no harm: the core looks before it acts.
"""

import heapq
from collections.abc import Callable, Iterable

import trio

from protocol.inputs import HoldDue, ParkDue
from protocol.state import HitRow, TransactionRow
from runtime.clock import Clock
from runtime.store import StoredState
from runtime.store.rows import TABLES, parked_until

Due = HoldDue | ParkDue
HORIZON_NS = 120 * 1_000_000_000  # How far ahead timers are in memory: well beyond the lag of the store.
LOADED_MAX = 50_000  # Timers read at once; overdue ones beyond it follow as these have fired.


class Timers:
    """Posts each due input once its time has come."""

    def __init__(self, state: StoredState, clock: Clock, post: Callable[[Due], None]) -> None:
        self._state = state
        self._clock = clock
        self._post = post
        self._heap: list[tuple[int, int, Due]] = []
        self._armed = 0
        self._horizon = 0
        self._wake = trio.Event()

    def arm(self, due: Due) -> None:
        """Note a timer; one beyond the horizon is left to the store."""
        if due.at <= self._horizon:
            self._armed += 1
            heapq.heappush(self._heap, (due.at, self._armed, due))
            self._wake.set()

    def rearm(self) -> None:
        """Read all near timers again, overdue ones first, as after a start of a cycle or of the process."""
        self._heap.clear()
        self._load(0)
        self._wake.set()

    def _load(self, after: int) -> None:
        self._horizon = self._clock() + HORIZON_NS
        for due in self._between(after, self._horizon):
            self.arm(due)

    def _between(self, after: int, until: int) -> Iterable[Due]:
        near = "due > ? AND due <= ? ORDER BY due LIMIT ?"
        span = (after, until, LOADED_MAX)
        database = self._state.database
        seen: set[int] = set()
        for row in self._state.changed_rows(TransactionRow):
            seen.add(row.id)
            if after < row.until <= until:
                yield HoldDue(row.cycle, row.until, row.id)
        for row in database.rows(TABLES[TransactionRow], near, span):
            if row.id not in seen:
                yield HoldDue(row.cycle, row.until, row.id)
        for row in self._state.changed_rows(HitRow):
            seen.add(row.id)
            if after < parked_until(row) <= until:
                yield ParkDue(row.cycle, row.until, row.id)
        for row in database.rows(TABLES[HitRow], near, span):
            if row.id not in seen:
                yield ParkDue(row.cycle, row.until, row.id)

    async def run(self) -> None:
        """Post due inputs until cancelled."""
        self.rearm()
        while True:
            now = self._clock()
            while self._heap and self._heap[0][0] <= now:
                _, _, due = heapq.heappop(self._heap)
                self._post(due)
            if self._horizon - now < HORIZON_NS // 2:
                self._load(self._horizon)
            wait = HORIZON_NS // 2 if not self._heap else self._heap[0][0] - self._clock()
            self._wake = trio.Event()
            with trio.move_on_after(max(0, min(wait, HORIZON_NS // 2)) / 1e9):
                await self._wake.wait()
            await trio.lowlevel.checkpoint()
