"""Who waits to be read while the mailbox has enough, first come, first served.

What is not read yet waits in the kernel, where it costs nothing. A request that is read long before its turn has left
the processor's cache when that comes, and costs a fifth more; to refuse it costs a third of taking it. So a server that
reads as much as it takes does the same under any load, and refuses only who would have to wait for too long.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

PATIENCE_S = 1.0  # Then who waits is read, to be taken or told when to come again. Senders wait five seconds at least.


class Guest(Protocol):
    """Who can wait in a line."""

    def enter(self) -> bool:
        """It is his turn; False when he has gone away. Once he runs he says that he has `arrived`."""
        ...


class _Turn:
    """A task that waits by itself."""

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()

    async def wait(self) -> None:
        await self._lot.park()

    def enter(self) -> bool:
        return bool(self._lot.unpark())


class Line:
    """The line before the mailbox. Nobody is forgotten: while some wait, there are turns to take, or some on their way.

    Args:
        room: how many requests are to be read now.
        wake: lets `call` be called soon, as it is whenever turns were taken.
    """

    def __init__(self, room: Callable[[], int], wake: Callable[[], None] = lambda: None) -> None:
        self.room = room
        self.wake = wake
        self._called = 0  # Whose turn it is, but who have not run yet: they are in no mailbox.
        self._waiting: deque[tuple[float, Guest]] = deque()  # Since when, in order.

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether who comes now has to wait."""
        return bool(self._waiting) or self.room() <= self._called

    def enter(self) -> bool:
        """Whether it is the turn of one who comes now; then he says when he has `arrived`, and otherwise he joins."""
        if self.busy:
            return False
        self._called += 1
        return True

    def join(self, guest: Guest) -> None:
        """Wait until one is let in; only while the line is busy."""
        self._waiting.append((trio.current_time(), guest))

    async def turn(self) -> None:
        """Wait as a task, if one has to."""
        if self.busy:
            turn = _Turn()
            self.join(turn)
            await turn.wait()
            self.arrived()

    def call(self) -> None:
        """Let in whose turn it is, and who has waited for long enough."""
        if not self._waiting:
            return
        room = self.room() - self._called
        overdue = trio.current_time() - PATIENCE_S
        while self._waiting and (room > 0 or self._waiting[0][0] <= overdue):
            if self._waiting.popleft()[1].enter():
                room -= 1
                self._called += 1

    def arrived(self) -> None:
        """One who was let in runs, and puts what he has into the mailbox before he waits for anything; if he has it."""
        self._called -= 1
        if self._waiting and not self._called:  # Nobody else is on his way, and he may come with nothing.
            self.wake()
