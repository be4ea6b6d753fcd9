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
from protocol.chain import chain_of
from protocol.definition import END
from protocol.fold_hits import (
    count_task,
    end_hit,
    hit_accepted,
    hit_duplicated,
    hit_expired,
    hit_ignored,
    hit_matched,
    hit_parked,
    pass_hit,
    reply_built,
    reply_settled,
    touch,
    unpark,
)
from protocol.fold_leaving import LEAVING_HANDLERS
from protocol.fold_moves import begin as _begin
from protocol.fold_moves import move as _move
from protocol.fold_redrive import REDRIVE_HANDLERS, is_pending, link_transactions, may_have_acted, remains_of
from protocol.fold_retention import RETENTION_HANDLERS, is_gone
from protocol.fold_running import cycle_once, once_taken, transaction_moved
from protocol.fold_webhooks import WEBHOOK_HANDLERS
from protocol.lists import put_at
from protocol.program import HOOK
from protocol.remotes import note_answer, note_call, note_refusal
from protocol.retry import asks_for_patience
from protocol.state import (
    CycleRow,
    DefinitionRow,
    OpenCall,
    State,
    TransactionRow,
    transaction_name,
)

CHILDREN_MAX = 1000  # Children named by their parent; a split may have more, and each names its parent.


def evolve(state: State, event: e.AnyEvent, seq: int) -> None:
    """Fold one event into the state.

    Raises:
        KeyError: the event is about a row that never was: the journal and the state do not belong together.
    """
    try:
        _HANDLERS[type(event)](state, event, seq)
    except KeyError:  # Handlers look before they change anything, so there is nothing to take back.
        about = {name: getattr(event, name, 0) for name in ("transaction", "hit")}
        if not is_gone(state, event.cycle, **about):
            raise


def _writer_started(state: State, event: e.WriterStarted, _seq: int) -> None:
    """The epoch is the journal's own concern; the state holds nothing of it."""


def _cycle_deployed(state: State, event: e.CycleDeployed, _seq: int) -> None:
    try:
        row = state.cycle(event.cycle)
    except KeyError:
        row = CycleRow(event.cycle)
    row.definition_hash = event.hash
    row.identifiers = {**row.identifiers, **event.identifiers}
    row.forms = event.forms
    state.save(DefinitionRow(event.hash, event.definition))
    state.save(row)


def _cycle_status(state: State, event: e.CycleStarted | e.CycleStopping | e.CycleStopped, _seq: int) -> None:
    row = state.cycle(event.cycle)
    match event:
        case e.CycleStarted():
            row.status, row.once, row.once_since = "running", "", 0
        case e.CycleStopping():
            row.status = "stopping"
        case e.CycleStopped():
            row.status, row.once, row.once_since = "stopped", "", 0
    state.save(row)


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
        trigger=event.hit,
    )
    link_transactions(state, row, state.hit(event.hit).lineage)
    _begin(state, row)


def _pass_started(state: State, event: e.PassStarted, seq: int) -> None:
    hit = state.hit(event.hit)
    row = touch(state, event, seq, event.transaction)
    unpark(state, hit)
    if event.hit in row.queue:
        row.queue.remove(event.hit)
    hit.status, hit.transaction, hit.number = "running", row.id, event.number
    state.save(hit)
    _drop_after(state, row, event.step)
    row.step, row.number, row.hit, row.until, row.reason = event.step, event.number, event.hit, 0, ""
    row.rounds, row.pending, row.arrived, row.alone = 0, None, False, False
    if hit.chain:  # A request that says nothing of a chain goes on with the one of its transaction.
        row.chain, row.sampled, row.depth = hit.chain, hit.sampled, max(row.depth, hit.depth)
    _move(state, row, "running")


def left_from(row: TransactionRow, step: str) -> tuple[list[str], list[str]]:
    """The steps whose data, and the holds, that a pass from a webhook leaves.

    Both keep the order in which they came, so what came after a step is what stands behind it.
    """
    data, holds = list(row.data), list(row.reached)
    if step in data:
        del data[data.index(step) + 1 :]
    later = holds[holds.index(step) + 1 :] if step in holds else []
    return data, [name for name in holds if name not in later or name in data]


def _drop_after(state: State, row: TransactionRow, step: str) -> None:
    if not row.data and not row.reached:
        return  # Its first pass.
    data, holds = left_from(row, step)
    for later in row.data.keys() - set(data):
        del row.data[later]
    for reached in row.reached.keys() - set(holds):
        state.unfile("reached", (row.cycle, reached, *row.reached.pop(reached)), row.id)


def _step_completed(state: State, event: e.StepCompleted, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    before = row.data.get(event.step)
    answered = row.call is not None and row.call.request.method != HOOK
    row.data[event.step] = {**before, **event.data} if before and answered else event.data
    row.call = None
    row.step, row.arrived = event.target, False
    state.save(row)


def _decision_taken(state: State, event: e.DecisionTaken, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    row.step = event.target
    state.save(row)


def _transaction_held(state: State, event: e.TransactionHeld, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    before = row.reached.get(event.step)
    if before is not None and before != event.key:
        state.unfile("reached", (row.cycle, event.step, *before), row.id)
    row.reached[event.step] = list(event.key)
    state.file("reached", (row.cycle, event.step, *event.key), row.id)
    row.step, row.until = event.step, event.until
    end_hit(state, row)
    _move(state, row, "held")


def _hold_expired(state: State, event: e.HoldExpired, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    row.step, row.until, row.alone = event.target, 0, True
    row.number += 1  # What runs from here is a pass of its own: its calls must not share keys with the one before.
    row.data.setdefault(event.step, {})  # A mark, so that a later request here drops what the exit ran.
    _move(state, row, "running")


def _ended(state: State, event: e.TransactionCompleted | e.TransactionFailed | e.TransactionStopped, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    row.remains = None if isinstance(event, e.TransactionCompleted) else remains_of(row, event)
    row.until, row.call, row.split, row.parting, row.pending = 0, None, 0, None, None
    row.arrived = False
    if isinstance(event, e.TransactionFailed) and (hit := pass_hit(state, row)) is not None and hit.branches:
        hit.failed_at = event.step
    end_hit(state, row)
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
        state.file("parted", (row.cycle, step, *key), row.id)  # For people who search; no request is matched by it.
    row.reached, row.queue = {}, []
    _move(state, row, "failed" if isinstance(event, e.TransactionFailed) else "stopped")


def _transaction_split(state: State, event: e.TransactionSplit, seq: int) -> None:
    parent = touch(state, event, seq, event.transaction)
    parent.split = event.index + 1
    if len(parent.children) < CHILDREN_MAX:
        parent.children.append(transaction_name(event.cycle, seq))
    state.save(parent)
    hit = pass_hit(state, parent)
    if hit is not None:
        hit.branches = max(hit.branches, 1) + 1
        state.save(hit)
    parting = parent.parting
    if parting is not None:
        whole = {name: value for name, value in parent.data[event.step].items() if name not in parting.without}
        item = put_at(whole, parting.path, event.item)
    else:
        item = event.item if isinstance(event.item, dict) else {"item": event.item}
    child = TransactionRow(
        seq,
        event.cycle,
        parent.definition_hash,
        event.at,
        event.at,
        parent.depth,
        e.Origin(event.cycle, parent.id, event.step, parent.number),
        step=event.target,
        number=1,
        hit=parent.hit,
        data={**parent.data, event.step: item},
        phase=parent.phase,
        events=[seq, seq],
        earlier=list(parent.earlier),
        alone=parent.alone,
        chain=chain_of(parent),
        sampled=parent.sampled,
    )
    _begin(state, child)


def _transaction_gathered(state: State, event: e.TransactionGathered, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    row.step = END
    state.save(row)
    cycle = state.cycle(event.cycle)
    cycle.gathered = {**cycle.gathered, event.step: cycle.gathered.get(event.step, 0) + 1}
    cycle.deepest[event.step] = max((row.depth, chain_of(row)), cycle.deepest.get(event.step, (0, "")))
    state.save(cycle)


def _gathering_ended(state: State, event: e.GatheringEnded, seq: int) -> None:
    cycle = state.cycle(event.cycle)
    cycle.gathered = {step: count for step, count in cycle.gathered.items() if step != event.step}
    depth, chain = cycle.deepest.pop(event.step, (0, ""))  # Else a loop through here would be none.
    row = TransactionRow(
        seq,
        event.cycle,
        event.definition_hash,
        event.at,
        event.at,
        depth,
        None,
        step=event.target,
        number=1,
        data={event.step: {"count": event.count}},
        phase=event.step,
        events=[seq, seq],
        chain=chain,
    )
    _begin(state, row)


def _call_intended(state: State, event: e.CallIntended, seq: int) -> None:
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
    _move(state, row, "running")


def _call_answered(state: State, event: e.CallAnswered, seq: int) -> None:
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


def _call_failed(state: State, event: e.CallFailed, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    note_call(state, row, event.at, 1 + event.lost)
    if row.call is not None and event.phase == "sent":
        row.call.acted = True
    state.save(row)


def _call_unknown(state: State, event: e.CallUnknown, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    if row.call is not None:
        row.call.acted = True
    note_call(state, row, event.at, event.lost)
    if row.call is not None and event.waits:
        row.call.unknown = True
        _move(state, row, "held")
    state.save(row)


def _call_settled(state: State, event: e.CallSettled, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    if row.call is not None:
        row.call.unknown = False
    _move(state, row, "running")


def _wait_started(state: State, event: e.WaitStarted, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    row.until, row.waits = event.until, event.reason
    if row.call is not None:
        row.call.failures += event.reason == "retry"
        row.call.refusals = 0 if event.reason == "retry" else row.call.refusals + (event.reason == "limited")
        if event.reason == "limited":
            note_refusal(state, row, event.at, event.until)
    state.save(row)


def _wait_ended(state: State, event: e.WaitEnded, seq: int) -> None:
    row = touch(state, event, seq, event.transaction)
    row.until = 0
    row.rounds += 1
    state.save(row)


_HANDLERS: dict[type, Callable[[State, Any, int], None]] = {
    e.WriterStarted: _writer_started,
    e.CycleDeployed: _cycle_deployed,
    e.CycleStarted: _cycle_status,
    e.CycleStopping: _cycle_status,
    e.CycleStopped: _cycle_status,
    e.CycleOnce: cycle_once,
    e.CycleOnceTaken: once_taken,
    e.HitAccepted: hit_accepted,
    e.HitDuplicated: hit_duplicated,
    e.HitMatched: hit_matched,
    e.HitParked: hit_parked,
    e.HitExpired: hit_expired,
    e.HitIgnored: hit_ignored,
    e.TransactionStarted: _transaction_started,
    e.PassStarted: _pass_started,
    e.StepCompleted: _step_completed,
    e.DecisionTaken: _decision_taken,
    e.TransactionHeld: _transaction_held,
    e.HoldExpired: _hold_expired,
    e.TransactionCompleted: _ended,
    e.TransactionFailed: _ended,
    e.TransactionStopped: _ended,
    e.TransactionSplit: _transaction_split,
    e.TransactionGathered: _transaction_gathered,
    e.GatheringEnded: _gathering_ended,
    e.TransactionMoved: transaction_moved,
    e.CallIntended: _call_intended,
    e.CallAnswered: _call_answered,
    e.CallFailed: _call_failed,
    e.CallUnknown: _call_unknown,
    e.CallSettled: _call_settled,
    e.WaitStarted: _wait_started,
    e.WaitEnded: _wait_ended,
    e.ReplyBuilt: reply_built,
    e.ReplySent: reply_settled,
    e.ReplyDetached: reply_settled,
    **LEAVING_HANDLERS,
    **REDRIVE_HANDLERS,
    **WEBHOOK_HANDLERS,
    **RETENTION_HANDLERS,
}
