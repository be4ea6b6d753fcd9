"""Who waits for a change of a transaction, and is woken once one is durable."""

from collections.abc import Iterable

import trio

from protocol.events import AnyEvent


class Watchers:
    """Tasks that wait, by transaction."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[trio.Event]] = {}

    def __len__(self) -> int:
        """How many transactions someone waits for."""
        return len(self._waiting)

    def wake(self, events: Iterable[AnyEvent]) -> None:
        """These events are durable."""
        if self._waiting:
            for transaction in {getattr(event, "transaction", 0) for event in events}:
                for watcher in self._waiting.pop(transaction, ()):
                    watcher.set()

    async def changed(self, transaction: int) -> None:
        """Wait for the next durable change of a transaction."""
        event = trio.Event()
        self._waiting.setdefault(transaction, []).append(event)
        try:
            await event.wait()
        finally:
            waiting = self._waiting.get(transaction)
            if waiting is not None and event in waiting:  # The wait was given up.
                waiting.remove(event)
                if not waiting:
                    del self._waiting[transaction]
