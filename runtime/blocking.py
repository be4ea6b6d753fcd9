"""The seam to what blocks: a thread for a server, the spot for a simulation, whose one thread makes it repeatable."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import trio

Done = TypeVar("Done")


class Blocking(Protocol):
    """Runs something that waits for a disk or takes its time, without the loop waiting along."""

    def __call__(
        self,
        work: Callable[..., Done],
        /,
        *arguments: Any,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> Awaitable[Done]:
        """What the work returns; raises what it raises."""
        ...


async def in_thread(
    work: Callable[..., Done],
    /,
    *arguments: Any,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,
) -> Done:
    """In one of Trio's worker threads."""
    return await trio.to_thread.run_sync(work, *arguments, limiter=limiter, abandon_on_cancel=abandon_on_cancel)


async def on_the_spot(
    work: Callable[..., Done],
    /,
    *arguments: Any,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,
) -> Done:
    """On the Trio thread: deterministic, for tests and simulation."""
    del limiter, abandon_on_cancel
    await trio.lowlevel.checkpoint()
    return work(*arguments)
