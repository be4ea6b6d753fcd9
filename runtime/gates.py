"""Gates before remote systems: so many calls at once, so many in any window of time, none while one asks for patience.

1. What exceeds a limit waits, first come, first served, and never fails for it. The queue holds no call of its own: it
   is the open calls of the journal, each in the task that will send it.
2. Each remote has a gate of its own, so one that is slow delays no other.
3. A call that is not wanted any more, because its cycle was stopped, leaves the queue without using a place.
4. A gate that was closed opens for one call alone; the others follow when that one was not refused. So a remote that is
   still busy is asked once, and not by all who waited.
5. Every call obeys the limits that its own connector says now, among the calls of all who use the gate.
"""

import math
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

import trio
from msgspec import UNSET, Struct

from protocol.definition import Connector
from protocol.remotes import Rate, parse_rate

GATES_MAX = 1000  # Kept before those that remember nothing are dropped; hosts can come from data.

Name = tuple[str, str, str]


class Limits(Struct, frozen=True):
    """What a connector allows."""

    concurrency: int
    rate: Rate | None = None


def limits_of(connector: Connector) -> Limits:
    """The limits that a connector says."""
    return Limits(connector.concurrency, None if connector.rate is UNSET else parse_rate(connector.rate))


class Gate:
    """The way to one remote system.

    Attributes:
        entered: when the latest call got its place, as a rate counts it.
    """

    def __init__(self) -> None:
        self.entered = 0.0
        self._queue: OrderedDict[trio.Event, None] = OrderedDict()  # Left from anywhere at one cost.
        self._in_flight = 0
        self._starts: deque[float] = deque()  # Of calls, for as long as the longest window reaches back.
        self._window = 0.0
        self._closed_until: float | None = None  # Past that instant, until one call has shown that it may open.
        self._trial = False
        self._changed = trio.Event()

    @property
    def waiting(self) -> int:
        """Calls that wait for their place."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Calls that are under way."""
        return self._in_flight

    @property
    def idle(self) -> bool:
        """Whether the gate has nothing to remember."""
        self._forget()
        open_again = self._closed_until is None or self._closed_until <= trio.current_time()
        return open_again and not self._queue and not self._in_flight and not self._starts

    def close(self, seconds: float) -> None:
        """Let no call through for so long; one that is closed for longer stays so."""
        self._closed_until = max(self._closed_until or 0, trio.current_time() + seconds)

    def remember(self, starts: Iterable[float], limits: Limits) -> None:
        """Count calls that another process made; times are Trio's, and may lie before its beginning."""
        if limits.rate is not None:
            self._window = max(self._window, limits.rate.window / 1e9)
            self._starts = deque(sorted([*self._starts, *starts]))

    def leaves_now(self, entered: float) -> None:
        """A call that got its place then leaves only now: what a remote sees is what a rate must count."""
        if entered in self._starts:
            self._starts.remove(entered)
            self._starts.append(trio.current_time())

    @asynccontextmanager
    async def place(self, limits: Limits, wanted: Callable[[], bool]) -> AsyncGenerator[bool]:
        """A place among the calls in flight; False when the call is not wanted any more, and has none."""
        if not await self._enter(limits, wanted):
            yield False
            return
        closed = self._closed_until  # Then this is the one call that tries it.
        self._trial = closed is not None
        try:
            yield True
        finally:
            self._in_flight -= 1
            if closed is not None:
                self._trial = False
                if self._closed_until == closed:
                    self._closed_until = None
            self._changed.set()

    async def _enter(self, limits: Limits, wanted: Callable[[], bool]) -> bool:
        turn = trio.Event()
        self._queue[turn] = None
        try:
            if next(iter(self._queue)) is not turn:
                await turn.wait()
            while wanted():
                pause = self._pause(limits)
                if pause <= 0:
                    self._in_flight += 1
                    if limits.rate is not None:
                        self.entered = trio.current_time()
                        self._starts.append(self.entered)
                    return True
                self._changed = trio.Event()
                with trio.move_on_after(pause):
                    await self._changed.wait()
            return False
        finally:
            del self._queue[turn]
            if self._queue:
                next(iter(self._queue)).set()

    def _pause(self, limits: Limits) -> float:
        """How long the first in the queue must wait at least; zero when it may go."""
        if self._in_flight >= limits.concurrency or self._trial:
            return math.inf
        now = trio.current_time()
        if self._closed_until is not None and self._closed_until > now:
            return self._closed_until - now
        rate = limits.rate
        if rate is None:
            return 0
        self._window = max(self._window, rate.window / 1e9)
        self._forget()
        if len(self._starts) < rate.count:
            return 0
        return self._starts[-rate.count] + rate.window / 1e9 - now

    def _forget(self) -> None:
        begun = trio.current_time() - self._window
        while self._starts and self._starts[0] <= begun:
            self._starts.popleft()


class Gates:
    """A gate for each remote system, made when it is first called."""

    def __init__(self) -> None:
        self._gates: dict[Name, Gate] = {}

    def gate(self, cycle: str, remote: str, connector: Connector) -> Gate:
        """The gate of a remote, as `protocol.remotes.remote_of` names it.

        Connectors of one name and one base URL are one installation, whichever cycles use it.
        """
        shared = connector.base_url and " " not in remote
        name = ("", remote, connector.base_url) if shared else (cycle, remote, "")
        if name not in self._gates and len(self._gates) >= GATES_MAX:
            self._gates = {one: gate for one, gate in self._gates.items() if not gate.idle}
        return self._gates.setdefault(name, Gate())
