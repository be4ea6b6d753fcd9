"""Redrive as the server does it (section 13): items chosen once, their requests read from the journal, one by one.

1. The items of a page are fixed in the journal before any of them is redriven. An order that a crash cut short is given
   again under its name, and goes on with the very same items.
2. Each item is an input of its cycle, put when the one before it is durable: an order never fills a mailbox.
3. The store drops the body and the headers of a request when its pass has ended, so they are read where they stay, in
   the journal, until retention removes them.
"""

from typing import Literal

import msgspec
import trio
from msgspec import Struct

from journal import LOCAL_PARTITION, JournalError, JournalTrimmed, LogReader
from protocol.events import AnyEvent, HitAccepted
from protocol.events_redrive import RedriveAction, RedriveOrdered
from protocol.inputs import Ordered, OrderRedrive, Redrive, Redriven, Refused
from protocol.redrive import done_before, refusal_of
from protocol.redrive_items import Item, item_of, redrive_of
from protocol.state import transaction_name
from runtime.engine import Engine
from runtime.metering import QuotaReached
from runtime.ticket import Overloaded

_events = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_event = msgspec.msgpack.Decoder(AnyEvent).decode


class Gone(Exception):
    """What stood in the journal can not be read any more."""


class Order(Struct, frozen=True, kw_only=True):
    """What is asked for, whatever the items turn out to be.

    Attributes:
        name: under which it acts on an item once; "" for a preview.
        page: which of its pages.
        digest: of what was asked; the same for all pages.
        current: whether to run the current definition, and not the one of the time.
        again: whether to redrive what another order redrove.
    """

    name: str
    page: str
    action: RedriveAction
    digest: str
    current: bool
    again: bool


class Told(Struct, frozen=True, kw_only=True):
    """What became of one item, or would become of it.

    Attributes:
        item: the hit's number, or the transaction's name.
        outcome: `already` when the same order did so before; `possible` in a preview.
        step: where it goes on.
        hit: the hit that it is now.
        transaction: where that went; None when it is parked.
        reason: why it was refused.
    """

    item: int | str
    outcome: Literal["done", "already", "refused", "possible"]
    step: str = ""
    hit: int | None = None
    transaction: str | None = None
    reason: str | None = None


def read_event(journal: LogReader, seq: int) -> AnyEvent:
    """The event of a sequence number. Blocks; the frame is walked, and this event alone is decoded.

    Raises:
        Gone: it is not there, or can not be read; says why.
    """
    try:
        for frame in journal.read(LOCAL_PARTITION, seq - 1, seq):
            if frame.base_seq <= seq < frame.base_seq + frame.count:
                event: AnyEvent = _event(_events(frame.payload)[seq - frame.base_seq])
                return event
    except JournalTrimmed as trimmed:
        raise Gone(f"retention has removed number {seq}: the journal begins at {trimmed.first_seq} now") from None
    except JournalError as fault:
        raise Gone(f"number {seq} can not be read from the journal: {fault}") from None
    raise Gone(f"the journal has no number {seq}")


async def fixed(engine: Engine, order: Order, items: list[int], after: int) -> RedriveOrdered | Refused:
    """Fix the items of a page, unless they are; returns the event that has those which stand."""
    given = OrderRedrive("", engine.clock(), order.name, order.page, order.action, order.digest, tuple(items), after)
    verdict = (await engine.order(given).decided()).verdict
    if isinstance(verdict, Refused):
        return verdict
    assert isinstance(verdict, Ordered), "an order is fixed or refused"
    try:
        event = await trio.to_thread.run_sync(read_event, engine.journal, verdict.seq)
    except Gone as gone:
        return Refused(410, "Order is too old", f"{gone}: give what is left of it a new name")
    assert isinstance(event, RedriveOrdered), "the index `ordered` names such events"
    return event


async def redrive_item(engine: Engine, order: Order, number: int, *, preview: bool) -> Told:
    """Redrive one item, or say what would become of it."""
    try:
        item = item_of(engine.state, order.action, number, current=order.current)
    except KeyError:
        return Told(item=number, outcome="refused", reason="retention has removed it")
    name = number if order.action == "redeliver" else transaction_name(item.cycle, number)
    done = done_before(engine.state, order.name, number)
    if done is None:
        given = await _prepared(engine, order, item)
        verdict = given if isinstance(given, Refused) else await _decided(engine, given, preview=preview)
    else:
        verdict = done
    if verdict is None:
        return Told(item=name, outcome="possible", step=item.step)
    if isinstance(verdict, Refused):
        return Told(item=name, outcome="refused", step=item.step, reason=f"{verdict.title}: {verdict.detail}")
    return Told(
        item=name,
        outcome="already" if verdict.already else "done",
        step=item.step,
        hit=verdict.hit or None,
        transaction=transaction_name(item.cycle, verdict.transaction) if verdict.transaction else None,
    )


async def _prepared(engine: Engine, order: Order, item: Item) -> Redrive | Refused:
    """The input of an item, with its request as the journal has it."""
    original: HitAccepted | None = None
    if item.original:
        await engine.committer.flushed()  # What the state has may be newer than what can be read.
        try:
            event = await trio.to_thread.run_sync(read_event, engine.journal, item.original)
        except Gone as gone:
            if item.needed:
                return Refused(410, "The request is gone", str(gone))
        else:
            assert isinstance(event, HitAccepted), "the number of a hit is that of its event"
            original = event
    return redrive_of(
        engine.state,
        item,
        original,
        engine.clock(),
        order=order.name,
        action=order.action,
        again=order.again,
    )


async def _decided(engine: Engine, given: Redrive, *, preview: bool) -> Redriven | Refused | None:
    if preview:
        return refusal_of(engine.state, given)
    try:
        verdict = (await engine.accept(given).decided()).verdict
    except (Overloaded, QuotaReached) as full:
        return Refused(503, "Not now", f"{full}; give the order again then")
    assert isinstance(verdict, Redriven | Refused), "a redrive is done or refused"
    return verdict
