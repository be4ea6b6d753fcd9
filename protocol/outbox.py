"""What must leave the process because of a turn, once the turn is durable.

An outbox is derived from the events of a turn and the state right after it, so a restart derives the rest from the
state: open calls are repeated, timers are read from the rows, and replies are found by whoever asks for them.
"""

from msgspec import Struct

from protocol.events import (
    CallIntended,
    CycleStarted,
    HitParked,
    IncidentRaised,
    ReplyBuilt,
    TransactionHeld,
)
from protocol.inputs import (
    Accepted,
    CallAnswer,
    CallEnded,
    HoldDue,
    ParkDue,
    Resumed,
    Verdict,
)
from protocol.state import HitRow, Reply, State
from protocol.turn import Decision


class SendReply(Struct, frozen=True):
    """Give an answer to the callers who wait for this hit."""

    hit: int
    reply: Reply


class PerformCall(Struct, frozen=True):
    """Send a request to a remote system, or hand it to another cycle."""

    call: CallIntended
    number: int
    depth: int


class AnswerLink(Struct, frozen=True):
    """Give the answer of a linked cycle to the step that waits for it."""

    ended: CallEnded


class ArmTimer(Struct, frozen=True):
    """Put an input to its cycle when its `at` has come."""

    due: HoldDue | ParkDue


class RearmTimers(Struct, frozen=True):
    """A cycle started: timers that came due while it was stopped are due now."""

    cycle: str


class Report(Struct, frozen=True):
    """Tell the log about an incident."""

    incident: IncidentRaised


Effect = SendReply | PerformCall | AnswerLink | ArmTimer | RearmTimers | Report


def outbox(state: State, decision: Decision) -> list[Effect]:
    """The effects of a turn, in the order of its events."""
    effects: list[Effect] = []
    for event in decision.events:
        match event:
            case CallIntended():
                row = state.transaction(event.transaction)
                effects.append(PerformCall(event, row.number, row.depth))
            case ReplyBuilt():
                reply = Reply(event.status, event.headers, event.body)
                effects.append(SendReply(event.hit, reply))
                hit = state.hit(event.hit)
                if hit.origin is not None and hit.wants_reply:
                    effects.append(link_answer(hit, reply, event.at))
            case TransactionHeld(until=until) if until:
                effects.append(ArmTimer(HoldDue(event.cycle, until, event.transaction)))
            case HitParked():
                effects.append(ArmTimer(ParkDue(event.cycle, event.until, event.hit)))
            case CycleStarted():
                effects.append(RearmTimers(event.cycle))
            case IncidentRaised():
                effects.append(Report(event))
            case _:
                pass
    return effects


def link_answer(hit: HitRow, reply: Reply, at: int) -> AnswerLink:
    """The answer to a hit that came over a link, as the outcome of the parent's call."""
    origin = hit.origin
    assert origin is not None, "only a linked hit has a parent"
    answer = CallAnswer(reply.status, reply.headers, reply.body, hit.transaction, hit.cycle)
    return AnswerLink(CallEnded(origin.cycle, at, origin.transaction, origin.step, origin.number, 0, answer))


def awaits_reply(state: State, verdict: Verdict) -> int:
    """The hit whose built answer the caller must wait for; 0 when the verdict itself is the answer."""
    match verdict:
        case Accepted(hit=hit) | Resumed(hit=hit):
            row = state.hit(hit)
            return hit if row.wants_reply else 0
        case _:
            return 0
