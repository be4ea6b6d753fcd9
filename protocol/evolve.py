"""Events make the state: one function per event, total over everything ever journaled.

1. Only this module changes rows. `decide` names events; the same events, replayed, give the same rows.
2. No clock, no chance, no I/O: time is the event's `at`.
3. A finished transaction owns nothing: no call, no hold, no queue; a finished hit owns no body.
4. An event about a row that retention removed is ignored; an event that contradicts its row is a defect and raises.
"""

from collections.abc import Callable
from typing import Any

from protocol import events as e
from protocol.bodies import read_body
from protocol.state import (
    CycleRow,
    DefinitionRow,
    HitRow,
    IncidentRow,
    OpenCall,
    Reply,
    State,
    TransactionRow,
    TransactionStatus,
)

EVENT_RANGES_MAX = 128  # Sequence ranges kept per transaction: 64 turns; older ones are found by reading the journal.


def evolve(state: State, event: e.AnyEvent, seq: int) -> None:
    """Fold one event into the state.

    Raises:
        KeyError: the event is about a row that does not exist: the journal and the state do not belong together.
    """
    _HANDLERS[type(event)](state, event, seq)


def _touch(state: State, event: e.AnyEvent, seq: int, transaction: int) -> TransactionRow:
    row = state.transaction(transaction)
    row.updated = event.at
    ranges = row.events
    if ranges and ranges[-1] == seq - 1:
        ranges[-1] = seq
    else:
        ranges += (seq, seq)
        if len(ranges) > EVENT_RANGES_MAX:
            del ranges[2:4]  # The first turn stays: it says how the transaction began.
    return row


def _move(state: State, row: TransactionRow, status: TransactionStatus) -> None:
    """Change the status of a transaction and the counts of its cycle, then save both."""
    if row.status != status:
        cycle = state.cycle(row.cycle)
        setattr(cycle, row.status, getattr(cycle, row.status) - 1)
        setattr(cycle, status, getattr(cycle, status) + 1)
        row.status = status
        state.save(cycle)
    state.save(row)


def _end_hit(state: State, row: TransactionRow) -> None:
    """The pass is over: its hit gives up what only a running pass needs."""
    hit = state.hit(row.hit)
    if hit.status == "running":
        hit.status = "done"
        hit.body, hit.headers, hit.query = b"", {}, {}
        state.save(hit)


def _writer_started(state: State, event: e.WriterStarted, _seq: int) -> None:
    """The epoch is the journal's own concern; the state holds nothing of it."""


def _cycle_deployed(state: State, event: e.CycleDeployed, _seq: int) -> None:
    try:
        row = state.cycle(event.cycle)
    except KeyError:
        row = CycleRow(event.cycle)
    row.definition_hash = event.hash
    row.identifiers = {**row.identifiers, **event.identifiers}
    state.save(DefinitionRow(event.hash, event.definition))
    state.save(row)


def _cycle_status(state: State, event: e.CycleStarted | e.CycleStopping | e.CycleStopped, _seq: int) -> None:
    row = state.cycle(event.cycle)
    match event:
        case e.CycleStarted():
            row.status = "running"
        case e.CycleStopping():
            row.status = "stopping"
        case e.CycleStopped():
            row.status = "stopped"
    state.save(row)


def _hit_accepted(state: State, event: e.HitAccepted, seq: int) -> None:
    row = HitRow(
        seq,
        event.cycle,
        event.step,
        event.at,
        event.method,
        event.headers,
        event.query,
        event.body,
        event.content_type,
        event.delivery,
        event.digest,
        event.wants_reply,
        event.depth,
        event.origin,
        fate="waiting" if event.wants_reply else "none",
    )
    state.save(row)
    if event.delivery:
        state.file("delivery", (event.cycle, event.step, event.delivery), seq)


def _hit_duplicated(state: State, event: e.HitDuplicated, _seq: int) -> None:
    """A repeat changes nothing; that it came is in the journal."""


def _unpark(state: State, hit: HitRow) -> None:
    if hit.status == "parked":
        state.unfile("parked", (hit.cycle, hit.step, *hit.key), hit.id)
    elif hit.status == "collected":
        state.unfile("collected", (hit.cycle,), hit.id)
    else:
        return
    cycle = state.cycle(hit.cycle)
    cycle.parked -= 1
    state.save(cycle)


def _hit_matched(state: State, event: e.HitMatched, seq: int) -> None:
    hit = state.hit(event.hit)
    _unpark(state, hit)
    hit.status = "queued"
    hit.transaction = event.transaction
    hit.candidates = list(event.candidates)
    state.save(hit)
    row = _touch(state, event, seq, event.transaction)
    row.queue.append(event.hit)
    state.save(row)


def _hit_parked(state: State, event: e.HitParked, _seq: int) -> None:
    hit = state.hit(event.hit)
    _unpark(state, hit)
    if hit.status == "queued":
        row = state.transaction(hit.transaction)
        if hit.id in row.queue:
            row.queue.remove(hit.id)
            state.save(row)
    hit.transaction = 0
    hit.key, hit.until = list(event.key), event.until
    if event.reason == "early":
        hit.status = "parked"
        state.file("parked", (hit.cycle, hit.step, *hit.key), hit.id)
    else:
        hit.status = "collected"
        state.file("collected", (hit.cycle,), hit.id)
    if event.reason != "moved":
        hit.parked = True
        if hit.fate == "waiting":
            hit.fate = "none"  # Its caller is told `parked`; nobody waits for the answer.
    cycle = state.cycle(hit.cycle)
    cycle.parked += 1
    state.save(cycle)
    state.save(hit)


def _hit_expired(state: State, event: e.HitExpired, _seq: int) -> None:
    hit = state.hit(event.hit)
    _unpark(state, hit)
    hit.status = "expired"
    if hit.fate == "waiting":
        hit.fate = "none"  # Its caller is told so.
    hit.body, hit.headers, hit.query = b"", {}, {}
    state.save(hit)


def _transaction_started(state: State, event: e.TransactionStarted, seq: int) -> None:
    row = TransactionRow(
        seq,
        event.cycle,
        event.definition_hash,
        event.at,
        event.at,
        event.depth,
        event.parent,
        events=[seq, seq],
    )
    cycle = state.cycle(event.cycle)
    cycle.running += 1
    state.save(cycle)
    state.save(row)


def _pass_started(state: State, event: e.PassStarted, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    hit = state.hit(event.hit)
    _unpark(state, hit)
    if event.hit in row.queue:
        row.queue.remove(event.hit)
    hit.status, hit.transaction, hit.number = "running", row.id, event.number
    state.save(hit)
    _drop_after(state, row, event.step)
    row.step, row.number, row.hit, row.until, row.reason = event.step, event.number, event.hit, 0, ""
    _move(state, row, "running")


def _drop_after(state: State, row: TransactionRow, step: str) -> None:
    """Data keeps the order in which steps ran, so what came after a step is what stands behind it."""
    order = list(row.data)
    if step in row.data:
        for later in order[order.index(step) + 1 :]:
            del row.data[later]
    for reached in [name for name in row.reached if name != step and name not in row.data]:
        state.unfile("reached", (row.cycle, reached, *row.reached.pop(reached)), row.id)


def _step_completed(state: State, event: e.StepCompleted, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    before = row.data.get(event.step)
    row.data[event.step] = {**before, **event.data} if before and row.call is not None else event.data
    row.call = None
    row.step = event.target
    state.save(row)


def _decision_taken(state: State, event: e.DecisionTaken, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    row.step = event.target
    state.save(row)


def _transaction_held(state: State, event: e.TransactionHeld, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    before = row.reached.get(event.step)
    if before is not None and before != event.key:
        state.unfile("reached", (row.cycle, event.step, *before), row.id)
    row.reached[event.step] = list(event.key)
    state.file("reached", (row.cycle, event.step, *event.key), row.id)
    row.step, row.until = event.step, event.until
    _end_hit(state, row)
    _move(state, row, "held")


def _hold_expired(state: State, event: e.HoldExpired, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    row.step, row.until = event.target, 0
    row.number += 1  # What runs from here is a pass of its own: its calls must not share keys with the one before.
    _move(state, row, "running")


def _ended(state: State, event: e.TransactionCompleted | e.TransactionFailed | e.TransactionStopped, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    row.until, row.call = 0, None
    _end_hit(state, row)
    match event:
        case e.TransactionCompleted():
            _move(state, row, "completed")
            return
        case e.TransactionFailed(reason=reason, step=step):
            row.reason, row.step = reason, step
        case e.TransactionStopped():
            row.reason = "stopped by an operator"
    for step, key in row.reached.items():
        state.unfile("reached", (row.cycle, step, *key), row.id)
    row.reached, row.queue = {}, []
    _move(state, row, "failed" if isinstance(event, e.TransactionFailed) else "stopped")


def _call_intended(state: State, event: e.CallIntended, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    row.call = OpenCall(event.step, event.attempt, event.idempotency_key, event.request, event.link)
    row.data.setdefault(event.step, {})
    _move(state, row, "running")


def _call_answered(state: State, event: e.CallAnswered, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    if row.call is not None and row.call.step == event.step:
        content_type = event.headers.get("content-type", "")
        row.data[event.step] = {
            "status": event.status,
            "headers": event.headers,
            "body": read_body(event.body, content_type, lenient=True),
        }
    if event.child:
        row.children.append(f"{event.child_cycle}-{event.child}")
    state.save(row)


def _call_failed(state: State, event: e.CallFailed, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    state.save(row)


def _call_unknown(state: State, event: e.CallUnknown, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    if row.call is not None and event.waits:
        row.call.unknown = True
        _move(state, row, "held")
    state.save(row)


def _call_settled(state: State, event: e.CallSettled, seq: int) -> None:
    row = _touch(state, event, seq, event.transaction)
    if row.call is not None:
        row.call.unknown = False
    _move(state, row, "running")


def _reply_built(state: State, event: e.ReplyBuilt, _seq: int) -> None:
    hit = state.hit(event.hit)
    hit.reply = Reply(event.status, event.headers, event.body)
    state.save(hit)


def _reply_settled(state: State, event: e.ReplySent | e.ReplyDetached, _seq: int) -> None:
    hit = state.hit(event.hit)
    hit.fate = "sent" if isinstance(event, e.ReplySent) else event.reason
    state.save(hit)


def _incident_raised(state: State, event: e.IncidentRaised, seq: int) -> None:
    state.save(
        IncidentRow(seq, event.cycle, event.at, event.transaction, event.step, event.kind, event.message, event.level)
    )


_HANDLERS: dict[type, Callable[[State, Any, int], None]] = {
    e.WriterStarted: _writer_started,
    e.CycleDeployed: _cycle_deployed,
    e.CycleStarted: _cycle_status,
    e.CycleStopping: _cycle_status,
    e.CycleStopped: _cycle_status,
    e.HitAccepted: _hit_accepted,
    e.HitDuplicated: _hit_duplicated,
    e.HitMatched: _hit_matched,
    e.HitParked: _hit_parked,
    e.HitExpired: _hit_expired,
    e.TransactionStarted: _transaction_started,
    e.PassStarted: _pass_started,
    e.StepCompleted: _step_completed,
    e.DecisionTaken: _decision_taken,
    e.TransactionHeld: _transaction_held,
    e.HoldExpired: _hold_expired,
    e.TransactionCompleted: _ended,
    e.TransactionFailed: _ended,
    e.TransactionStopped: _ended,
    e.CallIntended: _call_intended,
    e.CallAnswered: _call_answered,
    e.CallFailed: _call_failed,
    e.CallUnknown: _call_unknown,
    e.CallSettled: _call_settled,
    e.ReplyBuilt: _reply_built,
    e.ReplySent: _reply_settled,
    e.ReplyDetached: _reply_settled,
    e.IncidentRaised: _incident_raised,
}
