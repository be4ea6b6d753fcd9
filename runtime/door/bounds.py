"""Bounds of many waits, kept by one task: a task and a cancel scope for each would cost more than the rest of it."""

from collections.abc import Callable

import trio


class Bounds:
    """Who waits until when. Waits of one length end in the order of their beginning: only the first is looked at."""

    def __init__(self, over: Callable[[int], None]) -> None:
        self._over = over
        self._until: dict[float, dict[int, float]] = {}
        self._next = float("inf")
        self._wake = trio.Event()

    def begin(self, name: int, within: float) -> None:
        """Someone waits for so many seconds from now on."""
        until = trio.current_time() + within
        self._until.setdefault(within, {})[name] = until
        if until < self._next:
            self._wake.set()

    def end(self, name: int, within: float) -> None:
        """He waits no longer."""
        waits = self._until.get(within, {})
        waits.pop(name, None)
        if not waits:
            self._until.pop(within, None)

    async def run(self) -> None:
        """Call `over` with the name of each whose time is over, until cancelled."""
        while True:
            self._wake = trio.Event()
            self._next = min((next(iter(waits.values())) for waits in self._until.values()), default=float("inf"))
            with trio.move_on_at(self._next):
                await self._wake.wait()
            now = trio.current_time()
            for within, waits in list(self._until.items()):
                for name in [name for name, until in waits.items() if until <= now]:
                    self.end(name, within)
                    self._over(name)
