"""What must leave the process because of a turn, once the turn is durable.

An outbox is derived from the events of a turn and the state right after it, so a restart derives the rest from the
state: open calls are repeated, timers are read from the rows, and replies are found by whoever asks for them.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from msgspec import Struct

from protocol.events import (
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
        find = _EFFECTS.get(type(event))
        if find is not None:  # Few events have one, and a look-up costs less than comparing with each.
            effects += find(Turned(state, decision.seq, status_url), event)
    return effects


class Turned(NamedTuple):
    """A turn that was decided: the state after it, its first event's number, and where a hit can be followed."""

    state: State
    seq: int
    status_url: Callable[[int], str]

    def told(self, event: HitParked | HitExpired | HitIgnored, verdict: Verdict) -> list[Effect]:
        """Tell whoever waits for an answer to the hit of an event what became of it."""
        reply = verdict_reply(self.state, verdict, self.status_url)
        return _tell(self.state.hit(event.hit), reply, event.at)


def _call(turned: Turned, event: CallIntended) -> list[Effect]:
    row = turned.state.transaction(event.transaction)
    data = deepcopy(scope(turned.state, row)) if event.request.method in (SCRIPT, HOOK) else None
    return [PerformCall(event, row.number, data)]


def _reply(turned: Turned, event: ReplyBuilt) -> list[Effect]:
    return _tell(turned.state.hit(event.hit), Reply(event.status, event.headers, event.body), event.at)


def _hold(_: Turned, event: TransactionHeld) -> list[Effect]:
    return [ArmTimer(HoldDue(event.cycle, event.until, event.transaction))] if event.until else []


def _wait(turned: Turned, event: WaitStarted) -> list[Effect]:
    timer = ArmTimer(HoldDue(event.cycle, event.until, event.transaction))
    call = turned.state.transaction(event.transaction).call
    if event.reason != "limited" or call is None:
        return [timer]
    return [timer, CloseGate(event.cycle, remote_of(call.request), event.until)]


def _park(turned: Turned, event: HitParked) -> list[Effect]:
    due = ArmTimer(ParkDue(event.cycle, event.until, event.hit))
    if event.reason == "moved" or event.hit >= turned.seq:  # Of one accepted now, the verdict says so.
        return [due]
    return [due, *turned.told(event, Parked(event.hit, event.until))]


def _ignore(turned: Turned, event: HitIgnored) -> list[Effect]:
    if event.hit >= turned.seq or turned.state.hit(event.hit).parked:
        return []
    return turned.told(event, Ignored(event.hit, event.transaction))


_EFFECTS: dict[type, Callable[[Turned, Any], list[Effect]]] = {
    AlertIntended: lambda _, event: [SendAlert(event.cycle, event.incidents)],
    CallIntended: _call,
    CycleStarted: lambda _, event: [RearmTimers(event.cycle)],
    HitExpired: lambda turned, event: turned.told(event, EXPIRED),
    HitIgnored: _ignore,
    HitParked: _park,
    IncidentRaised: lambda _, event: [Report(event)],
    ReplyBuilt: _reply,
    TransactionHeld: _hold,
    WaitStarted: _wait,
}


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
