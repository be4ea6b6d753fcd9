"""Numbers for what the draft begins: those of the record where it began the same, else new ones."""

from collections import deque

from protocol import events as e
from protocol.events_redrive import TransactionResumed

Name = tuple[object, ...]


class Names:
    """The numbers of transactions by what began them: a hit, an item of a list, or the end of a gathering."""

    def __init__(self, first_free: int) -> None:
        self.free = first_free
        self._known: dict[Name, deque[int]] = {}
        self._items: dict[int, list[Name]] = {}  # By the transaction that was split.

    def learn(self, seq: int, event: e.AnyEvent) -> None:
        """The record numbers an event."""
        name = _name(event)
        if name is not None:
            self._known.setdefault(name, deque()).append(seq)
            if isinstance(event, e.TransactionSplit):
                self._items.setdefault(event.transaction, []).append(name)

    def take(self, event: e.AnyEvent) -> int:
        """The number of an event of the draft."""
        known = self._known.get(_name(event) or ())
        if not known:
            return self.next_free()
        number = known.popleft()
        if not known:
            del self._known[_name(event) or ()]
        return number

    def next_free(self) -> int:
        """A number behind the end of the journal."""
        self.free += 1
        return self.free - 1

    def refused(self, hit: int) -> None:
        """The draft begins nothing for this request."""
        self._known.pop(("hit", hit), None)

    def forget(self, transaction: int) -> None:
        """A transaction of the draft makes no calls now: what the record split of it, the draft does not."""
        for name in self._items.pop(transaction, ()):
            self._known.pop(name, None)


def _name(event: e.AnyEvent) -> Name | None:
    match event:
        case e.TransactionStarted(hit=hit):
            return "hit", hit
        case e.TransactionSplit(transaction=parent, step=step, index=index):
            return parent, step, index
        case e.GatheringEnded(cycle=cycle, step=step):
            return cycle, step
        case e.CycleOnceTaken(cycle=cycle, hit=hit):
            return "once", cycle, hit
        case TransactionResumed(transaction=transaction, order=order):
            return order, transaction
        case _:
            return None
