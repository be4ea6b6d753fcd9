"""Verdicts as answers: what a caller is told at once, over HTTP and over links alike."""

from collections.abc import Callable
from typing import Any

from protocol.answers import json_reply, problem
from protocol.inputs import Accepted, Ignored, Parked, Refused, Resumed, Verdict
from protocol.state import HitRow, Reply, State, transaction_name

EXPIRED = Refused(410, "The request has expired", "nothing came for it in the time it was kept")


def first_verdict(hit: HitRow) -> Verdict:
    """What the first delivery of a hit was told, so that a repeat is told the same."""
    if hit.status == "expired" and not hit.parked:
        return EXPIRED
    if hit.parked or not hit.transaction:  # Without one it lost its place, and looks for another.
        return Parked(hit.id, hit.until)
    if hit.status == "ignored":
        return Ignored(hit.id, hit.transaction)
    if hit.number == 1:  # A trigger's pass begins with its transaction, and is the first.
        return Accepted(hit.id, hit.transaction)
    return Resumed(hit.id, hit.transaction, tuple(hit.candidates))


def verdict_reply(state: State, verdict: Verdict, status_url: Callable[[int], str]) -> Reply:
    """The answer that a verdict is; `status_url` gives the address at which a hit can be followed."""
    match verdict:
        case Accepted(hit=hit, transaction=transaction):
            name = transaction_name(state.hit(hit).cycle, transaction)
            body: dict[str, Any] = {"status": "accepted", "transaction": name, "hit": hit}
        case Parked(hit=hit, until=until):
            body = {"status": "parked", "hit": hit, "until": until // 1_000_000}
        case Ignored(hit=hit, transaction=transaction):
            name = transaction_name(state.hit(hit).cycle, transaction)
            body = {"status": "ignored", "transaction": name, "hit": hit}
        case Resumed(hit=hit, transaction=transaction, candidates=candidates):
            cycle = state.hit(hit).cycle
            body = {"status": "resumed", "transaction": transaction_name(cycle, transaction), "hit": hit}
            if candidates:
                body["ambiguous"] = [transaction_name(cycle, one) for one in candidates]
        case Refused(status=status, title=title, detail=detail):
            headers = {"retry-after": "1"} if status == 503 else None
            return problem(status, title, detail, headers=headers)
        case _:
            return json_reply(200, verdict)
    body["status_url"] = url = status_url(hit)
    return json_reply(202, body, {"location": url})
