"""Group commit: what arrived during one sync is the next batch, and nothing leaves before its batch is durable.

1. One batch is in flight; batches are durable in the order of their sequence numbers.
2. Only batches cross to the thread, never events: a crossing costs 40 to 130 µs.
3. What waits for durability is released in order, on the Trio thread, after the sync of its batch.
4. A failed append is final. Nothing gated is released any more, and the error ends the process.
5. A full disk is no failure. The journal holds room back, in which work in progress is still recorded while the door
   refuses what is new; what does not fit even there waits. It is over once the next segment has its room.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import structlog
import trio

from journal import JournalFull, Ownership
from runtime.counters import Histogram

STALE_S = 0.001  # A commit that takes longer is likely to wait for the interpreter lock, not for the disk.
NUDGE_S = 60e-6  # Long enough for a waiting thread to take the lock, short against a turn.
FULL_RETRY_S = 1.0  # Between looks at a full disk.
IDLE_CONFIRM_S = 0.005  # Idle time after which the last frame is confirmed, so that rot in it can be told from a tear.
BATCH_BYTES_MAX = 8 << 20  # Of one commit, so that its latency stays bounded; a single group may be larger.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.committer")

Group = Sequence[bytes]
Release = Callable[[], None]
Done = TypeVar("Done")


class Appender(Protocol):
    """How a batch reaches the journal: by a thread of its own, or on the spot."""

    async def append(self, groups: Sequence[Group], at: int, *, drain: bool = False) -> None:
        """Returns once the batch is durable; raises what the journal raises.

        `drain` gives it the room that is held back for finishing what is in progress.
        """
        ...

    async def confirm(self) -> None:
        """Write the idle confirm frame."""
        ...

    async def reserve(self) -> bool:
        """Take room for the next segment; False while the disk is full."""
        ...


class InlineAppender:
    """Appends on the Trio thread: deterministic, for tests and simulation."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    async def append(self, groups: Sequence[Group], at: int, *, drain: bool = False) -> None:
        self._ownership.append(groups, at=at, drain=drain)
        await trio.lowlevel.cancel_shielded_checkpoint()  # It is durable: whoever waits for that is still told.

    async def confirm(self) -> None:
        self._ownership.confirm()
        await trio.lowlevel.checkpoint()

    async def reserve(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self._ownership.reserve()


class ThreadAppender(trio.abc.Instrument):
    """Appends in a thread of its own, and lets that thread have the interpreter lock when the loop is busy.

    A busy loop frees the lock for a microsecond at a time, in which the thread loses the race for it, for seconds.
    So before the loop waits for I/O while a commit is overdue, it sleeps for a moment that is long enough.
    """

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)
        self._since = 0.0  # When the commit in flight began, 0 for none.
        self._busy = threading.Lock()  # Held from the order to the end of the commit in flight.
        self.nudges = 0

    def start(self) -> None:
        """Begin to take batches; call inside Trio."""
        trio.lowlevel.add_instrument(self)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current batch, if it was started."""
        if self._thread.ident is None:
            return
        trio.lowlevel.remove_instrument(self)
        self._orders.put(None)
        self._thread.join()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature.
        since = self._since
        if since and time.perf_counter() - since > STALE_S:
            self.nudges += 1
            if self._busy.acquire(timeout=NUDGE_S):  # Sleeps, but no longer than the commit takes.
                self._busy.release()

    async def append(self, groups: Sequence[Group], at: int, *, drain: bool = False) -> None:
        await self._order(lambda: self._ownership.append(groups, at=at, drain=drain))

    async def confirm(self) -> None:
        await self._order(self._ownership.confirm)

    async def reserve(self) -> bool:
        return await self._order(self._ownership.reserve)

    async def _order(self, work: Callable[[], Done]) -> Done:
        done = trio.Event()
        results: list[Done] = []
        failures: list[BaseException] = []
        token = trio.lowlevel.current_trio_token()

        def run() -> None:
            try:
                results.append(work())
            except BaseException as failure:  # noqa: BLE001 - Carried to the task that waits, which raises it.
                failures.append(failure)
            self._busy.release()
            token.run_sync_soon(done.set)

        self._since = time.perf_counter()
        self._busy.acquire()  # Free: orders come one at a time.
        self._orders.put(run)
        with trio.CancelScope(shield=True):  # A batch in flight can not be taken back.
            await done.wait()
        self._since = 0.0
        if failures:
            raise failures[0]
        return results[0]

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()


class Committer:
    """Collects groups of records, makes them durable, and releases what waited for them.

    Args:
        appender: how a batch reaches the journal.
        clock: wall time.
        batch_bytes_max: of one batch of several groups; a commit takes at most half a segment.

    Attributes:
        full: the disk has no room, and the door refuses what is new until it has.
        latency: how long commits took.
    """

    def __init__(self, appender: Appender, clock: Callable[[], int], batch_bytes_max: int = BATCH_BYTES_MAX) -> None:
        self.full = False
        self.latency = Histogram()
        self._appender = appender
        self._clock = clock
        self._pending: list[tuple[Group, Release]] = []
        self._wake = trio.Event()
        self._dirty = False
        self._batch_bytes_max = batch_bytes_max
        self._batch_bytes = batch_bytes_max  # Less while what is left of the disk takes no whole batch.
        self._looked_at = 0.0  # When a full disk was last looked at.

    @property
    def backlog(self) -> int:
        """Groups that are not yet in flight."""
        return len(self._pending)

    def submit(self, records: Group, release: Release) -> None:
        """Queue one atomic group; `release` is called once it, and all before it, are durable.

        A group without records only waits for what was submitted before it.
        """
        self._pending.append((records, release))
        self._wake.set()

    async def flushed(self) -> None:
        """Wait until everything submitted so far is durable."""
        done = trio.Event()
        self.submit((), done.set)
        await done.wait()

    async def run(self) -> None:
        """Commit batches until cancelled; raises `JournalFailed` or `Fenced` when the journal is lost to us."""
        while True:
            if not self._pending:
                await self._idle()
                continue
            batch = self._take()
            groups = [records for records, _ in batch if records]
            began = time.perf_counter()
            if groups and not await self._append(groups):
                self._pending[:0] = batch
                if len(groups) == 1:
                    await trio.sleep(FULL_RETRY_S)
                self._batch_bytes = sum(sum(map(len, records)) for records in groups) // 2
                continue
            self._batch_bytes = self._batch_bytes_max
            if groups:
                self.latency.observe(time.perf_counter() - began)
            for _, release in batch:
                release()
            if not groups:
                await trio.lowlevel.checkpoint()

    def _take(self) -> list[tuple[Group, Release]]:
        size = 0
        for count, (records, _) in enumerate(self._pending):
            size += sum(map(len, records))
            if size > self._batch_bytes and count:
                batch, self._pending = self._pending[:count], self._pending[count:]
                return batch
        batch, self._pending = self._pending, []
        return batch

    async def _append(self, groups: Sequence[Group]) -> bool:
        """Whether the groups are durable now; False when not even the room that is held back takes them."""
        await self._look_again()
        if not self.full:
            try:
                await self._appender.append(groups, self._clock())
            except JournalFull as fault:
                self._note_full(fault)
            else:
                self._dirty = True
                return True
        try:
            await self._appender.append(groups, self._clock(), drain=True)
        except JournalFull:
            return False
        self._dirty = True
        return True

    def _note_full(self, fault: JournalFull) -> None:
        self.full = True
        self._looked_at = trio.current_time()
        log.error("the disk is full: requests are refused until it has room", reason=str(fault))

    async def _look_again(self) -> None:
        """See whether a full disk has room again, if it is time to."""
        if self.full and trio.current_time() >= self._looked_at + FULL_RETRY_S:
            self._looked_at = trio.current_time()
            if await self._appender.reserve():
                self.full = False
                log.info("the disk has room again")

    async def _idle(self) -> None:
        self._wake = trio.Event()
        with trio.move_on_after(IDLE_CONFIRM_S if self._dirty else FULL_RETRY_S if self.full else float("inf")):
            await self._wake.wait()
            return
        if self._dirty:
            self._dirty = False
            await self._appender.confirm()
        else:
            await self._look_again()
