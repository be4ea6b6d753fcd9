"""The line before a full mailbox, in virtual time."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from runtime.line import LOOK_S, PATIENCE_S, Line


async def test_4_1_who_comes_first_is_served_first_as_places_come(autojump_clock: trio.testing.MockClock) -> None:
    """4.1: given two places each tenth of a second, when five wait, then they go in order, two at a time."""
    del autojump_clock
    places, served = 0, list[tuple[int, float]]()

    def taken() -> int:
        return places

    async with trio.open_nursery() as nursery:
        line = Line(taken, 100, nursery.start_soon)

        async def wait(number: int) -> None:
            nonlocal places
            await line.wait(1)
            places -= 1
            served.append((number, round(trio.current_time() - began, 1)))

        began = trio.current_time()
        for number in range(5):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        assert len(line) == 5
        for _ in range(3):
            await trio.sleep(0.1 - 0.01)
            places = 2
            await trio.sleep(0.01 + 0.001)
            await trio.testing.wait_all_tasks_blocked()
    assert [{number for number, at in served if round(at * 10) == place} for place in (1, 2, 3)] == [
        {0, 1},
        {2, 3},
        {4},
    ]
    assert not line.is_needed()


async def test_4_1_who_has_waited_for_long_enough_waits_no_longer(autojump_clock: trio.testing.MockClock) -> None:
    """4.1: given no place at all, then each waits as long as one waits, and none keeps his place."""
    del autojump_clock
    async with trio.open_nursery() as nursery:
        line = Line(lambda: 0, 3, nursery.start_soon)
        began = trio.current_time()
        async with trio.open_nursery() as waiting:
            for _ in range(3):
                waiting.start_soon(line.wait, 1)
        assert PATIENCE_S <= trio.current_time() - began <= PATIENCE_S + LOOK_S
        assert len(line) == 0


async def test_4_1_who_hangs_up_leaves_the_line(autojump_clock: trio.testing.MockClock) -> None:
    """4.1: given one who waits, when he is cancelled, then the next is the first."""
    del autojump_clock
    async with trio.open_nursery() as nursery:
        line = Line(lambda: 0, 3, nursery.start_soon)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(line.wait, 1)
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        assert len(line) == 0


async def test_4_1_one_task_serves_the_line_however_often_it_empties(autojump_clock: trio.testing.MockClock) -> None:
    """4.1: given who waits and is cancelled again and again, then no second task gives the same place twice."""
    del autojump_clock
    served = 0

    async def serving(serve: Callable[[], Awaitable[None]]) -> None:
        nonlocal served
        served += 1
        await serve()
        served -= 1

    async with trio.open_nursery() as nursery:
        line = Line(lambda: 0, 100, lambda serve: nursery.start_soon(serving, serve))
        for _ in range(5):
            with trio.move_on_after(LOOK_S / 10):
                await line.wait(1)
            assert served == 1


async def test_4_1_bodies_past_the_bound_do_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """4.1: given bodies of three bytes that wait, when one more comes, then it does not wait."""
    del autojump_clock
    async with trio.open_nursery() as nursery:
        line = Line(lambda: 0, 3, nursery.start_soon)
        nursery.start_soon(line.wait, 3)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await line.wait(1)
        assert trio.current_time() == began
