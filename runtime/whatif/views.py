"""Facts of a what-if as people read them, with sensitive fields masked."""

from typing import Any

from msgspec import Struct

from protocol import events as e
from protocol.events_redrive import CallWithheld, TransactionResumed
from protocol.state import transaction_name
from runtime.masking import Hidden


class Refusal(Struct, frozen=True):
    """The draft refuses a request that the record accepted."""

    hit: int
    cycle: str
    step: str
    status: int
    title: str
    detail: str


def shown(seq: int, fact: e.AnyEvent | Refusal, hidden: Hidden) -> dict[str, Any]:
    """A fact for reading.

    Args:
        seq: its number.
        fact: an event, or a refusal.
        hidden: what must not be shown of its cycle.
    """
    match fact:
        case Refusal():
            return {"place": "refused", "status": fact.status, "title": fact.title, "detail": fact.detail}
        case e.HitMatched(cycle=cycle, transaction=transaction, candidates=candidates):
            among = [transaction_name(cycle, one) for one in candidates]
            return {"place": "runs", "transaction": transaction_name(cycle, transaction), "ambiguous": among}
        case e.HitParked(reason=reason, key=key):
            return {"place": "parked", "reason": reason, "key": hidden.key("", key)}
        case e.HitExpired():
            return {"place": "expired"}
        case e.TransactionStarted(cycle=cycle):
            return {"place": "begins", "transaction": transaction_name(cycle, seq)}
        case e.TransactionSplit(cycle=cycle, transaction=parent, step=step, item=item):
            return {"parent": transaction_name(cycle, parent), "item": hidden.item(step, item)}
        case TransactionResumed(cycle=cycle, transaction=old, action=action, step=step):
            return {"place": "goes on", "action": action, "of": transaction_name(cycle, old), "at": step}
        case CallWithheld(step=step, request=request):
            said = hidden.request(step, request)
            return {name: said[name] for name in ("connector", "method", "url", "headers", "body")}
        case e.GatheringEnded(step=step, count=count):
            return {"gathered": count, "at": step}
        case e.DecisionTaken(target=target) | e.HoldExpired(target=target):
            return {"target": target}
        case e.CallIntended(step=step, request=request, link=link):
            said = hidden.request(step, request)
            told = {name: said[name] for name in ("connector", "method", "url", "headers", "body")}
            return {**told, "link": None if link is None else "/".join(link)}
        case e.ReplyBuilt(status=status, step=step, headers=headers, body=body):
            return {"status": status, **hidden.answer(step, headers, body)}
        case e.TransactionHeld(step=step, key=key):
            return {"status": "held", "at": step, "matches_by": hidden.key(step, key)}
        case e.TransactionFailed(step=step, reason=reason):
            return {"status": "failed", "at": step, "reason": reason}
        case e.TransactionCompleted() | e.TransactionStopped():
            return {"status": "completed" if isinstance(fact, e.TransactionCompleted) else "stopped"}
        case e.IncidentRaised(kind=kind, message=message, level=level):
            return {"kind": kind, "message": message, "level": level}
        case _:
            return {}
