"""Which connections have bytes: an edge-triggered epoll(7) of our own, in which each stays for as long as it is open.

Trio's waits are armed one by one, each with a system call, and each needs a task that waits. So a connection that waits
here for its next request is a few hundred bytes, and none of them is touched before its request is read.
"""

import select
import socket
from typing import Generic, TypeVar

import trio

AVAILABLE = hasattr(select, "epoll")  # On Linux; elsewhere each connection has a task, and Trio's waits.
EVENTS_MAX = 1024  # Of one look; the rest comes with the next.

Owner = TypeVar("Owner")


class Readiness(Generic[Owner]):
    """What is known of one connection's bytes.

    Attributes:
        owner: whose connection it is.
        ready: there may be bytes to read, or the end.
    """

    __slots__ = ("_ended", "_task", "owner", "ready")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.ready = False
        self._ended = False
        self._task: trio.lowlevel.Task | None = None

    def note(self, *, ended: bool) -> bool:
        """There is something to read; whether someone waits for it, who is woken then."""
        self.ready = True
        self._ended |= ended
        return self.wake()

    def drained(self) -> None:
        """All that had come was read; an end that was told stays, since it is told only once."""
        self.ready = self._ended

    async def wait(self) -> None:
        """Wait until there is something to read, or until woken."""
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> bool:
        """Wake who waits; whether anyone did."""
        if self._task is None:
            return False
        trio.lowlevel.reschedule(self._task)
        self._task = None
        return True


class Poller(Generic[Owner]):
    """Watches sockets; one task at a time may wait for it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._found: dict[int, Readiness[Owner]] = {}

    def register(self, connection: socket.socket, owner: Owner) -> Readiness[Owner]:
        """Watch a socket until it is forgotten; it must be before it is closed."""
        found = self._found[connection.fileno()] = Readiness(owner)
        self._epoll.register(connection, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        return found

    def forget(self, connection: socket.socket) -> None:
        """Watch it no longer; what was never watched, or is no longer, is left alone."""
        if self._found.pop(connection.fileno(), None) is not None:
            self._epoll.unregister(connection)

    async def wait(self) -> None:
        """Wait until there is something to look at."""
        await trio.lowlevel.wait_readable(self._epoll)

    def look(self) -> list[Owner]:
        """Wake who waits for what has come; the owners of connections for which nobody does are returned."""
        left: list[Owner] = []
        for number, events in self._epoll.poll(0, EVENTS_MAX):
            found = self._found[number]
            if not found.note(ended=events != select.EPOLLIN):
                left.append(found.owner)
        return left

    def close(self) -> None:
        """Watch nothing any more."""
        self._epoll.close()
