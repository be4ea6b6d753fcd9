"""Group commit: what arrived during one sync is the next batch, and nothing leaves before its batch is durable.

1. One batch is in flight; batches are durable in the order of their sequence numbers.
2. Only batches cross to the thread, never events: a crossing costs 40 to 130 µs.
3. What waits for durability is released in order, on the Trio thread, after the sync of its batch.
4. A failed append is final. Nothing gated is released any more, and the error ends the process.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from journal import JournalFull, Ownership

STALE_S = 0.001  # A commit that takes longer is likely to wait for the interpreter lock, not for the disk.
NUDGE_S = 60e-6  # Long enough for a waiting thread to take the lock, short against a turn.
FULL_RETRY_S = 1.0  # Between looks at a full disk.
IDLE_CONFIRM_S = 0.005  # Idle time after which the last frame is confirmed, so that rot in it can be told from a tear.
BATCH_BYTES_MAX = 8 << 20  # Of one commit, so that its latency stays bounded; a single group may be larger.

Group = Sequence[bytes]
Release = Callable[[], None]


class Appender(Protocol):
    """How a batch reaches the journal: by a thread of its own, or on the spot."""

    async def append(self, groups: Sequence[Group], at: int) -> None:
        """Returns once the batch is durable; raises what the journal raises."""
        ...

    async def confirm(self) -> None:
        """Write the idle confirm frame."""
        ...


class InlineAppender:
    """Appends on the Trio thread: deterministic, for tests and simulation."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    async def append(self, groups: Sequence[Group], at: int) -> None:
        self._ownership.append(groups, at=at)
        await trio.lowlevel.checkpoint()

    async def confirm(self) -> None:
        self._ownership.confirm()
        await trio.lowlevel.checkpoint()


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
        self.nudges = 0

    def start(self) -> None:
        """Begin to take batches; call inside Trio."""
        trio.lowlevel.add_instrument(self)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current batch."""
        trio.lowlevel.remove_instrument(self)
        self._orders.put(None)
        self._thread.join()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature.
        since = self._since
        if since and time.perf_counter() - since > STALE_S:
            self.nudges += 1
            time.sleep(NUDGE_S)

    async def append(self, groups: Sequence[Group], at: int) -> None:
        await self._order(lambda: self._ownership.append(groups, at=at))

    async def confirm(self) -> None:
        await self._order(self._ownership.confirm)

    async def _order(self, work: Callable[[], object]) -> None:
        done = trio.Event()
        failures: list[BaseException] = []
        token = trio.lowlevel.current_trio_token()

        def run() -> None:
            try:
                work()
            except BaseException as failure:  # noqa: BLE001 - Carried to the task that waits, which raises it.
                failures.append(failure)
            token.run_sync_soon(done.set)

        self._since = time.perf_counter()
        self._orders.put(run)
        with trio.CancelScope(shield=True):  # A batch in flight can not be taken back.
            await done.wait()
        self._since = 0.0
        if failures:
            raise failures[0]

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()


class Committer:
    """Collects groups of records, makes them durable, and releases what waited for them."""

    def __init__(self, appender: Appender, clock: Callable[[], int]) -> None:
        self._appender = appender
        self._clock = clock
        self._pending: list[tuple[Group, Release]] = []
        self._wake = trio.Event()
        self._dirty = False
        self.full = False  # The disk has no room: the door refuses until it has.

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
            if groups:
                await self._append(groups)
                self._dirty = True
            for _, release in batch:
                release()
            if not groups:
                await trio.lowlevel.checkpoint()

    def _take(self) -> list[tuple[Group, Release]]:
        size = 0
        for count, (records, _) in enumerate(self._pending):
            size += sum(map(len, records))
            if size > BATCH_BYTES_MAX and count:
                batch, self._pending = self._pending[:count], self._pending[count:]
                return batch
        batch, self._pending = self._pending, []
        return batch

    async def _append(self, groups: Sequence[Group]) -> None:
        while True:
            try:
                await self._appender.append(groups, self._clock())
            except JournalFull:
                self.full = True
                await trio.sleep(FULL_RETRY_S)
            else:
                self.full = False
                return

    async def _idle(self) -> None:
        self._wake = trio.Event()
        with trio.move_on_after(IDLE_CONFIRM_S if self._dirty else float("inf")):
            await self._wake.wait()
            return
        self._dirty = False
        await self._appender.confirm()
