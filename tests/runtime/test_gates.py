"""Section 7 of the contract, limits of connectors: what exceeds one waits, in order, and never fails."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, Start, Stop
from protocol.remotes import Rate
from protocol.state import IncidentRow
from runtime.gates import Gate, Gates, Limits, limits_of
from tests.runtime.rig import NOON, Rig, answer, running

SHOP = """
cycle: orders
connectors:
  shop: {}
  slow: {base_url: "http://slow.example", rate: %s, concurrency: %s, timeout: 30 seconds}
  quick: {base_url: "http://quick.example"}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {n: {type: integer, required: true}}}
  work: {post: slow, path: "/work/{{ asked.n }}"}
"""
QUICK = SHOP.replace("post: slow", "post: quick").replace("cycle: orders", "cycle: others")


class Remote:
    """Answers each call after a while, and knows when each came."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.starts: list[float] = []
        self.paths: list[str] = []
        self.most = self.now = 0

    async def __call__(self, call: CallIntended) -> CallAnswer:
        """One call."""
        if call.request.connector == "quick":
            return answer({})
        self.starts.append(trio.current_time())
        self.paths.append(call.request.url)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.now -= 1
        return answer({})

    def most_within(self, seconds: float) -> int:
        """The most calls that began in any window of so many seconds; its end is not part of it."""
        return max(
            (sum(begun <= one < begun + seconds - 1e-6 for one in self.starts) for begun in self.starts), default=0
        )


async def until(true: Callable[[], bool], seconds: float = 10_000) -> None:
    """Let virtual time pass until something is so."""
    with trio.fail_after(seconds):
        while not true():  # noqa: ASYNC110 - The state has no event for each of its changes.
            await trio.sleep(0.05)


@asynccontextmanager
async def shop(folder: Path, remote: Remote, rate: str, concurrency: int = 20) -> AsyncGenerator[Rig]:
    """An engine whose `slow` connector has these limits; time goes on from one to the next of the same test."""
    files = (SHOP % (rate, concurrency), QUICK % (rate, concurrency))
    start = NOON + int(trio.current_time() * 1e9)
    async with running(folder, *files, remote=remote, start=start) as rig:
        yield rig


async def test_7_a_rate_holds_in_every_window_and_nothing_fails_for_it(tmp_path: Path, virtual_time: object) -> None:
    """Given 35 orders at once and 10 calls a second, then each is made, in order, within three seconds and a bit."""
    del virtual_time
    remote = Remote()
    async with shop(tmp_path, remote, "10/second") as rig:
        begun = trio.current_time()
        for n in range(35):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 35)
        assert remote.paths == [f"/work/{n}" for n in range(35)]
        assert remote.most_within(1) == 10
        assert 3 <= remote.starts[-1] - begun < 3.5


async def test_7_a_slow_host_with_all_places_taken_delays_no_other(tmp_path: Path, virtual_time: object) -> None:
    """Given a host that answers after a minute and two places, then another host's calls are made at once."""
    del virtual_time
    remote = Remote(60)
    async with shop(tmp_path, remote, "1000/second", 2) as rig:
        for n in range(5):
            await rig.hit("orders", "asked", {"n": n}).decided()
        begun = trio.current_time()
        await rig.hit("others", "asked", {"n": 9}).decided()
        await until(lambda: rig.engine.state.cycle("others").completed == 1)
        assert trio.current_time() - begun < 1
        await until(lambda: rig.engine.state.cycle("orders").completed == 5)
        assert remote.most == 2


async def test_7_the_time_in_the_queue_is_none_of_the_timeout(tmp_path: Path, virtual_time: object) -> None:
    """Given one call a minute and a timeout of 30 seconds, then the fourth call is made after three minutes."""
    del virtual_time
    remote = Remote()
    async with shop(tmp_path, remote, "1/minute") as rig:
        for n in range(4):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 4)
        assert [round(one - remote.starts[0]) for one in remote.starts] == [0, 60, 120, 180]


@pytest.mark.parametrize("forgets", [False, True], ids=["store", "journal"])
async def test_7_a_restart_goes_on_within_the_window(tmp_path: Path, virtual_time: object, *, forgets: bool) -> None:
    """Given 20 calls a minute of which 20 were made, when the process starts anew, then no window has more than 20."""
    del virtual_time
    remote = Remote()
    async with shop(tmp_path, remote, "20/minute") as rig:
        for n in range(50):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 20)
    if forgets:
        for suffix in ("", "-wal", "-shm"):
            await trio.Path(tmp_path / f"store.sqlite{suffix}").unlink(missing_ok=True)
    clock = trio.current_time()
    async with shop(tmp_path, remote, "20/minute") as rig:
        await trio.sleep(30)
        assert len(remote.starts) == 20, "the window is used up"
        await until(lambda: rig.engine.state.cycle("orders").completed == 50)
    assert remote.most_within(60) <= 20
    assert remote.starts[-1] - clock < 60 * 3, "and it is not left unused"


async def test_7_calls_in_flight_at_a_crash_count_as_made(tmp_path: Path, virtual_time: object) -> None:
    """Given five calls in flight when the process dies, then they use up the window of the next process."""
    del virtual_time
    remote = Remote(40)
    async with shop(tmp_path, remote, "5/minute", 5) as rig:
        for n in range(9):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: len(remote.starts) == 5)
    async with shop(tmp_path, remote, "5/minute", 5) as rig:
        await until(lambda: rig.engine.state.cycle("orders").completed == 9)
    assert remote.most_within(60) == 5


async def test_11_a_call_in_the_queue_of_a_stopped_cycle_is_never_made(tmp_path: Path, virtual_time: object) -> None:
    """Given calls that wait for their rate, when the cycle is stopped, then none leaves and none counts."""
    del virtual_time
    remote = Remote()
    async with shop(tmp_path, remote, "1/minute") as rig:
        for n in range(5):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 1)
        await rig.engine.order(Stop("orders", rig.engine.clock(), "stop")).decided()
        await rig.engine.order(Start("orders", rig.engine.clock())).decided()
        await rig.hit("orders", "asked", {"n": 9}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 2)
        assert remote.paths == ["/work/0", "/work/9"]
        assert round(remote.starts[1] - remote.starts[0]) == 60


@given(
    rate=st.integers(1, 5),
    places=st.integers(1, 4),
    calls=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2)), min_size=1, max_size=25),
)
@settings(deadline=None, max_examples=60)
def test_7_whatever_comes_when_no_window_has_more_and_all_go_in_their_order(
    rate: int, places: int, calls: list[tuple[float, float]]
) -> None:
    """Any arrivals of any duration: rate and concurrency hold, the order is kept, and no time is wasted."""
    calls = sorted(calls)
    starts: list[float] = []
    order: list[int] = []
    in_flight = 0

    async def one(gate: Gate, number: int, length: float) -> None:
        nonlocal in_flight
        async with gate.place(limits_of(Connector(concurrency=places, rate=f"{rate}/second")), lambda: True):
            starts.append(trio.current_time())
            order.append(number)
            in_flight += 1
            assert in_flight <= places
            await trio.sleep(length)
            in_flight -= 1

    async def all_of_them() -> None:
        gate, begun = Gate(), trio.current_time()
        async with trio.open_nursery() as nursery:
            for number, (at, length) in enumerate(calls):
                await trio.sleep_until(begun + at + number * 1e-6)
                nursery.start_soon(one, gate, number, length)
        assert not gate.waiting
        await trio.sleep(1.001)
        assert gate.idle

    trio.run(all_of_them, clock=trio.testing.MockClock(autojump_threshold=0))
    assert order == list(range(len(calls)))
    for number in range(len(starts) - rate):
        assert starts[number + rate] - starts[number] >= 1 - 1e-6


async def test_7_a_caller_who_is_gone_leaves_the_queue_to_the_next(virtual_time: object) -> None:
    """Given tasks that are cancelled in the queue, first or not, then those behind them go on."""
    del virtual_time
    gate, one = Gate(), Limits(1)
    gone: list[int] = []

    async def wait(number: int, scope: trio.CancelScope) -> None:
        with scope:
            async with gate.place(one, lambda: True):
                gone.append(number)

    scopes = [trio.CancelScope() for _ in range(4)]
    async with trio.open_nursery() as nursery, gate.place(one, lambda: True):
        for number, scope in enumerate(scopes):
            nursery.start_soon(wait, number, scope)
            await trio.testing.wait_all_tasks_blocked()
        scopes[0].cancel()
        scopes[2].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert gate.waiting == 2
    assert gone == [1, 3]


async def test_7_a_changed_concurrency_counts_from_the_next_call(virtual_time: object) -> None:
    """A new definition may raise the bound of a connector that is in use."""
    del virtual_time
    gate = Gate()
    async with trio.open_nursery() as nursery, gate.place(Limits(1), lambda: True):
        with trio.fail_after(1):
            async with gate.place(Limits(2), lambda: True) as there:
                assert there
        nursery.cancel_scope.cancel()


def test_7_connectors_of_one_name_and_base_are_one_installation() -> None:
    """Cycles that use a shared connector share its limits; a host that a step names by itself has its own."""
    gates = Gates()
    bank = Connector(base_url="https://bank.example")
    assert gates.gate("orders", "bank", bank) is gates.gate("refunds", "bank", bank)
    assert gates.gate("orders", "bank", bank) is not gates.gate("orders", "other", bank)
    assert gates.gate("orders", "bank", bank) is not gates.gate("orders", "bank https://else.example", bank)
    assert gates.gate("orders", "web", Connector()) is not gates.gate("refunds", "web", Connector())


# ---------------------------------------------------------------- remotes that ask for patience


def is_left_alone(rig: Rig) -> bool:
    """Whether the cycle knows that its remote asked for patience."""
    return any(remote.until for remote in rig.engine.state.cycle("orders").remotes.values())


class Busy(Remote):
    """Refuses every call until an instant, then answers."""

    def __init__(self, until: float, seconds: float = 0.01) -> None:
        super().__init__(seconds)
        self.until = until

    async def __call__(self, call: CallIntended) -> CallAnswer:
        done = await super().__call__(call)
        if call.request.connector == "slow" and trio.current_time() < self.until:
            return answer({}, 429)
        return done


async def test_7_who_waited_for_a_busy_remote_asks_it_one_at_a_time(tmp_path: Path, virtual_time: object) -> None:
    """Given 60 calls of which some were refused, when the time is over, then one is sent, and the others after it."""
    del virtual_time
    remote = Busy(150)
    async with shop(tmp_path, remote, "1000/second", 5) as rig:
        for n in range(60):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 60)
    first = [one for one in remote.starts if one < 30]
    assert len(first) == 5, "those in flight together are all refused; nobody else was sent"
    second = [one for one in remote.starts if 30 < one < 150]
    assert len(second) == 1, "after a minute one tries it, and is refused"
    rest = [one for one in remote.starts if one > 150]
    assert len(rest) == 60
    assert rest[0] == pytest.approx(second[0] + 120, abs=1), "two minutes later it is asked again"
    assert rest[1] - rest[0] > remote.seconds - 1e-6, "the others follow when that one was answered"
    assert rest[-1] - rest[0] < 5


async def test_7_the_wait_for_a_busy_remote_is_none_of_the_timeout(tmp_path: Path, virtual_time: object) -> None:
    """Given a timeout of 30 seconds and a call that had to wait for a minute, then it has its 30 seconds."""
    del virtual_time
    remote = Busy(50, seconds=25)
    async with shop(tmp_path, remote, "1000/second", 1) as rig:
        for n in range(2):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 2)
        assert not [one for one in rig.engine.state.changed_rows(IncidentRow) if one.kind != "rate_limited"]
    assert remote.paths.count("/work/1") == 1


async def test_7_a_restart_leaves_a_busy_remote_alone(tmp_path: Path, virtual_time: object) -> None:
    """Given a remote that asked for patience, when the process starts anew with open calls, then they wait as well."""
    del virtual_time
    remote = Busy(50)
    async with shop(tmp_path, remote, "1000/second", 1) as rig:
        for n in range(4):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: is_left_alone(rig))
    async with shop(tmp_path, remote, "1000/second", 1) as rig:
        await until(lambda: rig.engine.state.cycle("orders").completed == 4)
    assert len(remote.starts) == 5
    assert remote.starts[1] - remote.starts[0] >= 60


async def test_7_another_cycle_of_the_same_connector_leaves_it_alone_too(tmp_path: Path, virtual_time: object) -> None:
    """Given a connector that two cycles share, when one cycle is refused, then the other's calls wait."""
    del virtual_time
    remote = Busy(50)
    other = (SHOP % ("1000/second", 5)).replace("cycle: orders", "cycle: refunds")
    async with running(tmp_path, SHOP % ("1000/second", 5), other, remote=remote) as rig:
        await rig.hit("orders", "asked", {"n": 1}).decided()
        await until(lambda: is_left_alone(rig))
        await rig.hit("refunds", "asked", {"n": 2}).decided()
        await until(lambda: rig.engine.state.cycle("refunds").completed == 1)
    assert remote.starts[1] - remote.starts[0] >= 59


async def test_7_a_call_that_is_not_safe_to_repeat_is_unknown_only_if_it_left(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given one call in flight and four behind it at a crash, then a person is asked about one, and four are made."""
    del virtual_time
    unsafe = (SHOP % ("1000/second", 1)).replace('"/work/{{ asked.n }}"', '"/work/{{ asked.n }}", safe_to_repeat: no')
    remote = Remote(20)
    async with running(tmp_path, unsafe, remote=remote) as rig:
        for n in range(5):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: len(remote.starts) == 1)
    start = NOON + int(trio.current_time() * 1e9)
    async with running(tmp_path, unsafe, remote=remote, start=start) as rig:
        await until(lambda: rig.engine.state.cycle("orders").completed == 4)
        assert rig.engine.state.cycle("orders").held == 1
    assert sorted(remote.paths) == [f"/work/{n}" for n in range(5)], "and none is made twice"


async def test_7_a_call_keeps_its_place_until_its_end_is_durable(tmp_path: Path, virtual_time: object) -> None:
    """Else a crash forgets that it ended, counts one call in flight less than there were, and exceeds the rate.

    Given one call at a time, and a disk that takes nothing once the first was answered, then the second waits.
    """
    del virtual_time
    remote = Remote(1.0)
    async with shop(tmp_path, remote, "10/minute", 1) as rig:
        for n in range(2):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: len(remote.starts) == 1)
        appender = rig.engine.committer._appender  # pyright: ignore[reportPrivateUsage] - The disk's end of it.
        append, stalled = appender.append, trio.Event()

        async def waiting(*given: Any, **more: Any) -> None:
            await stalled.wait()
            await append(*given, **more)

        with mock.patch.object(appender, "append", waiting):
            await trio.sleep(120)
            assert len(remote.starts) == 1
            stalled.set()
            await until(lambda: len(remote.starts) == 2)


async def test_7_a_remote_is_left_alone_though_the_disk_is_slow_to_say_so(tmp_path: Path, virtual_time: object) -> None:
    """Given two calls at a time, and a plea for ten seconds of patience that is durable only after five.

    Then the third does not leave when the second has ended, but when the ten are over.
    """
    del virtual_time

    class Busy(Remote):
        async def __call__(self, call: CallIntended) -> CallAnswer:
            first = not self.starts
            told = await super().__call__(call)
            if first:
                return CallAnswer(429, {"retry-after": "10"}, b"")
            await trio.sleep(1)
            return told

    remote = Busy(1.0)
    files = [one.replace("rate: 1/second, ", "") for one in (SHOP % ("1/second", 2),)]
    async with running(tmp_path, *files, remote=remote, start=NOON) as rig:
        for n in range(3):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: len(remote.starts) == 2)
        appender = rig.engine.committer._appender  # pyright: ignore[reportPrivateUsage] - The disk's end of it.
        append, asked = appender.append, remote.starts[0] + 1

        async def slow(*given: Any, **more: Any) -> None:
            await trio.sleep_until(asked + 5)
            await append(*given, **more)

        with mock.patch.object(appender, "append", slow):
            await until(lambda: len(remote.starts) == 3)
        assert remote.starts[2] >= asked + 10


async def test_7_a_call_that_is_announced_counts_for_a_rate_when_it_leaves(virtual_time: object) -> None:
    """Given two places a second, and announcements that take 0.9 of it, then the next two come a second after those."""
    del virtual_time
    gate, limits = Gate(), Limits(20, Rate(2, 1_000_000_000))
    begun = entered = trio.current_time()
    for _ in range(2):
        async with gate.place(limits, lambda: True):
            assert gate.entered == entered
    await trio.sleep(0.9)
    gate.leaves_now(entered)
    gate.leaves_now(entered)
    async with gate.place(limits, lambda: True):
        assert trio.current_time() - begun == pytest.approx(1.9)


def _has_made(remote: Remote, calls: int) -> bool:
    return len(remote.starts) == calls


async def test_7_two_crashes_within_a_window_do_not_exceed_a_rate(tmp_path: Path, virtual_time: object) -> None:
    """Given two calls in flight at each of two crashes, then the attempts before the first count as well."""
    del virtual_time
    remote = Remote(40)
    for made in (2, 4):
        async with shop(tmp_path, remote, "5/minute", 2) as rig:
            for n in range(3 if made == 2 else 0):
                await rig.hit("orders", "asked", {"n": n}).decided()
            await until(partial(_has_made, remote, made))
    async with shop(tmp_path, remote, "5/minute", 2) as rig:
        await until(lambda: rig.engine.state.cycle("orders").completed == 3)
    assert remote.most_within(60) <= 5


async def test_7_calls_that_a_crash_repeated_count_twice_once_they_have_ended(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given two calls made, lost by a crash, made again and answered, when it crashes again, then four were made."""
    del virtual_time
    remote = Remote(1)
    async with shop(tmp_path, remote, "5/minute", 2) as rig:
        for n in range(2):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(partial(_has_made, remote, 2))
    async with shop(tmp_path, remote, "5/minute", 2) as rig:
        await until(lambda: rig.engine.state.cycle("orders").completed == 2)
    async with shop(tmp_path, remote, "5/minute", 2) as rig:
        for n in range(2, 5):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 5)
    assert remote.most_within(60) == 5
