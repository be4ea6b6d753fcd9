"""Rows as people read them, the same in the API, in a replay and on the command line, with sensitive fields masked."""

from collections.abc import Iterable, Mapping
from typing import Any

from protocol.chain import chain_of
from protocol.state import HitRow, IncidentRow, Lineage, OpenCall, TransactionRow, transaction_name
from runtime.clock import instant
from runtime.masking import Hidden


def followed_view(row: TransactionRow) -> dict[str, Any]:
    """Where a transaction is, as whoever made its request may know it."""
    return {
        "transaction": transaction_name(row.cycle, row.id),
        "cycle": row.cycle,
        "status": row.status,
        "pass": row.number,
        "held_at": row.step if row.status == "held" else None,
        "started": instant(row.created),
        "updated": instant(row.updated),
    }


def status_view(row: TransactionRow) -> dict[str, Any]:
    """Where a transaction is, and why it failed."""
    return {**followed_view(row), "reason": row.reason or None}


def transaction_view(
    row: TransactionRow,
    hits: Iterable[HitRow],
    incidents: Iterable[IncidentRow],
    hidden: Hidden,
    later: Iterable[HitRow] = (),
) -> dict[str, Any]:
    """Everything known of a transaction.

    Args:
        row: the transaction.
        hits: those that were given to it.
        incidents: those about it, in their order.
        hidden: what must not be shown of its cycle.
        later: the hits that were one of those again.
    """
    hits = list(hits)
    again = {hit.id: hit for hit in later}
    ranges = [[first, last] for first, last in zip(row.events[::2], row.events[1::2], strict=True)]
    parent = row.parent if row.parent is not None and row.parent.transaction else None  # An alert may have none.
    return {
        **status_view(row),
        "step": row.step,
        "chain": chain_of(row),
        "depth": row.depth,
        "hash": row.definition_hash,
        "hold_until": instant(row.until),
        "timers": [*_own_timer(row), *(timer for hit in hits for timer in _answer_timer(hit))],
        "matches_by": {step: hidden.key(step, key) for step, key in row.reached.items()},
        "newest": {field: hidden.mark(field.partition(".")[0], mark) for field, mark in row.seen.items()},
        "steps": hidden.steps(row.data),
        "passes": [_pass_view(hit, again) for hit in sorted(hits, key=_pass_order)],
        "queue": row.queue,
        "call": None if row.call is None else _call_view(row.call, hidden),
        "parent": None if parent is None else transaction_name(parent.cycle, parent.transaction),
        "children": row.children,
        "redrives": _lineage_view(row.cycle, row.lineage),
        "redriven": [transaction_name(row.cycle, one) for one in row.redriven],
        "incidents": [_incident_view(one) for one in incidents],
        "events": ranges,
    }


def _own_timer(row: TransactionRow) -> list[dict[str, Any]]:
    """What a transaction waits for that time brings by itself."""
    if not row.until:
        return []
    kind = "hold" if row.status == "held" else "patience" if row.waits in ("limited", "remote") else row.waits
    return [{"for": kind, "due": instant(row.until), "hit": None}]


def _answer_timer(hit: HitRow) -> list[dict[str, Any]]:
    """Until when a caller waits for his answer."""
    if hit.fate != "waiting" or not hit.answer_by:
        return []
    return [{"for": "answer", "due": instant(hit.answer_by), "hit": hit.id}]


def _call_view(call: OpenCall, hidden: Hidden) -> dict[str, Any]:
    """The open call of a pass; `unknown` when a crash took its outcome and a person must say what it was."""
    request = hidden.request(call.step, call.request)
    return {
        "step": call.step,
        "attempt": call.attempt,
        "unknown": call.unknown,
        "idempotency_key": call.idempotency_key,
        "method": request["method"],
        "url": request["url"],
        "link": None if call.link is None else "/".join(call.link),
        "failures": call.failures,
        "refusals": call.refusals,
    }


def _pass_order(hit: HitRow) -> tuple[bool, int, int]:
    """A hit that was parked is older than its pass; one that waits for its pass has none yet, and comes last."""
    return not hit.number, hit.number, hit.id


def _lineage_view(cycle: str, lineage: Lineage | None) -> dict[str, Any] | None:
    """What something redrives, by which order."""
    if lineage is None:
        return None
    return {
        "action": lineage.action,
        "order": lineage.order,
        "hit": lineage.hit or None,
        "transaction": transaction_name(cycle, lineage.transaction) if lineage.transaction else None,
    }


def _again_view(hit: int, again: Mapping[int, HitRow]) -> dict[str, Any]:
    """The hit that one was again, and where that went, if it is still kept."""
    row = again.get(hit)
    where = None if row is None or not row.transaction else transaction_name(row.cycle, row.transaction)
    return {"hit": hit, "transaction": where}


def _pass_view(hit: HitRow, again: Mapping[int, HitRow]) -> dict[str, Any]:
    return {
        "pass": hit.number,
        "hit": hit.id,
        "step": hit.step,
        "status": hit.status,
        "received": instant(hit.at),
        "candidates": [transaction_name(hit.cycle, one) for one in _candidates(hit)],
        "ambiguous": [transaction_name(hit.cycle, one) for one in hit.candidates],
        "reply": None if hit.reply is None else hit.reply.status,
        "fate": hit.fate,
        "redrives": _lineage_view(hit.cycle, hit.lineage),
        "redriven": [_again_view(one, again) for one in hit.redriven],
    }


def _candidates(hit: HitRow) -> list[int]:
    """The transactions that a hit matched; none for a trigger's, which begins its own."""
    return hit.candidates or ([hit.transaction] if hit.number != 1 else [])


def _incident_view(row: IncidentRow) -> dict[str, Any]:
    return {
        "time": instant(row.at),
        "step": row.step,
        "kind": row.kind,
        "message": row.message,
        "level": row.level,
        "detail": row.detail,
    }


def listed_incident_view(row: IncidentRow) -> dict[str, Any]:
    """An incident among those of all cycles."""
    name = transaction_name(row.cycle, row.transaction) if row.transaction else None
    return {"id": row.id, "cycle": row.cycle, "transaction": name, **_incident_view(row)}


def parked_view(row: HitRow, hidden: Hidden) -> dict[str, Any]:
    """A hit that waits."""
    return {
        "hit": row.id,
        "cycle": row.cycle,
        "step": row.step,
        "key": hidden.key(row.step, row.key),
        "reason": "early" if row.status == "parked" else "stopped",
        "received": instant(row.at),
        "until": instant(row.until),
    }
