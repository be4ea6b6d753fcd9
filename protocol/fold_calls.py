"""How events about calls, and waits between their attempts, make the state; `protocol.evolve` is their front door."""

from typing import Any

from protocol import events as e
from protocol.bodies import read_body
from protocol.fold_hits import count_task, touch
from protocol.fold_moves import move
from protocol.fold_redrive import is_pending, may_have_acted
from protocol.program import HOOK
from protocol.remotes import note_answer, note_call, note_refusal
from protocol.retry import asks_for_patience
from protocol.state import OpenCall, State


def call_intended(state: State, event: e.CallIntended, seq: int) -> None:
    """A request is to leave, for the first or another time."""
    row = touch(state, event, seq, event.transaction)
    before = row.call
    row.call = OpenCall(event.step, event.attempt, event.idempotency_key, event.request, event.link, at=event.at)
    row.call.left = not event.announced
    if before is not None:
        row.call.failures, row.call.refusals = before.failures, before.refusals
    row.call.acted = is_pending(row, event.step) if before is None else before.acted
    row.pending = None
    if event.request.method != HOOK:  # Which is given the data that its step has, and gives it anew.
        row.data[event.step] = {}  # In its old place: the order says what a later pass drops.
    if event.link is None:
        count_task(state, event, event.step)
    move(state, row, "running")


def call_answered(state: State, event: e.CallAnswered, seq: int) -> None:
    """What the remote said, also of a failure."""
    row = touch(state, event, seq, event.transaction)
    note_answer(state, row, event.at, 1 + event.lost, refused=asks_for_patience(event.status, event.headers))
    if row.call is not None and row.call.step == event.step:
        row.call.acted |= may_have_acted(event.status, is_link=row.call.link is not None)
        content_type = event.headers.get("content-type", "")
        row.data[event.step] = {
            "status": event.status,
            "headers": event.headers,
            "body": read_body(event.body, content_type, lenient=True),
        }
    if event.child:
        row.children.append(f"{event.child_cycle}-{event.child}")
    state.save(row)


def call_failed(state: State, event: e.CallFailed, seq: int) -> None:
    """No answer came, or nothing left."""
    row = touch(state, event, seq, event.transaction)
    note_call(state, row, event.at, 1 + event.lost)
    if row.call is not None and event.phase == "sent":
        row.call.acted = True
    state.save(row)


def call_unknown(state: State, event: e.CallUnknown, seq: int) -> None:
    """Nobody knows whether the request acted."""
    row = touch(state, event, seq, event.transaction)
    if row.call is not None:
        row.call.acted = True
    note_call(state, row, event.at, event.lost)
    if row.call is not None and event.waits:
        row.call.unknown = True
        move(state, row, "held")
    state.save(row)


def call_settled(state: State, event: e.CallSettled, seq: int) -> None:
    """An operator knows what became of it."""
    row = touch(state, event, seq, event.transaction)
    if row.call is not None:
        row.call.unknown = False
    move(state, row, "running")


def wait_started(state: State, event: e.WaitStarted, seq: int) -> None:
    """The pass waits until an instant."""
    row = touch(state, event, seq, event.transaction)
    row.until, row.waits = event.until, event.reason
    if row.call is not None:
        row.call.failures += event.reason == "retry"
        row.call.refusals = 0 if event.reason == "retry" else row.call.refusals + (event.reason == "limited")
        if event.reason == "limited":
            note_refusal(state, row, event.at, event.until)
    state.save(row)


def wait_ended(state: State, event: e.WaitEnded, seq: int) -> None:
    """The instant has come."""
    row = touch(state, event, seq, event.transaction)
    row.until, row.rounds = 0, row.rounds + 1
    state.save(row)


CALL_HANDLERS: dict[type, Any] = {
    e.CallIntended: call_intended,
    e.CallAnswered: call_answered,
    e.CallFailed: call_failed,
    e.CallUnknown: call_unknown,
    e.CallSettled: call_settled,
    e.WaitStarted: wait_started,
    e.WaitEnded: wait_ended,
}
