"""How a redrive makes the state (section 13); `protocol.evolve` is the front door.

1. What was redriven is left as it was: it learns what redrove it, and nothing else of it changes.
2. A redriven hit or transaction names where it comes from, and by which order.
3. An order acts on an item once: the index `redriven` files what it became under the order and the item.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from protocol.chain import chain_of
from protocol.events import TransactionFailed, TransactionStopped
from protocol.events_redrive import CallWithheld, HitRedriven, RedriveOrdered, TransactionResumed
from protocol.fold_hits import touch
from protocol.fold_moves import begin, move
from protocol.state import Lineage, OpenCall, Pending, Remains, State, TransactionRow

REDRIVEN_MAX = 20  # Redrives that a row names, the latest; each of them names what it comes from.


def redrive_ordered(state: State, event: RedriveOrdered, seq: int) -> None:
    """The items of a page of an order are in the journal, where this says."""
    state.file("ordered", (event.order,), seq)
    state.file("ordered", (event.order, "digest", event.digest), seq)
    state.file("ordered", (event.order, "page", event.page), seq)


def hit_redriven(state: State, event: HitRedriven, _seq: int) -> None:
    """The new hit and the original know of each other; retention may have removed the original's row."""
    hit = state.hit(event.hit)
    transaction = event.transaction
    with suppress(KeyError):
        original = state.hit(event.original)
        original.redriven = [*original.redriven, hit.id][-REDRIVEN_MAX:]
        transaction = transaction or original.transaction
        state.save(original)
    hit.lineage = Lineage(event.order, event.action, event.original, transaction)
    state.save(hit)
    item = event.original if event.action == "redeliver" else event.transaction
    state.file("redriven", (event.order, str(item)), hit.id)


def link_transactions(state: State, row: TransactionRow, lineage: Lineage | None) -> None:
    """A transaction that a redriven hit begins and the one it comes from know of each other."""
    row.lineage = lineage
    if lineage is None or not lineage.transaction:
        return
    with suppress(KeyError):
        old = state.transaction(lineage.transaction)
        old.redriven = [*old.redriven, row.id][-REDRIVEN_MAX:]
        state.save(old)


def transaction_resumed(state: State, event: TransactionResumed, seq: int) -> None:
    """A transaction begins with what the earlier one had; the call it stands at keeps its key if it may have acted."""
    old = state.transaction(event.transaction)
    remains = old.remains if event.action == "resume" else None
    pending = None if remains is None else remains.pending
    if pending is not None and event.definition_hash != old.definition_hash:
        pending = replace(pending, request=None)
    data = {step: old.data[step] for step in event.kept}
    if event.step in data and (remains is None or not remains.arrived):
        data[event.step] = {}  # In its old place: the order says what a later pass drops.
    row = TransactionRow(
        seq,
        event.cycle,
        event.definition_hash,
        event.at,
        event.at,
        old.depth,
        old.parent,
        step=event.step,
        number=event.number,
        hit=event.hit,
        data=data,
        reached=dict(event.reached),
        phase=old.phase,
        events=[seq, seq],
        trigger=old.trigger,
        split=0 if remains is None else remains.split,
        pending=pending,
        earlier=[one for one in (*old.earlier, old.definition_hash) if one != event.definition_hash],
        seen=dict(old.seen) if event.action == "resume" else {},
        parting=None if remains is None else remains.parting,
        arrived=remains is not None and remains.arrived,
        chain=chain_of(old),
        sampled=old.sampled,
    )
    for step, key in row.reached.items():
        state.file("reached", (row.cycle, step, *key), row.id)
    lineage: Lineage | None = Lineage(event.order, event.action, 0, old.id)
    if event.hit:
        hit = state.hit(event.hit)
        lineage = hit.lineage
        hit.status, hit.transaction, hit.number = "running", row.id, event.number
        state.save(hit)
    else:
        state.file("redriven", (event.order, str(old.id)), row.id)
    link_transactions(state, row, lineage)
    begin(state, row)


def call_withheld(state: State, event: CallWithheld, seq: int) -> None:
    """The call is open and unknown, as after a crash: a person says what it counts as."""
    row = touch(state, event, seq, event.transaction)
    row.call = OpenCall(event.step, 0, event.idempotency_key, event.request, None, unknown=True, acted=True)
    row.data[event.step] = {}
    row.pending = None
    move(state, row, "held")


def is_pending(row: TransactionRow, step: str) -> bool:
    """Whether a step is the resumed call whose outcome nobody has."""
    return row.pending is not None and row.pending.step == step


def may_have_acted(status: int, *, is_link: bool) -> bool:
    """Whether a remote that answered so may have done what it was asked.

    A refusal (4xx) says that it did not. So does any bad answer to a link, whose target's fate is known.
    """
    return status < 400 or (status >= 500 and not is_link)


def remains_of(row: TransactionRow, event: TransactionFailed | TransactionStopped) -> Remains:
    """What one that ends early leaves for one that resumes it."""
    pending, call = row.pending, row.call
    if call is not None:
        in_flight = isinstance(event, TransactionStopped) and not row.until and call.left
        pending = Pending(call.step, call.idempotency_key, call.request) if call.acted or in_flight else None
    return Remains(dict(row.reached), row.split, pending, row.parting, row.arrived)


REDRIVE_HANDLERS: dict[type, Callable[[State, Any, int], None]] = {
    RedriveOrdered: redrive_ordered,
    HitRedriven: hit_redriven,
    TransactionResumed: transaction_resumed,
    CallWithheld: call_withheld,
}
