"""Journaled events as people read them: by name, bytes as text, and what is sensitive masked."""

from typing import Any

import msgspec

from protocol import events as e
from protocol.events_redrive import CallWithheld, TransactionResumed
from runtime.masking import Hidden


def event_view(seq: int, event: e.AnyEvent, hidden: Hidden) -> dict[str, Any]:
    """An event for reading: its number, its name and its fields.

    Args:
        seq: its place in the journal.
        event: the event.
        hidden: what must not be shown of its cycle.
    """
    fields = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else msgspec.to_builtins(value)
        for name, value in ((name, getattr(event, name)) for name in event.__struct_fields__)
    }
    return {"seq": seq, "event": type(event).__name__, **fields, **_masked(event, hidden)}


def _masked(event: e.AnyEvent, hidden: Hidden) -> dict[str, Any]:
    """The fields of an event that hold data of the cycle's steps."""
    match event:
        case e.HitAccepted(step=step, body=body, content_type=content_type, query=query, delivery=delivery):
            return {
                "body": hidden.body(step, body, content_type),
                "query": hidden.query(step, query),
                "delivery": hidden.delivery(step, delivery),
            }
        case e.HitParked(key=key):
            return {"key": hidden.key("", key)}
        case e.HitMatched(mark=mark):
            return {"mark": hidden.mark("", mark)}
        case e.HitIgnored(mark=mark, seen=seen):
            return {"mark": hidden.mark("", mark), "seen": hidden.mark("", seen)}
        case e.TransactionHeld(step=step, key=key):
            return {"key": hidden.key(step, key)}
        case e.TransactionMoved(keys=keys):
            return {"keys": {step: hidden.key(step, key) for step, key in keys.items()}}
        case e.StepCompleted(step=step, data=data) | e.RequestArrived(step=step, data=data):
            return {"data": hidden.data(step, data)}
        case e.CallIntended(step=step, request=request):
            return {"request": hidden.request(step, request)}
        case e.CallAnswered(step=step, headers=headers, body=body):
            return {"body": hidden.body(step, body, headers.get("content-type", ""))}
        case e.TransactionSplit(step=step, item=item):
            return {"item": hidden.item(step, item)}
        case TransactionResumed(reached=reached):
            return {"reached": {step: hidden.key(step, key) for step, key in reached.items()}}
        case CallWithheld(step=step, request=request):
            return {"request": hidden.request(step, request)}
        case e.ReplyBuilt(step=step, headers=headers, body=body):
            return hidden.answer(step, headers, body)
        case _:
            return {}
