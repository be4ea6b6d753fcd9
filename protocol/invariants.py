"""What must be true of a state between any two turns: looked at by simulations, and by whoever doubts a store.

Each rule names the promise it guards, by its number in this list:

1. Nothing leaves before it is durable, and whoever waits is answered: a pass that is over has told its caller.
3. Every held or running transaction has a wake source: a hold, a timer, a call in flight, an operator's word, or an
   input that waits for its turn.
4. A hit and a hold meet whichever comes first: nothing is parked under what a transaction has reached.
5. Indexes and counts say what the rows say.
6. A delivery key names one hit. A finished transaction owns nothing, a finished hit no body.
8. What is kept for later is bounded.

The others are not about one state: who folds the journal twice, or looks at what left, guards them.

What is told names rows and never the values they match by, which may be somebody's secret.

Rules look at one row or entry, and ask `Seen` for what lies beside it. So a state in memory is looked at whole, after
each turn of a simulation, and a store of millions of rows in pieces.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol

from protocol.memory import MemoryState
from protocol.routing import PARKED_MAX, QUEUE_MAX
from protocol.state import CycleRow, HitRow, TransactionRow, transaction_name

Key = tuple[str, ...]
Window = Callable[[str, str], int]
FINAL = ("completed", "failed", "stopped")
MATCHED = ("reached", "parked", "collected")


class Seen(Protocol):
    """What rules ask of a state, as it was at one instant."""

    def transaction(self, one: int) -> TransactionRow | None:
        """The row of a transaction."""
        ...

    def hit(self, one: int) -> HitRow | None:
        """The row of a hit."""
        ...

    def has(self, name: str, key: Key, one: int) -> bool:
        """Whether an id is filed under a key."""
        ...

    def before(self, name: str, key: Key, one: int) -> int | None:
        """The latest id before one that is filed under the same key."""
        ...

    def any_filed(self, name: str, key: Key) -> bool:
        """Whether anything is filed under a key."""
        ...

    def runs(self, hit: int) -> int | None:
        """How many transactions have a pass in progress, or a call, that a hit is behind; None if that is not known."""
        ...

    def counts(self, cycle: str) -> Mapping[str, int]:
        """How many transactions of a cycle have which status, and under `parked` how many hits it keeps."""
        ...


def is_behind(row: TransactionRow) -> bool:
    """Whether the hit of a transaction is behind what it does now, so that it counts for `Seen.runs`."""
    return not row.alone and (row.status == "running" or row.call is not None)


class Picture:
    """A state in memory as `Seen`, not copied; of use until it changes."""

    def __init__(self, state: MemoryState) -> None:
        self.state = state
        self.filed = {(name, key): ids for name, key, ids in state.entries()}
        self._runs = Counter(row.hit for row in state.transactions.values() if is_behind(row))
        self._counts: dict[str, Counter[str]] = {}
        for row in state.transactions.values():
            self._counts.setdefault(row.cycle, Counter())[row.status] += 1
        for hit in state.hits.values():
            if hit.status in ("parked", "collected"):
                self._counts.setdefault(hit.cycle, Counter())["parked"] += 1

    def transaction(self, one: int) -> TransactionRow | None:
        return self.state.transactions.get(one)

    def hit(self, one: int) -> HitRow | None:
        return self.state.hits.get(one)

    def has(self, name: str, key: Key, one: int) -> bool:
        return one in self.filed.get((name, key), ())

    def before(self, name: str, key: Key, one: int) -> int | None:
        return max((other for other in self.filed.get((name, key), ()) if other < one), default=None)

    def any_filed(self, name: str, key: Key) -> bool:
        return (name, key) in self.filed

    def runs(self, hit: int) -> int | None:
        return self._runs[hit]

    def counts(self, cycle: str) -> Mapping[str, int]:
        return self._counts.get(cycle, Counter())


def broken(seen: Picture, ahead: Collection[int] = (), window: Window = lambda *_: 0) -> Iterator[str]:
    """Every rule that a state breaks, in words that name the row.

    Args:
        seen: the state.
        ahead: transactions for which an input waits in a mailbox.
        window: for how long, in nanoseconds, a webhook step of a cycle remembers a delivery key; 0 is for ever.
    """
    for row in seen.state.transactions.values():
        yield from broken_transaction(seen, row, ahead)
    for hit in seen.state.hits.values():
        yield from broken_hit(seen, hit)
    for cycle in seen.state.cycles.values():
        yield from broken_cycle(seen, cycle, ahead)
    for (name, key), ids in seen.filed.items():
        for one in ids:
            yield from broken_entry(seen, name, key, one, window)


def broken_transaction(seen: Seen, row: TransactionRow, ahead: Collection[int] = ()) -> Iterator[str]:
    """Every rule that a transaction breaks."""
    said = f"{transaction_name(row.cycle, row.id)} ({row.status} at {row.step})"
    yield from (f"{rule} [{said}]" for rule in _transaction(row, ahead))
    for step, key in row.reached.items():
        if not seen.has("reached", (row.cycle, step, *key), row.id):
            yield f"5: the index lacks what a request at {step} would find it by [{said}]"


def broken_hit(seen: Seen, hit: HitRow) -> Iterator[str]:
    """Every rule that a hit breaks."""
    yield from (f"{rule} [hit {hit.id} of {hit.cycle} ({hit.status})]" for rule in _hit(seen, hit))


def broken_cycle(seen: Seen, cycle: CycleRow, ahead: Collection[int] = ()) -> Iterator[str]:
    """Every rule that a cycle breaks."""
    yield from (f"{rule} [cycle {cycle.name} ({cycle.status})]" for rule in _cycle(seen, cycle, ahead))


def broken_entry(seen: Seen, name: str, key: Key, one: int, window: Window = lambda *_: 0) -> Iterator[str]:
    """Every rule that an entry of an index breaks."""
    if name in MATCHED and not _is_due(seen, name, key, one):
        place = "/".join(key[: 1 if name == "collected" else 2])
        yield f"5: the index {name} of {place} has {one}, and its row does not say so"
    if name == "delivery":
        yield from _delivered_twice(seen, key, one, window)


def _transaction(row: TransactionRow, ahead: Collection[int]) -> Iterator[str]:
    call = row.call
    match row.status:
        case "running":
            if call is None and not row.until and row.id not in ahead:
                yield "3: nothing will ever wake it"
            if call is not None and call.unknown:
                yield "3: it runs, but its call waits for a person"
        case "held":
            if row.step not in row.reached and (call is None or not call.unknown):
                yield "3: it holds where no request can reach it"
            if row.queue and call is None and row.id not in ahead:
                yield f"3: hits {row.queue} wait behind a pass that is over"
        case _:
            if call is not None or row.until or (row.queue and row.id not in ahead):
                has = "a call" if call is not None else "a timer" if row.until else f"the hits {row.queue}"
                yield f"6: it is finished and owns {has}"
            if row.reached and row.status != "completed":
                yield f"6: it is finished and can still be matched at {list(row.reached)}"
    if len(row.queue) > QUEUE_MAX:
        yield f"8: {len(row.queue)} hits wait behind it, of at most {QUEUE_MAX}"


def _hit(seen: Seen, hit: HitRow) -> Iterator[str]:
    if hit.delivery and not seen.has("delivery", (hit.cycle, hit.step, hit.delivery), hit.id):
        yield "6: its delivery key is forgotten"
    match hit.status:
        case "new":
            yield "3: it was accepted and has no place"
        case "queued":
            row = seen.transaction(hit.transaction)
            if row is None or hit.id not in row.queue:
                yield f"3: transaction {hit.transaction} does not have it in its queue"
        case "running":
            yield from _running_hit(seen, hit)
        case "parked" | "collected":
            yield from _kept_hit(seen, hit)
        case "done" | "expired" | "ignored":
            runs = seen.runs(hit.id)
            if runs:
                yield f"6: it is finished, and {runs} transactions run it"
            if hit.body or hit.headers:
                yield "6: it is finished and keeps its body"
            if hit.status == "done" and hit.wants_reply and hit.reply is None and not (hit.parked or hit.purged):
                yield "1: its pass is over and nobody answered its caller"


def _running_hit(seen: Seen, hit: HitRow) -> Iterator[str]:
    runs = seen.runs(hit.id)
    if runs is None:
        return
    if not runs:  # Its transaction may be gone while parts of it go on: retention removes each by itself.
        yield f"3: neither its transaction {hit.transaction} nor a part of it runs it"
    elif hit.branches not in (0, runs):
        yield f"5: it counts {hit.branches} parts, and {runs} are there"


def _kept_hit(seen: Seen, hit: HitRow) -> Iterator[str]:
    if not hit.until:
        yield "8: it is kept without end"
    key = (hit.cycle, hit.step, *hit.key)
    if hit.status == "collected":
        if not seen.has("collected", (hit.cycle,), hit.id):
            yield "5: the index lacks it, so no start would find it"
    elif not seen.has("parked", key, hit.id):
        yield "5: the index lacks it, so no transaction would find it"
    elif seen.any_filed("reached", key):
        yield f"4: it is parked at {hit.step} under what a transaction has reached"


def _cycle(seen: Seen, cycle: CycleRow, ahead: Collection[int]) -> Iterator[str]:
    counts = seen.counts(cycle.name)
    for status in ("running", "held", *FINAL):
        told, there = getattr(cycle, status), counts.get(status, 0)
        if told != there:
            yield f"5: it counts {told} {status}, and there are {there}"
    kept = counts.get("parked", 0)
    if cycle.parked != kept:
        yield f"5: it counts {cycle.parked} parked hits, and there are {kept}"
    if cycle.parked > PARKED_MAX:
        yield f"8: it keeps {cycle.parked} hits, of at most {PARKED_MAX}"
    waits = cycle.status == "running" and cycle.gathered and not cycle.running and not ahead
    if waits and not seen.any_filed("collected", (cycle.name,)):  # Kept hits are given their places first.
        yield f"3: transactions came to {list(cycle.gathered)}, and nothing that is on its way would go on"


def _is_due(seen: Seen, name: str, key: Key, one: int) -> bool:
    """Whether the row of an entry says what the entry says."""
    if name == "reached":
        row = seen.transaction(one)
        return row is not None and row.cycle == key[0] and row.reached.get(key[1]) == list(key[2:])
    hit = seen.hit(one)
    if hit is None or hit.status != name:
        return False
    return key == ((hit.cycle,) if name == "collected" else (hit.cycle, hit.step, *hit.key))


def _delivered_twice(seen: Seen, key: Key, one: int, window: Window) -> Iterator[str]:
    hit, earlier = seen.hit(one), None
    other = seen.before("delivery", key, one)
    while other is not None and (earlier := seen.hit(other)) is None:
        other = seen.before("delivery", key, other)
    if hit is None or earlier is None:
        return
    length = window(key[0], key[1])
    if not length or earlier.origin is not None or hit.at - earlier.at <= length:
        yield f"6: one delivery key at {key[0]}/{key[1]} names hits {earlier.id} and {one}"
