"""What must be true of a state between any two turns: looked at by simulations, and by whoever doubts a store.

Each rule names the promise it guards, by its number in this list:

3. Every held or running transaction has a wake source: a hold, a timer, a call in flight, an operator's word, or an
   input that waits for its turn.
4. A hit and a hold meet whichever comes first: nothing is parked under what a transaction has reached.
5. Indexes and counts say what the rows say.
6. A delivery key names one hit. A finished transaction owns nothing, a finished hit no body.
8. What is kept for later is bounded.

The others are not about one state: who folds the journal twice, or looks at what left, guards them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise

from msgspec import Struct

from protocol.memory import MemoryState
from protocol.routing import PARKED_MAX, QUEUE_MAX
from protocol.state import CycleRow, HitRow, TransactionRow

Filed = tuple[str, tuple[str, ...], int]
FINAL = ("completed", "failed", "stopped")
MATCHED = ("reached", "parked", "collected")


class Picture(Struct, frozen=True):
    """All rows and index entries at one instant."""

    cycles: dict[str, CycleRow]
    transactions: dict[int, TransactionRow]
    hits: dict[int, HitRow]
    filed: set[Filed]


def picture(state: MemoryState) -> Picture:
    """The rows of a state in memory, not copied."""
    filed = {(name, key, one) for name, key, ids in state.entries() for one in ids}
    return Picture(state.cycles, state.transactions, state.hits, filed)


def broken(
    seen: Picture, ahead: Collection[int] = (), window: Callable[[str, str], int] = lambda *_: 0
) -> Iterator[str]:
    """Every rule that a state breaks, in words that name the row.

    Args:
        seen: the state.
        ahead: transactions for which an input waits in a mailbox.
        window: for how long, in nanoseconds, a webhook step of a cycle remembers a delivery key; 0 is for ever.
    """
    for row in seen.transactions.values():
        yield from (f"{row.cycle}-{row.id} ({row.status} at {row.step}): {said}" for said in _transaction(row, ahead))
    shared = (row for row in seen.transactions.values() if row.status == "running" or row.call is not None)
    run = Counter(row.hit for row in shared if not row.alone)
    for hit in seen.hits.values():
        yield from (f"hit {hit.id} of {hit.cycle} ({hit.status}): {said}" for said in _hit(seen, hit, run))
    for cycle in seen.cycles.values():
        yield from (f"cycle {cycle.name} ({cycle.status}): {said}" for said in _cycle(seen, cycle, ahead))
    yield from _filed(seen)
    yield from _deliveries(seen, window)


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
                yield f"6: it is finished and owns a call, a timer or a queue: {call}, {row.until}, {row.queue}"
            if row.reached and row.status != "completed":
                yield f"6: it is finished and can still be matched at {list(row.reached)}"
    if len(row.queue) > QUEUE_MAX:
        yield f"8: {len(row.queue)} hits wait behind it, of at most {QUEUE_MAX}"


def _hit(seen: Picture, hit: HitRow, run: Counter[int]) -> Iterator[str]:
    row = seen.transactions.get(hit.transaction)
    match hit.status:
        case "new":
            yield "3: it was accepted and has no place"
        case "queued":
            if row is None or hit.id not in row.queue:
                yield f"3: transaction {hit.transaction} does not have it in its queue"
        case "running":
            if row is None:
                yield f"3: its transaction {hit.transaction} does not exist"
            elif not run[hit.id]:
                yield f"3: neither its transaction {hit.transaction} nor a part of it runs it"
            elif hit.branches not in (0, run[hit.id]):
                yield f"5: it counts {hit.branches} parts, and {run[hit.id]} are there"
        case "parked" | "collected":
            if not hit.until:
                yield "8: it is kept without end"
        case "done" | "expired" | "ignored":
            if run[hit.id]:
                yield f"6: it is finished, and {run[hit.id]} transactions run it"
            if hit.body or hit.headers:
                yield "6: it is finished and keeps its body"
            if hit.status == "done" and hit.wants_reply and hit.reply is None and not hit.parked:
                yield "1: its pass is over and nobody answered its caller"
        case _:
            pass


def _cycle(seen: Picture, cycle: CycleRow, ahead: Collection[int]) -> Iterator[str]:
    counts: Counter[str] = Counter(row.status for row in seen.transactions.values() if row.cycle == cycle.name)
    told = {status: getattr(cycle, status) for status in ("running", "held", *FINAL)}
    if told != {status: counts[status] for status in told}:
        yield f"5: it counts {told}, and there are {dict(counts)}"
    kept = sum(hit.cycle == cycle.name and hit.status in ("parked", "collected") for hit in seen.hits.values())
    if cycle.parked != kept:
        yield f"5: it counts {cycle.parked} parked hits, and there are {kept}"
    if cycle.parked > PARKED_MAX:
        yield f"8: it keeps {cycle.parked} hits, of at most {PARKED_MAX}"
    if cycle.status == "running" and cycle.gathered and not cycle.running and not ahead:
        yield f"3: transactions came to {list(cycle.gathered)}, and nothing that is on its way would go on"


def _filed(seen: Picture) -> Iterator[str]:
    there = {entry for entry in seen.filed if entry[0] in MATCHED}
    due = set(_due_entries(seen))
    yield from (f"5: the index has {entry}, and its row does not say so" for entry in there - due)
    yield from (f"5: the index lacks {entry}" for entry in due - there)
    reached = {key for name, key, _ in due if name == "reached"}
    for name, key, hit in due:
        if name == "parked" and key in reached:
            yield f"4: hit {hit} is parked under {key}, which a transaction has reached"


def _due_entries(seen: Picture) -> Iterator[Filed]:
    for row in seen.transactions.values():
        yield from (("reached", (row.cycle, step, *key), row.id) for step, key in row.reached.items())
    for hit in seen.hits.values():
        if hit.status == "parked":
            yield "parked", (hit.cycle, hit.step, *hit.key), hit.id
        elif hit.status == "collected":
            yield "collected", (hit.cycle,), hit.id


def _deliveries(seen: Picture, window: Callable[[str, str], int]) -> Iterator[str]:
    named: dict[tuple[str, ...], list[int]] = {}
    for name, key, one in seen.filed:
        if name == "delivery":
            named.setdefault(key, []).append(one)
    for hit in seen.hits.values():
        if hit.delivery and hit.id not in named.get((hit.cycle, hit.step, hit.delivery), ()):
            yield f"6: the delivery key of hit {hit.id} is forgotten"
    for key, hits in named.items():
        yield from (f"6: {key} names hits {one} and {other}" for one, other in _too_near(seen, key, hits, window))


def _too_near(
    seen: Picture, key: tuple[str, ...], hits: Iterable[int], window: Callable[[str, str], int]
) -> Iterator[tuple[int, int]]:
    rows = [seen.hits[one] for one in sorted(hits) if one in seen.hits]
    length = window(key[0], key[1])
    for one, other in pairwise(rows):
        if not length or one.origin is not None or other.at - one.at <= length:
            yield one.id, other.id
