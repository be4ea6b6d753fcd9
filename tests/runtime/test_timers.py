"""Section 9 of the contract, time: due times outlive the process, and fire in order and within a second."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.inputs import HoldDue, ParkDue
from protocol.state import HitRow, TransactionRow
from runtime.clock import Clock, trio_clock
from runtime.store import Database, StoredState
from runtime.timers import BACKLOG_INPUTS_MAX, HORIZON_NS, Due, Timers

START = 1_700_000_000 * 1_000_000_000
SECOND = 1_000_000_000


class Fired:
    """What the timers posted, and when, in seconds since the start."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.list: list[tuple[float, Due]] = []

    def __call__(self, due: Due) -> None:
        self.list.append(((self.clock() - START) / SECOND, due))

    @property
    def ids(self) -> list[int]:
        """Rows whose timers fired, in order."""
        return [due.transaction if isinstance(due, HoldDue) else due.hit for _, due in self.list]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StoredState]:
    """An empty store."""
    database = Database(tmp_path / "store.sqlite")
    yield StoredState(database)
    database.close()


def held(state: StoredState, number: int, due_s: float) -> HoldDue:
    """A transaction that holds until so many seconds after the start."""
    until = START + round(due_s * SECOND)
    state.save(TransactionRow(number, "orders", "", 0, 0, 0, None, status="held", until=until))
    return HoldDue("orders", until, number)


def parked(state: StoredState, number: int, due_s: float) -> ParkDue:
    """A hit that is parked until so many seconds after the start."""
    until = START + round(due_s * SECOND)
    row = HitRow(number, "orders", "changed", 0, "POST", {}, {}, b"", "", "", "", False, 0, status="parked")  # noqa: FBT003 - A journaled row is positional.
    row.until = until
    state.save(row)
    return ParkDue("orders", until, number)


def checkpoint(state: StoredState) -> None:
    """All rows go to the file, and leave memory."""
    taken = state.checkpoint(1)
    taken.write(state.database)
    state.written(taken)


async def run_for(timers: Timers, seconds: float) -> None:
    """Let virtual time pass."""
    with trio.move_on_after(seconds):
        await timers.run()


async def test_6_7_timers_fire_in_due_order_each_within_a_second(
    state: StoredState, autojump_clock: trio.testing.MockClock
) -> None:
    """Given holds and parked hits over an hour, in the file and in memory, then each fires when it is due."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    chance = random.Random(5)
    dues = {number: chance.uniform(0.1, 3600) for number in range(1, 301)}
    for number, due in dues.items():
        (held if number % 2 else parked)(state, number, due)
        if number == 200:
            checkpoint(state)
    await run_for(Timers(state, clock, fired), 3700)
    assert fired.ids == sorted(dues, key=dues.__getitem__)
    assert all(0 <= at - (due.at - START) / SECOND < 1 for at, due in fired.list)


@pytest.mark.parametrize("saved", [True, False])
async def test_9_overdue_timers_fire_first_and_in_due_order(
    state: StoredState, autojump_clock: trio.testing.MockClock, *, saved: bool
) -> None:
    """Given a process that was down, when it starts, then what is overdue fires at once, the oldest first."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    held(state, 1, -10)
    parked(state, 2, -3000)
    held(state, 3, 5)
    held(state, 4, -20)
    if saved:
        checkpoint(state)
    await run_for(Timers(state, clock, fired), 1)
    assert fired.ids == [2, 4, 1]
    assert all(at == 0 for at, _ in fired.list)


@pytest.mark.parametrize("same", [False, True])
async def test_more_overdue_timers_than_a_page_all_fire(
    state: StoredState, autojump_clock: trio.testing.MockClock, *, same: bool
) -> None:
    """Given many times what is read at once, of one due time even, then each fires exactly once, in order."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    for number in range(1, 251):
        (held if number % 3 else parked)(state, number, -1 if same else number - 1000)
        if number == 240:
            checkpoint(state)
    await run_for(Timers(state, clock, fired, page_rows=10), 1)
    assert fired.ids == list(range(1, 251))


async def test_more_near_timers_than_a_page_all_fire_and_few_are_in_memory(
    state: StoredState, autojump_clock: trio.testing.MockClock
) -> None:
    """Given more timers within the horizon than are read at once, then the rest is read as the first have fired."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    for number in range(1, 501):
        held(state, number, number / 10)
    checkpoint(state)
    timers = Timers(state, clock, fired, page_rows=20)
    await run_for(timers, 1)
    assert timers.loaded < 40
    await run_for(timers, 50)
    assert fired.ids == list(range(1, 501))
    assert all(at - (due.at - START) / SECOND < 1 for at, due in fired.list)


async def test_far_timers_stay_in_the_store_until_they_are_near(
    state: StoredState, autojump_clock: trio.testing.MockClock
) -> None:
    """Given a hold of 30 days, then it costs no memory before its last minutes, and fires to the second."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    timers = Timers(state, clock, fired)
    month = 30 * 86_400
    held(state, 1, month)
    checkpoint(state)
    await run_for(timers, month - 3 * HORIZON_NS / SECOND)
    assert timers.loaded == 0
    await run_for(timers, 3 * HORIZON_NS / SECOND - 1)
    assert timers.loaded == 1
    assert not fired.list
    await run_for(timers, 2)
    assert fired.ids == [1]


async def test_a_timer_armed_while_running_fires_once(
    state: StoredState, autojump_clock: trio.testing.MockClock
) -> None:
    """Near ones from memory, far ones by the next look at the state, and none twice though both know it."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    timers = Timers(state, clock, fired)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(30)
        near, far = held(state, 1, 30.5), held(state, 2, 30 + 10 * HORIZON_NS / SECOND)
        timers.rearm()
        await trio.testing.wait_all_tasks_blocked()
        timers.arm(near)
        timers.arm(far)
        await trio.sleep(0.4)
        assert not fired.list
        await trio.sleep(0.2)
        assert fired.ids == [1]
        checkpoint(state)
        await trio.sleep(11 * HORIZON_NS / SECOND)
        assert fired.ids == [1, 2]
        nursery.cancel_scope.cancel()


async def test_a_start_reads_overdue_timers_again(state: StoredState, autojump_clock: trio.testing.MockClock) -> None:
    """Given a timer that fired while its cycle was stopped and was ignored, when the cycle starts, then it fires."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    timers = Timers(state, clock, fired)
    held(state, 1, 5)
    checkpoint(state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(10)
        timers.rearm()
        await trio.sleep(1)
        assert fired.ids == [1, 1]
        nursery.cancel_scope.cancel()


async def test_a_changed_hold_fires_at_its_new_time_only(
    state: StoredState, autojump_clock: trio.testing.MockClock
) -> None:
    """Given a hold in the file that memory has with another due time, then memory is right."""
    del autojump_clock
    clock = trio_clock(START)
    fired = Fired(clock)
    for number in (1, 2):
        held(state, number, 5)
    checkpoint(state)
    held(state, 1, 50)
    state.save(TransactionRow(2, "orders", "", 0, 0, 0, None, status="running"))
    await run_for(Timers(state, clock, fired), 100)
    assert fired.list == [(50, HoldDue("orders", START + 50 * SECOND, 1))]


async def test_overdue_timers_leave_room_for_callers(
    state: StoredState, autojump_clock: trio.testing.MockClock
) -> None:
    """Given more overdue timers than the mailbox should hold, then they wait for their turns, and all come."""
    del autojump_clock
    clock = trio_clock(START)
    waiting: list[Due] = []
    done: list[Due] = []
    total = 3 * BACKLOG_INPUTS_MAX
    for number in range(1, total + 1):
        held(state, number, number - 2 * total)
    checkpoint(state)
    timers = Timers(state, clock, waiting.append, backlog=lambda: len(waiting))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        while len(done) < total:
            await trio.sleep(0.05)
            assert len(waiting) <= BACKLOG_INPUTS_MAX
            done += waiting
            waiting.clear()
        nursery.cancel_scope.cancel()
    assert [due.at for due in done] == sorted(due.at for due in done)


@pytest.mark.parametrize("table", ["transactions", "hits"])
def test_the_next_timers_are_found_by_their_index(state: StoredState, table: str) -> None:
    """A look at the clock must cost the same with a million rows as with ten."""
    asked: list[str] = []
    reader = state.database._reader  # pyright: ignore[reportPrivateUsage] - The plan is SQLite's, behind the seam.
    reader.set_trace_callback(asked.append)
    Timers(state, lambda: START, _ignore)._read_on(START)  # pyright: ignore[reportPrivateUsage] - One page.
    reader.set_trace_callback(None)
    (statement,) = (text for text in asked if f"FROM {table} " in text)
    plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any(f"{table}_by_due" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def _ignore(_: Due) -> None:
    """Nothing is due."""
