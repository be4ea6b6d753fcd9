"""What an item of a redrive stands for: the request behind it, read again from what the journal has of it.

A redelivered or rerun request meets the checks of the version that takes it, as it would at the door. It carries no
delivery key, since its order is what makes it happen once, and nobody waits for its answer. Its signature was checked
when it came, and the header that held it was not kept.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from protocol.admission import Incoming, admit
from protocol.chain import Chain
from protocol.events import HitAccepted
from protocol.events_redrive import RedriveAction
from protocol.inputs import Hit, Redrive, Refused
from protocol.program import Program
from protocol.state import Lineage, Reply, State, TransactionRow


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item of an order, looked at in the state: which request is behind it, and which version would run.

    Attributes:
        id: a hit to redeliver, or a transaction.
        original: the hit to read from the journal, 0 for none.
        needed: whether the item is nothing without it.
        delivered: whether it is taken as at the door; else it only goes along with data that stands already.
        version: the hash of the definition to run.
        transaction: what is resumed or rerun, or what the hit went to; 0 for none.
        step: where it goes on.
    """

    id: int
    cycle: str
    original: int
    needed: bool
    delivered: bool
    version: str
    transaction: int
    step: str


def item_of(state: State, action: RedriveAction, item: int, *, current: bool) -> Item:
    """Look at an item; raises `KeyError` when the state does not have it (any more)."""
    if action == "redeliver":
        hit = state.hit(item)
        version = state.cycle(hit.cycle).definition_hash
        return Item(
            id=item,
            cycle=hit.cycle,
            original=item,
            needed=True,
            delivered=True,
            version=version,
            transaction=hit.transaction,
            step=hit.step,
        )
    row = state.transaction(item)
    version = state.cycle(row.cycle).definition_hash if current else row.definition_hash
    delivered = action == "rerun" and row.trigger != 0
    start = state.program(version).trigger if delivered else born_at(row)
    return Item(
        id=item,
        cycle=row.cycle,
        original=row.trigger if delivered else row.hit,
        needed=delivered or "hit" in state.program(version).mentions,
        delivered=delivered,
        version=version,
        transaction=row.id,
        step=row.step if action == "resume" else start,
    )


def born_at(row: TransactionRow) -> str:
    """The `split` or the `wait_all` that began a transaction which no trigger began."""
    return row.phase if row.parent is None else row.parent.step


def redrive_of(
    state: State, item: Item, original: HitAccepted | None, at: int, *, order: str, action: RedriveAction, again: bool
) -> Redrive | Refused:
    """The input that redrives an item, or why its request is not taken any more.

    Args:
        state: has the version that runs.
        item: what is redriven.
        original: the request behind it, None when there is none or it is gone.
        at: now.
        order: who orders it.
        action: what is done.
        again: whether to redrive what was redriven before.
    """
    hit: Hit | Refused | None = None
    if original is not None:
        lineage = Lineage(order, action, item.original, item.transaction)
        program = state.program(item.version)
        hit = _admitted(program, original, at, lineage) if item.delivered else _as_it_came(original, at, lineage)
    if isinstance(hit, Refused):
        return hit
    return Redrive(
        cycle=item.cycle, at=at, order=order, action=action, item=item.id, version=item.version, hit=hit, again=again
    )


def _admitted(program: Program, original: HitAccepted, at: int, lineage: Lineage) -> Hit | Refused:
    step = original.step
    if lineage.action == "rerun" and step != program.trigger:
        return Refused(404, "No such trigger", f"{step} does not begin transactions in the version that would run")
    request = Incoming(
        method=original.method,
        headers=original.headers,
        query=original.query,
        body=original.body,
        at=at,
        depth=original.depth,
        chain=_chain(original),
    )
    try:
        admitted = admit(program, step, request)
    except KeyError:
        return Refused(404, "No such webhook", f"the current version has no webhook step {step}")
    if isinstance(admitted, Reply):
        return _refused(admitted)
    return replace(admitted, delivery="", digest="", wants_reply=False, answer_by=0, lineage=lineage)


def _refused(reply: Reply) -> Refused:
    """A refusal of the door, with every fault it names."""
    said: dict[str, Any] = msgspec.json.decode(reply.body)
    faults = "; ".join(f"{one['where']}: {one['rule']}, found {one['found']}" for one in said.get("faults", ()))
    return Refused(reply.status, said["title"], faults or said["detail"])


def _chain(original: HitAccepted) -> Chain:
    return Chain(original.chain, original.signed, original.sampled)


def _as_it_came(original: HitAccepted, at: int, lineage: Lineage) -> Hit:
    """A request of which only the raw form is needed: its data stands in the transaction already."""
    return Hit(
        cycle=original.cycle,
        step=original.step,
        at=at,
        method=original.method,
        headers=original.headers,
        query=original.query,
        body=original.body,
        content_type=original.content_type,
        data={},
        key=(),
        delivery="",
        digest="",
        wants_reply=False,
        depth=original.depth,
        chain=_chain(original),
        lineage=lineage,
    )
