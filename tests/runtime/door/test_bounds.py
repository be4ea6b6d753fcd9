"""Bounds of many waits, in virtual time."""

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from runtime.door.bounds import Bounds

WAITS = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from((0.0, 1.0, 2.5, 7.0)), st.none() | st.integers(0, 10)), max_size=30
)


@given(WAITS)
def test_each_wait_is_over_at_its_time_unless_it_has_ended(waits: list[tuple[int, float, int | None]]) -> None:
    """Given waits that begin and end at any time, then exactly those that outlive their bound are told, at it."""
    over: dict[int, float] = {}

    async def wait(bounds: Bounds, name: int, begin: int, within: float, ends: int | None) -> None:
        await trio.sleep(begin)
        bounds.begin(name, within)
        if ends is not None:
            await trio.sleep(ends + 0.1)
            bounds.end(name, within)

    async def main() -> None:
        bounds = Bounds(lambda name: over.__setitem__(name, trio.current_time()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bounds.run)
            for name, (begin, within, ends) in enumerate(waits):
                nursery.start_soon(wait, bounds, name, begin, within, ends)
            await trio.sleep(100)
            nursery.cancel_scope.cancel()

    began = 0.0
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    expected = {
        name: began + begin + within
        for name, (begin, within, ends) in enumerate(waits)
        if ends is None or within < ends + 0.1
    }
    assert {name: round(at, 6) for name, at in over.items()} == expected
