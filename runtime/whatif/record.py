"""The record read as a sequence of turns: which event is the first one of a turn, and what input caused it.

The journal keeps facts and not inputs, but each kind of input leaves a first event that nothing else does, given the
state before it. Turns that carry on what others left over (`Continue`, `Deliver`) are not told apart: their events
follow from the state, so they count with the turn before them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

from msgspec import Struct

from protocol import events as e
from protocol.ages import Ages
from protocol.events_leaving import CallLeft
from protocol.events_redrive import HitRedriven, RedriveAction, RedriveOrdered, TransactionResumed
from protocol.events_retention import BodiesPurged, RetentionApplied
from protocol.evolve import evolve
from protocol.inputs import (
    Aim,
    CallAnswer,
    CallFailure,
    CallLeaves,
    Deploy,
    HoldDue,
    Input,
    OrderRedrive,
    ParkDue,
    Recover,
    ReplySettled,
    Retain,
    RunOnce,
    ScriptResult,
    Settle,
    Start,
    Stop,
)
from protocol.program import HOOK, SCRIPT
from protocol.state import State, TransactionRow

LEAST = 1  # Nanosecond; an age that is past at once.
AHEAD = 3  # Events that are looked at before the one that is read: of a redrive, what its request began.

Pass = tuple[int, int]
"""A pass by what began it: its hit, and how many holds expired since. So a pass of the draft finds its own in the
record, even if they have other numbers."""


class Came(Struct, frozen=True):
    """A request that was accepted, as its event has it."""

    hit: int
    event: e.HitAccepted


class CameAgain(Struct, frozen=True):
    """A delivery that was recognised as one that had come before."""

    hit: int
    event: e.HitDuplicated


class Ended(Struct, frozen=True):
    """What a call of a pass brought; scripts are calls too."""

    transaction: int
    step: str
    run: Pass
    at: int
    outcome: CallAnswer | CallFailure | ScriptResult
    method: str  # Of the request; a function's result is no answer of a remote.


class Redrives(Struct, frozen=True):
    """An item that an order redrove; `came` is the request behind it, if there is one."""

    cycle: str
    at: int
    order: str
    action: RedriveAction
    item: int
    current: bool  # Whether it ran the current version, and not the one of the time.
    came: Came | None


Given = Came | CameAgain | Ended | Redrives | Input


class RecordedTurn(Struct, frozen=True):
    """One input of the past, with the instant and the number of its first event; None where a process began."""

    seq: int
    at: int
    given: Given | None


def pass_of(state: State, row: TransactionRow) -> Pass:
    """The latest pass of a transaction."""
    if not row.hit:
        return 0, row.number
    hit = state.hit(row.hit)
    return row.hit, row.number - (hit.number if hit.transaction == row.id else 0)


class Record:
    """Folds the record as it is read.

    Args:
        state: where it is folded into.
        saw: told each event, once it is folded.
    """

    def __init__(self, state: State, saw: Callable[[int, e.AnyEvent], None]) -> None:
        self.state = state
        self._saw = saw
        self._before: e.AnyEvent | None = None
        self._holding = 0  # The transaction that reached a hold just now, and takes what is parked there.
        self._failed = 0  # The transaction whose call failed, or was settled by a person, in this turn.
        self._stopping = ""  # The cycle whose passes an order to stop ends in this turn.
        self._broken: set[str] = set()  # Cycles that a failing step stops, which is no order.

    def turns(self, events: Iterable[tuple[int, e.AnyEvent]]) -> Iterator[RecordedTurn]:
        """Each turn, before its events are folded; they are when the next one is asked for."""
        source = iter(events)
        ahead = deque(islice(source, AHEAD))
        while ahead:
            seq, event = ahead.popleft()
            ahead.extend(islice(source, 1))
            given = self._cause(seq, event, [one for _, one in ahead])
            if given is not None or isinstance(event, e.WriterStarted):
                yield RecordedTurn(seq, event.at, given)
            evolve(self.state, event, seq)
            self._saw(seq, event)
            self._before = event
            if isinstance(event, TransactionResumed):
                self._holding = seq
            elif not isinstance(event, e.HitMatched | e.HitIgnored):
                self._holding = event.transaction if isinstance(event, e.TransactionHeld) else 0

    def _cause(self, seq: int, event: e.AnyEvent, ahead: Sequence[e.AnyEvent]) -> Given | None:
        if isinstance(event, e.CycleStopping | e.CycleStopped | e.TransactionStopped | e.TransactionFailed):
            return self._stop(event, ahead[0] if ahead else None)
        given = self._redrive(seq, event, ahead) or self._work(seq, event, ahead) or self._order(event)
        if given is not None:
            self._failed, self._stopping = 0, ""
            if isinstance(event, e.CallFailed | e.CallSettled):
                self._failed = event.transaction
        return given

    def _redrive(self, seq: int, event: e.AnyEvent, ahead: Sequence[e.AnyEvent]) -> Redrives | None:
        """One item of an order: a request that says so right behind it, or a transaction that goes on without one."""
        again: HitRedriven | TransactionResumed
        came: Came | None = None
        match event:
            case e.HitAccepted() if ahead and isinstance(ahead[0], HitRedriven):
                again = ahead[0]
                began = next((one for one in ahead[1:] if hasattr(one, "definition_hash")), None)
                item = again.original if again.action == "redeliver" else again.transaction
                version = getattr(began, "definition_hash", "")
                came = Came(seq, event)
            case TransactionResumed(hit=0):
                again, item, version = event, event.transaction, event.definition_hash
            case _:
                return None
        old = None if again.action == "redeliver" else self.state.transaction(item)
        current = old is not None and old.definition_hash != version
        return Redrives(event.cycle, event.at, again.order, again.action, item, current, came)

    def _work(self, seq: int, event: e.AnyEvent, ahead: Sequence[e.AnyEvent]) -> Given | None:
        """What requests, remotes and time bring."""
        match event:
            case e.HitAccepted():
                return Came(seq, event)
            case e.HitDuplicated():
                return CameAgain(event.hit, event)
            case e.CallAnswered():
                said = (event.status, event.headers, event.body, event.child, event.child_cycle)
                return self._ended(event, CallAnswer(*said))
            case e.CallFailed():
                return self._ended(event, CallFailure(event.phase, event.reason))
            case e.StepCompleted() | e.IncidentRaised() if self._returns(event):
                return self._ended(event, ScriptResult(self._word(event, ahead)))
            case e.WaitEnded() | e.HoldExpired():
                return HoldDue(event.cycle, event.at, event.transaction)
            case e.HitExpired():
                due = 0 < self.state.hit(event.hit).until <= event.at
                return ParkDue(event.cycle, event.at, event.hit) if due else None
            case _:
                return None

    def _ended(
        self,
        event: e.CallAnswered | e.CallFailed | e.StepCompleted | e.IncidentRaised,
        outcome: CallAnswer | CallFailure | ScriptResult,
    ) -> Ended:
        row = self.state.transaction(event.transaction)
        method = "" if row.call is None else row.call.request.method
        return Ended(row.id, event.step, pass_of(self.state, row), event.at, outcome, method)

    def _returns(self, event: e.StepCompleted | e.IncidentRaised) -> bool:
        """Whether a function returned, as against a step that goes on after its failure."""
        if not event.transaction or self._failed == event.transaction:
            return False
        call = self.state.transaction(event.transaction).call
        ours = call is not None and call.step == event.step and not call.unknown
        return ours and call is not None and call.request.method in (SCRIPT, HOOK)

    def _word(self, event: e.StepCompleted | e.IncidentRaised, ahead: Sequence[e.AnyEvent]) -> dict[str, Any]:
        """What a function returned: data, or what an `after_webhook` said of a request instead."""
        row = self.state.transaction(event.transaction)
        is_hook = row.call is not None and row.call.request.method == HOOK
        if isinstance(event, e.IncidentRaised) and is_hook and event.kind == "filtered":
            return {"filter": event.message}
        if isinstance(event, e.IncidentRaised) and is_hook and event.kind == "rejected":
            told = next(
                (one.status for one in ahead[:1] if isinstance(one, e.ReplyBuilt)), HTTPStatus.UNPROCESSABLE_ENTITY
            )
            return {"reject": {"message": event.message, "status": int(told)}}
        if isinstance(event, e.StepCompleted):
            data = event.data
        else:  # It returned a list that can not be split; what it was is in the journal only where that is ignored.
            later = (one.data for one in ahead if isinstance(one, e.StepCompleted) and one.transaction == row.id)
            data = next(later, row.data.get(event.step, {}))
        return {"data": data} if is_hook else data

    def _order(self, event: e.AnyEvent) -> Input | None:
        """What people, deploys and restarts bring."""
        match event:
            case RedriveOrdered(at=at):
                fixed = (event.order, event.page, event.action, event.digest, tuple(event.items), event.after)
                return OrderRedrive("", at, *fixed)
            case e.CycleDeployed(cycle=cycle, at=at):
                return Deploy(cycle, at, event.definition, event.hash, event.identifiers)
            case e.CycleStarted(cycle=cycle, at=at):
                self._broken.discard(cycle)
                return Start(cycle, at)
            case e.CycleOnce(cycle=cycle, at=at):
                return RunOnce(cycle, at)
            case e.CycleOnceTaken(cycle=cycle, at=at, hit=hit) if self._is_ordered_again(hit):
                return RunOnce(cycle, at)
            case e.CallSettled(cycle=cycle, at=at):
                return Settle(cycle, at, event.transaction, event.action)
            case e.HitMatched(cycle=cycle, at=at, hit=hit, transaction=transaction) if self._is_aimed(event):
                return Aim(cycle, at, hit, transaction)
            case CallLeft(cycle=cycle, at=at):
                row = self.state.transaction(event.transaction)
                return CallLeaves(cycle, at, row.id, event.step, row.number, event.attempt)
            case e.CallIntended(cycle=cycle, at=at) if self._had_not_left(event):
                return Recover(cycle, at, (), (event.transaction,))
            case e.CallUnknown(cycle=cycle, at=at):
                return Recover(cycle, at, (), (event.transaction,))
            case e.ReplySent(cycle=cycle, at=at):
                return ReplySettled(cycle, at, event.hit, "sent")
            case e.ReplyDetached(cycle=cycle, at=at, reason="restart"):
                return Recover(cycle, at, (event.hit,), ())
            case e.ReplyDetached(cycle=cycle, at=at, reason="gone" | "deadline" as fate):
                return ReplySettled(cycle, at, event.hit, fate)
            case _:
                return _retained(event)

    def _is_ordered_again(self, hit: int) -> bool:
        """Whether a kept request is taken by an order to run once that did not have to be recorded a second time."""
        return self.state.hit(hit).status == "collected" and not isinstance(self._before, e.CycleOnce)

    def _had_not_left(self, event: e.CallIntended) -> bool:
        """Whether a call is made again that waited for its place when the process died."""
        call = self.state.transaction(event.transaction).call
        return call is not None and not call.left and event.attempt > 1

    def _is_aimed(self, event: e.HitMatched) -> bool:
        """Whether a person gave a parked hit its place, as against a transaction that came to its step."""
        return self.state.hit(event.hit).status == "parked" and self._holding != event.transaction

    def _stop(
        self,
        event: e.CycleStopping | e.CycleStopped | e.TransactionStopped | e.TransactionFailed,
        following: e.AnyEvent | None,
    ) -> Input | None:
        """An order to stop or to finish; a step whose failure stops its cycle is none, nor is a cycle that is done."""
        cycle, at = event.cycle, event.at
        ordered = self._stopping != cycle and cycle not in self._broken
        match event:
            case e.TransactionFailed():
                row = self.state.transaction(event.transaction)
                plan = self.state.program(row.definition_hash).plans.get(event.step)
                if getattr(plan, "policy", "") == "stop_cycle":
                    self._broken.add(cycle)
                return None
            case e.CycleStopping() if ordered:
                if isinstance(following, e.TransactionFailed) and following.cycle == cycle:
                    return None
                return Stop(cycle, at, "finish")
            case e.TransactionStopped() if ordered:
                self._failed, self._stopping = 0, cycle
                return Stop(cycle, at, "stop")
            case e.CycleStopped(mode=mode):
                self._broken.discard(cycle)
                if self.state.cycle(cycle).status == "stopped":  # It waited to run once.
                    return Stop(cycle, at, mode)
                return Stop(cycle, at, "stop") if mode == "stop" and ordered else None
            case _:
                return None


def _retained(event: e.AnyEvent) -> Retain | None:
    """What retention looked at and found old enough: so it is for a draft, if there it is over, too."""
    match event:
        case e.IncidentRaised(cycle=cycle, at=at, kind="retention_expired"):
            return Retain(cycle, at, Ages(0, 0, LEAST, 0), (event.transaction,))
        case BodiesPurged(cycle=cycle, at=at):
            return Retain(cycle, at, Ages(0, 0, 0, LEAST), tuple(event.transactions), tuple(event.hits))
        case RetentionApplied(cycle=cycle, at=at):
            dropped = (tuple(event.transactions), tuple(event.hits), tuple(event.incidents))
            return Retain(cycle, at, Ages(LEAST, LEAST, 0, 0), *dropped)
        case _:
            return None
