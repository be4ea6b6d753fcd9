"""Requests that wait for a place in a full mailbox: for a moment, since it is emptied within one, and in order.

To refuse a request costs a third of taking it. So a server that refused at once whatever it can not take now would do
less and less the more it is asked for, and would send away who had only come with many others.
"""

from collections import deque
from collections.abc import Callable

import trio

PATIENCE_S = 1.0  # Then he is told when to come again. Senders give an answer five seconds at least.
LOOK_S = 0.02  # Between looks: a mailbox of 4,096 lasts for twenty of them.


class Line:
    """Who waits, first come, first served.

    Args:
        places: how many requests the mailbox would take now.
        bytes_max: of bodies that wait; one that is too many does not wait.
        spawn: starts a task that ends with the engine.
    """

    def __init__(self, places: Callable[[], int], bytes_max: int, spawn: Callable[..., object]) -> None:
        self._places = places
        self._bytes_max = bytes_max
        self._spawn = spawn
        self._bytes = 0
        self._serving = False
        self._waiting: deque[tuple[float, trio.Event]] = deque()  # Since when, in order.

    def __len__(self) -> int:
        return len(self._waiting)

    def is_needed(self) -> bool:
        """Whether a request that comes now has to wait."""
        return bool(self._waiting) or self._places() <= 0

    async def wait(self, size: int) -> None:
        """Return when it is one's turn, at once if there is a place, or when one has waited for long enough.

        Args:
            size: of the body, in bytes.
        """
        if not self.is_needed() or self._bytes + size > self._bytes_max:
            return
        turn = trio.Event()
        place = (trio.current_time(), turn)
        self._waiting.append(place)
        self._bytes += size
        if not self._serving:
            self._serving = True
            self._spawn(self._serve)
        try:
            await turn.wait()
        finally:
            self._bytes -= size
            if not turn.is_set():
                self._waiting.remove(place)

    async def _serve(self) -> None:
        """Call who is next. One task bounds all waits: a deadline for each would cost a tenth of its request."""
        while self._waiting:
            for _ in range(min(self._places(), len(self._waiting))):
                self._waiting.popleft()[1].set()
            overdue = trio.current_time() - PATIENCE_S
            while self._waiting and self._waiting[0][0] <= overdue:
                self._waiting.popleft()[1].set()
            await trio.sleep(LOOK_S)
        self._serving = False
