"""A machine's clock that is set forward or back: nothing is lost, nothing happens twice, and no delay waits for it."""

from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import TransactionRow
from runtime.clock import wall_clock
from runtime.store.rows import TABLES
from runtime.timers import HORIZON_NS
from tests.runtime.rig import NOON, Rig, answer, running

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
CYCLE = """
cycle: orders
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  placed: {webhook: shop, fields: {order: {type: text, required: true}}, dedupe: {header: x-key, window: 30 minutes}}
  rest: {delay: 5 minutes}
  tell: {post: remote, path: /tell, body: {order: "{{ placed.order }}"}}
  back: {webhook: shop, fields: {order: text}, match: {order: placed.order}, hold_for: 20 minutes, on_timeout: fail}
"""


class Machine:
    """A wall clock that people set, over Trio's time, and the calls that come at a remote."""

    def __init__(self) -> None:
        self.set_by = 0
        self.calls: list[tuple[str, float]] = []
        self.clock = wall_clock(lambda: NOON + self.steady() + self.set_by, self.steady)

    @staticmethod
    def steady() -> int:
        return int(trio.current_time() * SECOND)

    async def remote(self, call: CallIntended) -> CallAnswer | CallFailure:
        self.calls.append((call.idempotency_key, trio.current_time()))
        return answer({})

    def again(self) -> None:
        """A process begins, and with it its clock."""
        self.clock = wall_clock(lambda: NOON + self.steady() + self.set_by, self.steady)


def statuses(rig: Rig) -> list[str]:
    return [row.status for row in rig.engine.state.database.rows(TABLES[TransactionRow])]


async def placed(rig: Rig, order: str, key: str = "") -> str:
    """Place an order; what it was told."""
    headers = {"x-key": key} if key else {}
    outcome = await rig.hit("orders", "placed", {"order": order}, **headers).decided()
    return type(outcome.verdict).__name__


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
async def test_9_a_delay_ends_once_whatever_the_clock_is_set_to(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, hours: int
) -> None:
    """Section 9: given delays, when the clock is set, then each ends once, and none later than it would have.

    Those that are overdue by a clock set forward end within a minute, as after a machine slept.
    """
    del autojump_clock
    machine = Machine()
    async with running(tmp_path, CYCLE, remote=machine.remote, clock=machine.clock) as rig:
        began = trio.current_time()
        await placed(rig, "before")
        await trio.sleep(30)
        machine.set_by = hours * HOUR
        await placed(rig, "after")
        await trio.sleep(5 * 60 + 15)
        ends = [at - began for _, at in machine.calls]
        assert len({key for key, _ in machine.calls}) == len(machine.calls) == 2
        first = HORIZON_NS / 2 / SECOND + 30 if hours > 0 else 300
        assert ends[0] <= first + 1
        assert 330 <= ends[1] <= 332


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
async def test_6_7_a_hold_ends_whatever_the_clock_is_set_to(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, hours: int
) -> None:
    """6.7: given a hold of 20 minutes, when the clock is set back, then it is over in 20 minutes, else at once."""
    del autojump_clock
    machine = Machine()
    async with running(tmp_path, CYCLE, remote=machine.remote, clock=machine.clock) as rig:
        await placed(rig, "one")
        await trio.sleep(5 * 60 + 5)
        machine.set_by = hours * HOUR
        await trio.sleep(70 if hours > 0 else 19 * 60)
        await rig.engine.checkpointed()
        assert statuses(rig) == (["failed"] if hours > 0 else ["held"])
        await trio.sleep(70)
        await rig.engine.checkpointed()
        assert statuses(rig) == ["failed"]


async def test_4_a_delivery_is_known_by_its_key_across_a_clock_set_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Section 4: given a key, when the clock is set back, then it is a duplicate; and past its window it is new."""
    del autojump_clock
    machine = Machine()
    async with running(tmp_path, CYCLE, remote=machine.remote, clock=machine.clock) as rig:
        assert await placed(rig, "one", "k") == "Accepted"
        machine.set_by = -HOUR
        assert await placed(rig, "one", "k") == "Duplicate"
        await trio.sleep(29 * 60)
        assert await placed(rig, "one", "k") == "Duplicate"
        await trio.sleep(2 * 60)
        assert await placed(rig, "one", "k") == "Accepted"
        machine.set_by = HOUR
        assert await placed(rig, "one", "k") == "Accepted"


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_7_a_rate_holds_and_starves_nobody_whatever_the_clock_is_set_to(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, hours: int, *, restarted: bool
) -> None:
    """Section 7: given one call a minute, when the clock is set, then no window has two, and none waits longer.

    After a restart by a clock set back, what was noted of the calls before lies in the future: it bars nobody's way.
    """
    del autojump_clock
    machine = Machine()
    quick = CYCLE.replace("delay: 5 minutes", "delay: 1 second").replace('.example"', '.example", rate: 1/minute')
    async with running(tmp_path, quick, remote=machine.remote, clock=machine.clock) as rig:
        await placed(rig, "one")
        await trio.sleep(2)
        machine.set_by = hours * HOUR
        if not restarted:
            await ask_twice(rig)
    if restarted:
        machine.again()
        async with running(tmp_path, quick, remote=machine.remote, clock=machine.clock) as rig:
            await ask_twice(rig)
    times = [at for _, at in machine.calls]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) == 2
    assert all(gap <= 66 for gap in gaps), gaps
    assert gaps[1] > 59.9
    assert gaps[0] > 59.9 or restarted, "a process that begins by another clock may know of no call before"


async def ask_twice(rig: Rig) -> None:
    await placed(rig, "two")
    await placed(rig, "three")
    await trio.sleep(140)


def test_a_clock_that_was_set_back_neither_goes_back_nor_stands_still() -> None:
    """Given steps of every kind, then no instant is before the one before, and lengths of time stay what they are."""
    wall, steady = 1000 * SECOND, 0
    now = wall_clock(lambda: wall, lambda: steady)
    seen = [now()]
    for step in (0, -HOUR, 0, 300_000_000, -300_000_000, 2 * HOUR, -3 * HOUR, 0):
        wall, steady = wall + SECOND + step, steady + SECOND
        seen.append(now())
    lengths = [(later - earlier) / SECOND for earlier, later in pairwise(seen)]
    assert lengths == [1, 1, 1, 1.3, 0.7, 3601, 1, 1]
