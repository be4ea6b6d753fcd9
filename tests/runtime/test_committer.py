"""Group commit (invariant 1: nothing leaves before it is durable), by both appenders over the simulated disk.

Given, when and then are those of the journal's tests; what is released stands for what would leave the process.
"""

import errno
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import pytest
import trio
import trio.testing

from journal import LOCAL_PARTITION, JournalFailed, JournalOptions, LocalLog
from runtime.clock import trio_clock
from runtime.committer import FULL_RETRY_S, Appender, Committer, Group, InlineAppender, ThreadAppender
from tests.journal.disk import Disk, PowerLossError
from tests.journal.stories import SMALL, group, held, open_on

STEP_S = 0.25
START = 1_700_000_000 * 1_000_000_000
WIDE = JournalOptions(segment_bytes=256 * 1024)


class Watched:
    """An appender, and whether it is at work: virtual time must not pass a thread by."""

    def __init__(self, inner: Appender) -> None:
        self.busy = 0
        self._inner = inner

    async def append(self, groups: Sequence[Group], at: int, *, drain: bool = False) -> None:
        with self._working():
            await self._inner.append(groups, at, drain=drain)

    async def confirm(self) -> None:
        with self._working():
            await self._inner.confirm()

    async def reserve(self) -> bool:
        with self._working():
            return await self._inner.reserve()

    @contextmanager
    def _working(self) -> Generator[None]:
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1


class Rig:
    """A committer over a journal on a simulated disk."""

    def __init__(self, disk: Disk, log: LocalLog, appender: Appender) -> None:
        self.disk = disk
        self.log = log
        self.appender = Watched(appender)
        self.committer = Committer(self.appender, trio_clock(START))
        self.released: list[object] = []
        self.durable_when_released: list[int] = []

    def submit(self, *values: object) -> None:
        """Submit a group whose release is noted under its first value."""

        def release() -> None:
            self.released.append(values[0])
            self.durable_when_released.append(self.log.next_seq)

        self.committer.submit(group(*values), release)

    async def pass_time(self, clock: trio.testing.MockClock, seconds: float) -> None:
        """Let virtual time pass in small steps, and whatever each of them brings about."""
        for _ in range(round(seconds / STEP_S)):
            clock.jump(STEP_S)
            await trio.testing.wait_all_tasks_blocked()
            while self.appender.busy:
                await trio.testing.wait_all_tasks_blocked(0.0005)

    @property
    def commits(self) -> int:
        """Commits so far."""
        return self.log.stats().commits


@pytest.fixture(params=["inline", "thread"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each appender."""
    return str(request.param)


@asynccontextmanager
async def rigged(kind: str, options: JournalOptions = WIDE) -> AsyncGenerator[Rig]:
    """A committer that is not running yet; the journal is closed behind."""
    disk = Disk()
    log = open_on(disk, options)
    owner = log.own(LOCAL_PARTITION)
    if kind == "inline":
        yield Rig(disk, log, InlineAppender(owner))
        return
    appender = ThreadAppender(owner)
    appender.start()
    try:
        yield Rig(disk, log, appender)
    finally:
        appender.stop()


async def test_4_1_what_is_submitted_is_durable_and_released_in_order(kind: str) -> None:
    """Given groups submitted before and while the committer runs, then journal and releases have that one order."""
    async with rigged(kind) as rig, trio.open_nursery() as nursery:
        for number in range(50):
            rig.submit(number, "x")
        nursery.start_soon(rig.committer.run)
        for number in range(50, 100):
            rig.submit(number, "x")
            if number % 7 == 0:
                await rig.committer.flushed()
        await rig.committer.flushed()
        assert rig.released == list(range(100))
        assert [value for value in held(rig.log) if value != "x"] == list(range(100))
        assert all(durable >= 2 * (at + 1) for at, durable in enumerate(rig.durable_when_released))
        nursery.cancel_scope.cancel()


async def test_what_arrives_during_a_commit_is_the_next_batch(kind: str, mock_clock: trio.testing.MockClock) -> None:
    """Given a hundred groups at once, then one commit has them; what their releases submit is one more."""
    async with rigged(kind) as rig, trio.open_nursery() as nursery:
        for number in range(100):
            rig.committer.submit(group(number), partial(rig.submit, number))
        nursery.start_soon(rig.committer.run)
        await rig.pass_time(mock_clock, 1)
        assert rig.released == list(range(100))
        assert rig.commits == 2
        nursery.cancel_scope.cancel()


async def test_a_batch_is_bounded_in_bytes(kind: str) -> None:
    """Given more than a batch may have, then several commits take it, and a larger group goes alone."""
    async with rigged(kind) as rig, trio.open_nursery() as nursery:
        rig.committer = Committer(rig.appender, trio_clock(START), 1000)
        for number in range(10):
            rig.submit(number, "x" * 400)
        rig.submit("large", "x" * 3000)
        nursery.start_soon(rig.committer.run)
        await rig.committer.flushed()
        assert rig.commits == 6
        assert rig.released == [*range(10), "large"]
        nursery.cancel_scope.cancel()


async def test_waiting_for_what_was_submitted_writes_nothing(kind: str) -> None:
    """An empty group is a place in the order, not a record."""
    async with rigged(kind) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.committer.run)
        await rig.committer.flushed()
        await rig.committer.flushed()
        assert rig.commits == 0
        nursery.cancel_scope.cancel()


async def test_the_last_commit_is_confirmed_once_when_idle(kind: str, mock_clock: trio.testing.MockClock) -> None:
    """So that rot in it is told from a tear; an idle journal is not written to again."""
    async with rigged(kind) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.committer.run)
        rig.submit(1)
        await rig.committer.flushed()
        commits = rig.disk.log.count("write_durable")
        assert rig.disk.log[-1] == "write_durable", "not while something may follow"
        await rig.pass_time(mock_clock, 10)
        assert rig.disk.log[-1] == "write"
        assert rig.disk.log.count("write_durable") == commits
        length = len(rig.disk.log)
        await rig.pass_time(mock_clock, 10)
        assert len(rig.disk.log) == length
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_a_failed_write_is_final(kind: str, code: int) -> None:
    """Given a write that fails, then the error ends the run, nothing of it or after it is released, ever."""
    async with rigged(kind) as rig:
        rig.disk.every["write_durable"] = code
        rig.submit(1)
        rig.submit(2)
        with pytest.raises(JournalFailed):
            await rig.committer.run()
        rig.disk.every.clear()
        rig.submit(3)
        with pytest.raises(JournalFailed):
            await rig.committer.run()
        assert rig.released == []
        assert not rig.committer.full


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
async def test_a_group_survives_a_power_loss_whole_or_not_at_all(kind: str, kept: float) -> None:
    """Given the power fails during a commit, then what was released is there, and no group is halved."""
    async with rigged(kind) as rig:
        for number in range(4):
            rig.submit(number, "x" * 700, number)
        rig.disk.plan[len(rig.disk.log)] = "power"
        with pytest.raises(PowerLossError):
            await rig.committer.run()
        assert rig.released == []
        turn = iter(range(10_000))
        found = rig.disk.power_loss(lambda: (next(turn) % 10) / 10 < kept)
    with open_on(found, WIDE) as log:
        values = held(log)
    groups = [values[at : at + 3] for at in range(0, len(values), 3)]
    assert groups == [[number, "x" * 700, number] for number in range(len(groups))]


async def test_a_full_disk_still_takes_what_is_in_progress_and_ends_by_itself(
    kind: str, mock_clock: trio.testing.MockClock
) -> None:
    """Given no space for the next segment, then work is recorded in the room held back, the rest when space returns."""
    async with rigged(kind) as rig, trio.open_nursery() as nursery:
        rig.disk.free = 0
        nursery.start_soon(rig.committer.run)
        number = 0
        while not rig.committer.full:
            rig.submit(number, "x" * 300)
            await rig.committer.flushed()
            number += 1
        assert rig.released == list(range(number)), "the one that met the end was recorded all the same"
        for later in range(number, number + 200):
            rig.submit(later, "x" * 300)
        await rig.pass_time(mock_clock, 10 * FULL_RETRY_S)
        recorded = len(rig.released)
        assert number < recorded < number + 200, "all of the room is used, group by group"
        assert rig.committer.full
        assert held(rig.log)[::2] == rig.released == list(range(recorded))
        rig.disk.free = 10 * WIDE.segment_bytes
        await rig.pass_time(mock_clock, 3 * FULL_RETRY_S)
        assert rig.released == list(range(number + 200))
        assert not rig.committer.full
        assert held(rig.log)[::2] == rig.released
        nursery.cancel_scope.cancel()


async def test_refusal_ends_without_any_traffic(kind: str, mock_clock: trio.testing.MockClock) -> None:
    """Given a full disk and a door that refuses, so that nothing is submitted, then space is noticed in seconds."""
    async with rigged(kind, SMALL) as rig, trio.open_nursery() as nursery:
        rig.disk.free = 0
        nursery.start_soon(rig.committer.run)
        while not rig.committer.full:
            rig.submit("x" * 300)
            await rig.committer.flushed()
        await rig.pass_time(mock_clock, 10)
        assert rig.committer.full
        rig.disk.free = 10 * SMALL.segment_bytes
        await rig.pass_time(mock_clock, 2 * FULL_RETRY_S)
        assert not rig.committer.full
        assert rig.log.stats().spare_ready
        nursery.cancel_scope.cancel()


async def test_a_cancelled_run_has_told_what_became_durable(kind: str) -> None:
    """Given a cancel while a batch is in flight, then its releases are called before the run ends."""
    async with rigged(kind) as rig:
        with trio.CancelScope() as scope:
            rig.submit(1)
            scope.cancel()
            await rig.committer.run()
        assert len(rig.released) == rig.log.next_seq


async def test_an_appender_that_never_started_stops_quietly() -> None:
    """Given a start that fails before the thread runs, then its own error is what is seen."""
    ThreadAppender(open_on(Disk()).own(LOCAL_PARTITION)).stop()
    await trio.lowlevel.checkpoint()
