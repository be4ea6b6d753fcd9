"""A cycle's decisions: each input becomes events, by rules that look at nothing but the state.

1. A hit is refused before anything is recorded, or it is accepted and from then on never lost: it runs, waits in a
   queue, is parked, or has expired with an incident.
2. A hit and a hold meet whichever comes first, since both are turns of one actor.
3. A delivery key names one hit for ever; what comes again under it is answered as the first was.
4. At the end of a turn every accepted hit has a place, and what the turn could not hold is an input of its own.
5. An input about a row that retention removed means nothing any more.
"""

from protocol.aiming import aim
from protocol.alerts import alert_done, set_alerts, tell_next
from protocol.events import (
    CallSettled,
    CycleDeployed,
    CycleStarted,
    CycleStopped,
    CycleStopping,
    GatheringEnded,
    HitExpired,
    HoldExpired,
    ReplyDetached,
    ReplySent,
    StepCompleted,
    TransactionStopped,
)
from protocol.failures import fail, keep
from protocol.fold_retention import is_gone
from protocol.inputs import (
    Aim,
    AlertDone,
    CallEnded,
    CallLeaves,
    Continue,
    Deliver,
    Deploy,
    Hit,
    HoldDue,
    Input,
    OrderRedrive,
    ParkDue,
    Receipt,
    Recover,
    Redrive,
    Refused,
    ReplySettled,
    Retain,
    RunOnce,
    Settle,
    Start,
    Stop,
    Verdict,
)
from protocol.matching import forms_after
from protocol.outcomes import call_leaves, call_unknown, resend
from protocol.program import GatherPlan
from protocol.redrive import decide_redrive, fix_order
from protocol.replies import answer_at_end
from protocol.retention import about_gone, retain
from protocol.routing import COLLECTED_MAX, decide_hit, deliver, run_once
from protocol.state import CycleRow, HitRow, State, TransactionRow
from protocol.transaction import call_ended, run, wait_over
from protocol.turn import Decision, Numbering, Turn


def decide(state: State, given: Input, seq: int, numbering: Numbering | None = None) -> Decision:
    """Decide what an input means; the events are folded into the state already.

    Args:
        state: all rows; only `evolve` changes them.
        given: what happened.
        seq: the sequence number that the first event will have.
        numbering: numbers the events otherwise, for a run that is never journaled.

    Returns:
        The events, at most one turn's worth and atomic, and the verdict for who asked.
    """
    turn = Turn(state, given.cycle, given.at, seq, numbering)
    verdict = _decide(turn, given)
    try:
        cycle = state.cycle(given.cycle)
    except KeyError:  # It is about all of them.
        return Decision(seq, turn.events, verdict, turn.records, tuple(turn.rest))
    if cycle.gathered:
        _gather(turn, cycle)
    if cycle.status == "stopping":
        _finish_when_drained(turn, cycle)
    if cycle.untold:
        tell_next(turn, cycle)
    return Decision(seq, turn.events, verdict, turn.records, tuple(turn.rest))


def _decide(turn: Turn, given: Input) -> Verdict:
    if isinstance(given, Hit):  # Most are, and one is about no row yet.
        return decide_hit(turn, given)
    if about_gone(turn.state, given):
        return Refused(404, "Not found", "retention has removed the transaction") if isinstance(given, Settle) else None
    match given:
        case ReplySettled():
            _reply_settled(turn, given)
        case CallEnded():
            call_ended(turn, turn.state.transaction(given.transaction), given)
        case CallLeaves():
            call_leaves(turn, turn.state.transaction(given.transaction), given)
        case HoldDue():
            _hold_due(turn, turn.state.transaction(given.transaction))
        case ParkDue():
            _park_due(turn, turn.state.hit(given.hit))
        case Deploy():
            return _deploy(turn, given)
        case Start():
            return _start(turn)
        case Stop():
            return _stop(turn, given)
        case RunOnce():
            return run_once(turn)
        case Settle():
            return _settle(turn, given)
        case Recover():
            _recover(turn, given)
        case Continue():
            run(turn, turn.state.transaction(given.transaction))
        case Deliver():
            deliver(turn)
        case AlertDone():
            alert_done(turn, given)
        case Aim():
            return aim(turn, given)
        case OrderRedrive():
            return fix_order(turn, given)
        case Redrive():
            return decide_redrive(turn, given)
        case Retain():
            return retain(turn, given)
    return None


def _hold_due(turn: Turn, row: TransactionRow) -> None:
    """A hold that is still there goes on at its exit; in a cycle that is not running it waits for the start."""
    if row.status == "running" and 0 < row.until <= turn.at:
        wait_over(turn, row)
        return
    if row.status != "held" or not 0 < row.until <= turn.at or turn.state.cycle(row.cycle).status != "running":
        return
    step = row.step
    target = turn.program(row).webhook(step).on_timeout
    turn.emit(HoldExpired(row.cycle, turn.at, row.id, step, step if target == "fail" else target))
    if target == "fail":
        turn.incident(row.id, step, "hold_expired", "no matching request came in time")
        fail(turn, row, "hold_expired: no matching request came in time")
    run(turn, row)


def _park_due(turn: Turn, hit: HitRow) -> None:
    if hit.status not in ("parked", "collected") or hit.until > turn.at:
        return
    turn.emit(HitExpired(hit.cycle, turn.at, hit.id))
    turn.incident(0, hit.step, "hit_expired", f"hit {hit.id} was parked and nothing came for it")


def _deploy(turn: Turn, given: Deploy) -> Receipt:
    try:
        current = turn.state.cycle(given.cycle)
    except KeyError:
        current = None
    if current is None or current.definition_hash != given.hash or current.identifiers != given.identifiers:
        forms = {} if current is None else forms_after(turn.state, current, given)
        turn.emit(CycleDeployed(given.cycle, turn.at, given.definition, given.hash, given.identifiers, forms))
    set_alerts(turn, given)
    return Receipt(turn.state.cycle(given.cycle).status)


def _start(turn: Turn) -> Receipt:
    cycle = turn.state.cycle(turn.cycle)
    if cycle.status != "running":
        turn.emit(CycleStarted(cycle.name, turn.at))
    kept = turn.state.find("collected", (cycle.name,), COLLECTED_MAX)
    if kept:
        turn.rest.append(Deliver(cycle.name, turn.at))
    return Receipt("running", resumed=len(kept))


def _stop(turn: Turn, given: Stop) -> Receipt | None:
    """End passes now, or let them end; an order that one turn can not hold goes on in the next, which answers."""
    cycle = turn.state.cycle(turn.cycle)
    if cycle.status == "stopped":
        if cycle.once:
            turn.emit(CycleStopped(cycle.name, turn.at, given.mode, 0, 0, cycle.held))
        return Receipt("stopped", held=cycle.held)
    if given.mode == "finish":
        if cycle.status == "running":
            turn.emit(CycleStopping(cycle.name, turn.at))
        return Receipt("stopping" if cycle.running else "stopped", held=cycle.held)
    cut, kept = given.cut, given.kept
    for transaction in turn.state.running(cycle.name):
        if turn.exhausted:
            if cycle.status == "running":
                turn.emit(CycleStopping(cycle.name, turn.at))
            turn.rest.append(Stop(cycle.name, turn.at, "stop", cut, kept))
            return None
        row = turn.state.transaction(transaction)
        queue = list(row.queue)
        turn.emit(TransactionStopped(cycle.name, turn.at, row.id))
        answer_at_end(turn, row)
        keep(turn, queue, "stopped")
        cut, kept = cut + 1, kept + len(queue)
    turn.emit(CycleStopped(cycle.name, turn.at, "stop", cut, kept, cycle.held))
    return Receipt("stopped", cut, kept, cycle.held)


def _gather(turn: Turn, cycle: CycleRow) -> None:
    """Go on after each `wait_all` that transactions came to and none is on its way to any more."""
    if cycle.status == "stopped" or turn.rest:
        return
    plans = turn.state.program(cycle.definition_hash).plans
    for step, count in list(cycle.gathered.items()):
        plan = plans.get(step)
        if not isinstance(plan, GatherPlan):
            continue  # The step is gone from the current version.
        others = sum(running for phase, running in cycle.phases.items() if phase not in plan.awaits)
        if cycle.running == others:
            event = GatheringEnded(cycle.name, turn.at, step, count, cycle.definition_hash, plan.after)
            run(turn, turn.state.transaction(turn.emit(event)))


def _finish_when_drained(turn: Turn, cycle: CycleRow) -> None:
    if cycle.running == 0:
        turn.emit(CycleStopped(cycle.name, turn.at, "finish", 0, cycle.parked, cycle.held))


def _reply_settled(turn: Turn, given: ReplySettled) -> None:
    hit = turn.state.hit(given.hit)
    if hit.fate != "waiting":
        return
    if given.fate == "sent":
        turn.emit(ReplySent(hit.cycle, turn.at, hit.id))
    else:
        turn.emit(ReplyDetached(hit.cycle, turn.at, hit.id, given.fate))


def _settle(turn: Turn, given: Settle) -> Verdict:
    row = turn.state.transaction(given.transaction)
    call = row.call
    if turn.state.cycle(row.cycle).status != "running":
        return Refused(409, "Cycle is not running", f"start {row.cycle} first: the transaction goes on from the call")
    if call is None or not call.unknown:
        return Refused(409, "Nothing to settle", "the transaction has no call whose outcome is unknown")
    turn.emit(CallSettled(row.cycle, turn.at, row.id, call.step, given.action))
    match given.action:
        case "resend":
            resend(turn, row)
        case "done":
            after = turn.program(row).plans[call.step].after
            turn.emit(StepCompleted(row.cycle, turn.at, row.id, call.step, {}, after))
        case "fail":
            fail(turn, row, "unknown_outcome: a person let it count as failed")
    run(turn, row)
    return Receipt(row.status)


def _recover(turn: Turn, given: Recover) -> None:
    state = turn.state
    for hit in given.hits:
        if not is_gone(state, given.cycle, hit=hit) and state.hit(hit).fate == "waiting":
            turn.emit(ReplyDetached(turn.cycle, turn.at, hit, "restart"))
    for transaction in given.transactions:
        if is_gone(state, given.cycle, transaction=transaction):
            continue
        row = turn.state.transaction(transaction)
        call_unknown(turn, row)
        run(turn, row)
