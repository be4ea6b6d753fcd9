"""Tasks that serve connections which have something to read: leader and followers (Schmidt et al., POSA 2, 2000).

One task, the leader, looks for who comes next. It gives all but the first of them to other tasks, makes another one the
leader, and serves the first itself: so a request is read by the task that saw it come, not a turn of the loop later.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from runtime.door.poller import Poller

IDLE_MAX = 256  # Tasks kept for what comes, of 10 KiB each; some more than are called at once.

Connection = TypeVar("Connection")


class _Idle(Generic[Connection]):
    """A task that waits for work."""

    __slots__ = ("given", "task")

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.given: Connection | None = None


class Workers(Generic[Connection]):
    """As many tasks as there are requests in progress.

    Args:
        poller: which connections have something to read.
        came: told of each of those; whether it is to be served now.
        serve: does what there is to do for one, and raises nothing.
    """

    def __init__(
        self,
        poller: Poller[Connection],
        came: Callable[[Connection], bool],
        serve: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self.poller = poller
        self._came = came
        self._serve = serve
        self._idle: list[_Idle[Connection]] = []
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._work, None)

    def give(self, connection: Connection | None) -> None:
        """Have a connection served; None is the word to lead."""
        assert self._nursery is not None, "work is given while there are workers"
        if self._idle:
            idle = self._idle.pop()
            idle.given = connection
            trio.lowlevel.reschedule(idle.task)
        else:
            self._nursery.start_soon(self._work, connection)

    async def _work(self, connection: Connection | None) -> None:
        while True:
            if connection is None:
                connection = await self._lead()
            await self._serve(connection)
            connection = None  # Nothing of it is kept while there is nothing to do.
            if len(self._idle) >= IDLE_MAX:
                return
            connection = await self._rest()

    async def _rest(self) -> Connection | None:
        idle: _Idle[Connection] = _Idle()
        self._idle.append(idle)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(idle)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return idle.given

    async def _lead(self) -> Connection:
        while True:
            await self.poller.wait()
            came = [connection for connection in self.poller.look() if self._came(connection)]
            if came:
                self.give(None)
                for connection in came[1:]:
                    self.give(connection)
                return came[0]
