"""What must leave the process because of a turn, once the turn is durable.

An outbox is derived from the events of a turn and the state right after it, so a restart derives the rest from the
state: open calls are repeated, timers are read from the rows, and replies are found by whoever asks for them.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from msgspec import Struct

from protocol.events import (
    AnyEvent,
    CallIntended,
    CycleStarted,
    HitExpired,
    HitIgnored,
    HitParked,
    IncidentRaised,
    ReplyBuilt,
    TransactionHeld,
    WaitStarted,
)
from protocol.events_leaving import AlertIntended
from protocol.inputs import (
    Accepted,
    CallAnswer,
    CallEnded,
    HoldDue,
    Ignored,
    ParkDue,
    Parked,
    Resumed,
    Verdict,
)
from protocol.program import HOOK, SCRIPT
from protocol.remotes import remote_of
from protocol.state import HitRow, Reply, State
from protocol.turn import Decision, scope
from protocol.verdicts import EXPIRED, verdict_reply


class SendReply(Struct, frozen=True):
    """Give an answer to the callers who wait for this hit."""

    hit: int
    reply: Reply


class PerformCall(Struct, frozen=True):
    """Send a request to a remote system, hand it to another cycle, or call a function of the project with `data`."""

    call: CallIntended
    number: int
    depth: int
    data: dict[str, Any] | None = None


class AnswerLink(Struct, frozen=True):
    """Give the answer of a linked cycle to the step that waits for it."""

    ended: CallEnded


class ArmTimer(Struct, frozen=True):
    """Put an input to its cycle when its `at` has come."""

    due: HoldDue | ParkDue


class CloseGate(Struct, frozen=True):
    """Make no call to a remote until then: it asked for patience."""

    cycle: str
    remote: str
    until: int


class SendAlert(Struct, frozen=True):
    """Tell somebody of the incidents of the alert that is under way in a cycle."""

    cycle: str
    incidents: list[int]


class RearmTimers(Struct, frozen=True):
    """A cycle started: timers that came due while it was stopped are due now."""

    cycle: str


class Report(Struct, frozen=True):
    """Tell the log about an incident."""

    incident: IncidentRaised


Effect = SendReply | PerformCall | AnswerLink | ArmTimer | CloseGate | RearmTimers | SendAlert | Report


def outbox(state: State, decision: Decision, status_url: Callable[[int], str]) -> list[Effect]:
    """The effects of a turn, in the order of its events."""
    effects: list[Effect] = []
    for event in decision.events:
        if type(event) in EFFECTIVE:  # Few events are, and asking costs less than comparing with each.
            effects += _effects(state, decision, event, status_url)
    return effects


EFFECTIVE = frozenset(
    {
        AlertIntended,
        CallIntended,
        CycleStarted,
        HitExpired,
        HitIgnored,
        HitParked,
        IncidentRaised,
        ReplyBuilt,
        TransactionHeld,
        WaitStarted,
    }
)
"""Events because of which something may leave."""


def _effects(state: State, decision: Decision, event: AnyEvent, status_url: Callable[[int], str]) -> list[Effect]:
    match event:
        case CallIntended():
            row = state.transaction(event.transaction)
            data = deepcopy(scope(state, row)) if event.request.method in (SCRIPT, HOOK) else None
            return [PerformCall(event, row.number, row.depth, data)]
        case ReplyBuilt():
            return _tell(state.hit(event.hit), Reply(event.status, event.headers, event.body), event.at)
        case TransactionHeld(until=until):
            return [ArmTimer(HoldDue(event.cycle, until, event.transaction))] if until else []
        case WaitStarted(until=until, reason=reason):
            timer = ArmTimer(HoldDue(event.cycle, until, event.transaction))
            call = state.transaction(event.transaction).call
            if reason != "limited" or call is None:
                return [timer]
            return [timer, CloseGate(event.cycle, remote_of(call.request), until)]
        case HitParked(reason=reason):
            due = ArmTimer(ParkDue(event.cycle, event.until, event.hit))
            if reason == "moved" or event.hit >= decision.seq:  # Of one accepted now, the verdict says so.
                return [due]
            reply = verdict_reply(state, Parked(event.hit, event.until), status_url)
            return [due, *_tell(state.hit(event.hit), reply, event.at)]
        case HitExpired():
            return _tell(state.hit(event.hit), verdict_reply(state, EXPIRED, status_url), event.at)
        case HitIgnored() if event.hit < decision.seq and not state.hit(event.hit).parked:
            reply = verdict_reply(state, Ignored(event.hit, event.transaction), status_url)
            return _tell(state.hit(event.hit), reply, event.at)
        case CycleStarted():
            return [RearmTimers(event.cycle)]
        case AlertIntended(incidents=incidents):
            return [SendAlert(event.cycle, incidents)]
        case IncidentRaised():
            return [Report(event)]
        case _:
            return []


def _tell(hit: HitRow, reply: Reply, at: int) -> list[Effect]:
    """Tell whoever waits for an answer to this hit: callers, and the step of another cycle that linked to it."""
    if not hit.wants_reply:
        return []
    told: list[Effect] = [SendReply(hit.id, reply)]
    origin = hit.origin
    if origin is not None and origin.number:  # Who was handed an alert answers nobody.
        answer = CallAnswer(reply.status, reply.headers, reply.body, hit.transaction, hit.cycle)
        told.append(AnswerLink(CallEnded(origin.cycle, at, origin.transaction, origin.step, origin.number, 0, answer)))
    return told


def awaits_reply(state: State, verdict: Verdict) -> int:
    """The hit whose built answer the caller must wait for; 0 when the verdict itself is the answer."""
    match verdict:
        case Accepted(hit=hit) | Resumed(hit=hit):
            row = state.hit(hit)
            return hit if row.wants_reply else 0
        case _:
            return 0
