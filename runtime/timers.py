"""Durable timers: due times are facts of the state, and here is only what wakes the process for the next ones.

1. Memory holds the timers up to a frontier, a due time and an id; what lies beyond it is in the state, and is read page
   by page as the frontier moves on. So each timer is in memory or will be read, however many are due.
2. Timers fire in the order of their due times, overdue ones first.
3. A timer that fires for something that has changed since does no harm: the core looks before it acts.
"""

import heapq
import math
from collections.abc import Callable

import trio

from protocol.inputs import HoldDue, ParkDue
from protocol.state import HitRow, TransactionRow
from runtime.clock import Clock
from runtime.store import StoredState
from runtime.store.rows import TABLES, parked_until

Due = HoldDue | ParkDue
Timed = TransactionRow | HitRow
TIMED = (TransactionRow, HitRow)
Place = tuple[int, int]
"""A due time and the id of its row; ids of holds and parked hits never meet."""

HORIZON_NS = 120 * 1_000_000_000  # How far ahead the frontier is at most.
PAGE_ROWS = 1_000  # Read at once, in some 10 ms of the loop; the rest follows as these have fired.
BACKLOG_INPUTS_MAX = 1_000  # Inputs that wait, past which overdue timers do too: a restart serves its callers as well.
BACKLOG_LOOK_S = 0.01  # Between looks at them.
ID_MAX = 2**63 - 1  # Of SQLite's integers.


class Timers:
    """Posts each due input once its time has come.

    A wall clock that is set forward, or a machine that slept, is noticed within half of `HORIZON_NS`.

    Args:
        state: has the due times.
        clock: wall time.
        post: takes a due input.
        backlog: how many inputs wait for their turn.
        page_rows: how many rows are read at once.
    """

    def __init__(
        self,
        state: StoredState,
        clock: Clock,
        post: Callable[[Due], None],
        *,
        backlog: Callable[[], int] = lambda: 0,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._state = state
        self._clock = clock
        self._post = post
        self._backlog = backlog
        self._page_rows = page_rows
        self._heap: list[tuple[Place, Due]] = []
        self._waiting: set[Due] = set()  # Those in the heap: what was read may be armed as well.
        self._frontier: Place = (0, ID_MAX)
        self._wake = trio.Event()

    @property
    def loaded(self) -> int:
        """Timers in memory."""
        return len(self._heap)

    def arm(self, due: Due) -> None:
        """Note a timer; one beyond the frontier is left to the state."""
        if due.at <= self._frontier[0]:
            self._push(due)
            if self._heap[0][1] == due:
                self._wake.set()

    def rearm(self) -> None:
        """Read all near timers again, overdue ones first, as after a start of a cycle or of the process."""
        self._heap.clear()
        self._waiting.clear()
        self._frontier = (0, ID_MAX)
        self._wake.set()

    async def run(self) -> None:
        """Post due inputs until cancelled."""
        while True:
            now = self._clock()
            if self._reads_at() <= now:
                self._read_on(now + HORIZON_NS)
            while self._heap and self._heap[0][0][0] <= now and self._backlog() < BACKLOG_INPUTS_MAX:
                _, due = heapq.heappop(self._heap)
                self._waiting.discard(due)
                self._post(due)
            self._wake = trio.Event()
            with trio.move_on_after(self._pause_s(now)):
                await self._wake.wait()
            await trio.lowlevel.checkpoint()

    def _reads_at(self) -> float:
        """When the next page is to be read: in time, and not before most of what was read has fired."""
        return self._frontier[0] - HORIZON_NS // 2 if len(self._heap) < self._page_rows else math.inf

    def _pause_s(self, now: int) -> float:
        """How long nothing is to be done, new timers aside."""
        reads_at = self._reads_at()
        if reads_at <= now:
            return 0
        due = self._heap[0][0][0] if self._heap else math.inf
        return BACKLOG_LOOK_S if due <= now else max(0, min(reads_at, due) - self._clock()) / 1e9

    def _push(self, due: Due) -> None:
        if due not in self._waiting:
            self._waiting.add(due)
            heapq.heappush(self._heap, (_place(due), due))

    def _read_on(self, until: int) -> None:
        """Move the frontier on by a page, or to `until` if less is there."""
        after = self._frontier
        page, frontier = self._page(after, (until, ID_MAX))
        newer = {row.id: row for kind in TIMED for row in self._state.changed_rows(kind)}
        page = [row for row in page if row.id not in newer]
        for due in map(_due, (*page, *newer.values())):
            if after < _place(due) <= frontier:
                self._push(due)
        self._frontier = frontier

    def _page(self, after: Place, until: Place) -> tuple[list[Timed], Place]:
        """Rows of the file that are due after a place, and how far they are all there."""
        near = "due > 0 AND (due, id) > (?, ?) AND due <= ? ORDER BY due, id LIMIT ?"  # `due > 0` as the index has it.
        found: list[Timed] = []
        frontier = until
        for kind in TIMED:
            rows = list(self._state.database.rows(TABLES[kind], near, (*after, until[0], self._page_rows)))
            if len(rows) == self._page_rows:
                frontier = min(frontier, _place(_due(rows[-1])))
            found += rows
        return found, frontier


def _due(row: Timed) -> Due:
    if isinstance(row, HitRow):
        return ParkDue(row.cycle, parked_until(row), row.id)
    return HoldDue(row.cycle, row.until, row.id)


def _place(due: Due) -> Place:
    return due.at, due.transaction if isinstance(due, HoldDue) else due.hit
