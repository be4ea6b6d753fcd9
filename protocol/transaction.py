"""One transaction, carried from a webhook step until it must wait or is over.

1. A pass runs in one turn as far as it can: it stops at a call, at a hold, or at its end.
2. A pass that ends, in whatever way, answers the caller who still waits, in the same turn.
3. Hits that matched while a pass ran begin theirs one after the other, in order of arrival.
4. Nothing here acts: a call that must be made is a `CallIntended`, an answer to be sent is a `ReplyBuilt`.
"""

from collections.abc import Sequence
from typing import Any, assert_never

from msgspec import UNSET

from protocol.calls import StepFailed, idempotency_key, render_request
from protocol.canonical import instant_ns
from protocol.chain import chain_of
from protocol.definition import END
from protocol.duration import LENGTH_NS_MAX
from protocol.events import (
    CallIntended,
    DecisionTaken,
    PassStarted,
    Request,
    RequestArrived,
    StepCompleted,
    TransactionCompleted,
    TransactionGathered,
    TransactionHeld,
    TransactionSplit,
    WaitEnded,
    WaitStarted,
)
from protocol.events_redrive import CallWithheld
from protocol.expression import EmptySource, ExpressionError
from protocol.failures import send_on, step_failed
from protocol.fields import HIDDEN
from protocol.fold_redrive import is_pending
from protocol.incidents import Kind
from protocol.inputs import CallAnswer, CallEnded, CallFailure, Continue, ScriptResult
from protocol.lists import value_at
from protocol.matching import find_parked, read_hit
from protocol.moving import move
from protocol.newer import give
from protocol.outcomes import answered, attempt_failed, hook_ended, is_announced, put_off, resend
from protocol.parting import SPLIT_MAX, complete
from protocol.program import (
    HOOK,
    SCRIPT,
    SCRIPT_NS,
    CallPlan,
    DecidePlan,
    GatherPlan,
    RespondPlan,
    ScriptPlan,
    SplitPlan,
    WaitPlan,
    WebhookPlan,
)
from protocol.remotes import left_alone
from protocol.replies import answer_at_end, respond
from protocol.shown import shown, told
from protocol.state import HitRow, Parting, TransactionRow
from protocol.turn import Turn, scope

PARKED_AT_ONCE_MAX = 10_000  # Parked hits given to one hold in one turn: 60 bytes of journal each.


def begin_pass(turn: Turn, row: TransactionRow, hit: HitRow, data: dict[str, Any] | None = None) -> None:
    """Put a transaction at the webhook step that a hit came to; `data` saves reading the hit's body again."""
    turn.passes += 1
    turn.emit(PassStarted(row.cycle, turn.at, row.id, hit.id, hit.step, row.number + 1))
    move(turn, row, hit)
    plan = turn.program(row).webhook(hit.step)
    if data is None:
        data = read_hit(plan, hit)[0]
    if plan.step.after_webhook is UNSET:
        complete(turn, row, data)
    else:
        turn.emit(RequestArrived(row.cycle, turn.at, row.id, hit.step, data))


def run(turn: Turn, row: TransactionRow) -> None:
    """Carry a transaction on until it waits or ends, through the passes that queue behind the one in progress.

    What a turn can not hold is left for a turn of its own; the pass is then in progress, so a restart finds it.
    """
    while True:
        if row.status == "running":
            if row.call is not None or row.until:
                return
            if turn.exhausted:
                turn.rest.append(Continue(row.cycle, turn.at, row.id))
                return
            if row.parting is not None:
                _part(turn, row, row.parting)
            elif row.step == END:
                turn.emit(TransactionCompleted(row.cycle, turn.at, row.id))
            else:
                _step(turn, row)
        else:
            answer_at_end(turn, row)
            if not begins_next(row):
                return
            hit = turn.state.hit(row.queue[0])
            if hit.step in row.reached:
                begin_pass(turn, row, hit)
            else:  # The pass before it went another way, so nothing here waits for it any more.
                send_on(turn, [hit.id])


def begins_next(row: TransactionRow) -> bool:
    """Whether a hit waits whose pass may begin now."""
    return bool(row.queue) and row.status in ("held", "completed") and row.call is None


def _step(turn: Turn, row: TransactionRow) -> None:
    plan = turn.program(row).plans[row.step]
    try:
        match plan:
            case DecidePlan():
                target = plan.choose(scope(turn.state, row))
                turn.succeeded(row, row.step, turn.at)
                turn.emit(DecisionTaken(row.cycle, turn.at, row.id, row.step, target))
            case RespondPlan():
                respond(turn, row, plan)
            case CallPlan():
                _call(turn, row, plan)
            case WebhookPlan() if row.arrived:
                _arrived(turn, row, plan)
            case WebhookPlan():
                _hold(turn, row, plan)
            case WaitPlan():
                _wait(turn, row, plan)
            case ScriptPlan():
                request = Request("", SCRIPT, plan.function, {}, b"", "", SCRIPT_NS)
                _intend(turn, row, plan, request)
            case SplitPlan():
                _split(turn, row, plan)
            case GatherPlan():
                turn.emit(TransactionGathered(row.cycle, turn.at, row.id, row.step))
            case _:
                assert_never(plan)
    except EmptySource as fault:
        step_failed(turn, row, "required_source_empty", f"Required source is empty: {told(turn.program(row), fault)}")
    except ExpressionError as fault:
        step_failed(turn, row, "invalid_expression", told(turn.program(row), fault))
    except StepFailed as fault:
        step_failed(turn, row, fault.kind, str(fault), fault.detail)


def _split(turn: Turn, row: TransactionRow, plan: SplitPlan) -> None:
    """Begin a transaction for each item; what one turn can not hold goes on in the next, at the item it came to."""
    step = row.step
    items = plan.items.evaluate(scope(turn.state, row))
    if not isinstance(items, list):
        found = shown(turn.program(row), (plan.items,), items)
        raise StepFailed("can_not_be_split", f"Step data cannot be split: {plan.items.text} is no list, but {found}")
    if len(items) > SPLIT_MAX:
        raise StepFailed("can_not_be_split", f"Step data cannot be split: {len(items)} items, of at most {SPLIT_MAX}")
    if _begin_each(turn, row, step, items, plan.after):
        turn.succeeded(row, step, turn.at)
        turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, {"count": len(items)}, END))


def _part(turn: Turn, row: TransactionRow, parting: Parting) -> None:
    """The same for the items of a list that nobody named."""
    items = value_at(row.data[parting.step], parting.path)
    if _begin_each(turn, row, parting.step, items, parting.target):
        turn.emit(TransactionCompleted(row.cycle, turn.at, row.id))


def _begin_each(turn: Turn, row: TransactionRow, step: str, items: Sequence[Any], target: str) -> bool:
    """Begin transactions for the items that have none yet; False when the turn can not hold them all."""
    while row.split < len(items):
        if turn.exhausted:
            return False
        turn.passes += 1
        event = TransactionSplit(row.cycle, turn.at, row.id, step, row.split, items[row.split], target)
        run(turn, turn.state.transaction(turn.emit(event)))
    return True


def _hold(turn: Turn, row: TransactionRow, plan: WebhookPlan) -> None:
    step = row.step
    key = plan.key_of(scope(turn.state, row))
    if key is None:
        pairs = ", ".join(pair.earlier.text for pair in plan.match)
        raise StepFailed("required_source_empty", f"Required source is empty: nothing to match by in {pairs}")
    until = turn.at + plan.hold if plan.hold else 0
    turn.emit(TransactionHeld(row.cycle, turn.at, row.id, step, list(key), until))
    take_parked(turn, row, step, key)


def take_parked(turn: Turn, row: TransactionRow, step: str, key: Sequence[str]) -> None:
    """Give a transaction the hits that are parked for what it has reached, in their order."""
    if not turn.state.cycle(row.cycle).parked:
        return  # Nearly always so, and it saves the look-up.
    plan = turn.program(row).webhook(step)
    for hit in find_parked(turn.state, row, step, key, PARKED_AT_ONCE_MAX):
        parked = turn.state.hit(hit)
        give(turn, parked, row, plan, (plan.mark(read_hit(plan, parked)[0]) or "") if plan.newer else "")


def _call(turn: Turn, row: TransactionRow, plan: CallPlan) -> None:
    step = row.step
    if plan.link is not None and row.depth + 1 > turn.program(row).definition.settings.max_depth:
        chain = chain_of(row)
        detail = {"chain": chain, "depth": row.depth + 1, "signed": True}
        message = f"508 Loop Detected: chain {chain} is {row.depth} hand-overs deep at {row.cycle}/{step}"
        raise StepFailed("loop_detected", message, detail)
    before = row.pending.request if row.pending is not None and is_pending(row, step) else None
    request = before or render_request(plan, scope(turn.state, row))
    until = left_alone(turn.state.cycle(row.cycle), request)
    if until > turn.at:
        put_off(turn, row, until, "remote")
    else:
        _intend(turn, row, plan, request, plan.link)


def _intend(
    turn: Turn, row: TransactionRow, plan: CallPlan | ScriptPlan, request: Request, link: tuple[str, str] | None = None
) -> None:
    """Make a call, unless it may have taken effect before this transaction resumed it, and must not do so twice."""
    step = row.step
    key = idempotency_key(row, step)
    if is_pending(row, step) and not plan.safe_to_repeat and link is None:
        turn.emit(CallWithheld(row.cycle, turn.at, row.id, step, key, request))
        turn.incident(row.id, step, "unknown_outcome", "a person must say whether the call took effect")
        return
    announced = is_announced(plan)
    turn.emit(CallIntended(row.cycle, turn.at, row.id, step, 1, key, request, link, announced))


def _arrived(turn: Turn, row: TransactionRow, plan: WebhookPlan) -> None:
    """A request has come, and its data waits for the step's `after_webhook`, if this version has one."""
    if plan.step.after_webhook is UNSET:
        complete(turn, row, row.data[row.step])
        return
    request = Request("", HOOK, plan.step.after_webhook, {}, b"", "", SCRIPT_NS)
    key = idempotency_key(row, row.step)
    turn.emit(CallIntended(row.cycle, turn.at, row.id, row.step, 1, key, request))


def call_ended(turn: Turn, row: TransactionRow, ended: CallEnded) -> None:
    """The outcome of a call; one that is not the open call's is recorded by nobody, since it changes nothing."""
    call = row.call
    if call is None or call.step != ended.step or row.number != ended.number or call.unknown or row.until:
        return
    if ended.attempt not in (0, call.attempt):
        return
    match ended.outcome:
        case CallAnswer() as answer:
            answered(turn, row, call.attempt, answer)
        case ScriptResult(data=data) if call.request.method == HOOK:
            hook_ended(turn, row, data)
        case ScriptResult(data=data):
            turn.succeeded(row, call.step, call.at)
            complete(turn, row, data)
        case CallFailure(phase=phase, reason=reason):
            kind: Kind = "connection_failed" if phase == "connect" else "no_answer"
            kind = "script_failed" if call.request.method in (SCRIPT, HOOK) else kind
            attempt_failed(turn, row, phase, kind, reason)
    run(turn, row)


def wait_over(turn: Turn, row: TransactionRow) -> None:
    """The time of a delay, or for another attempt, has come."""
    step = row.step
    turn.emit(WaitEnded(row.cycle, turn.at, row.id, step))
    plan = turn.program(row).plans[step]
    if row.call is not None:
        until = left_alone(turn.state.cycle(row.cycle), row.call.request)
        if until > turn.at:
            put_off(turn, row, until, "remote")
        else:
            resend(turn, row)
    elif isinstance(plan, WaitPlan):
        turn.succeeded(row, step, turn.at)
        turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, {}, plan.after))
    run(turn, row)  # A call that waited for its remote is made now, from what its step renders now.


def _wait(turn: Turn, row: TransactionRow, plan: WaitPlan) -> None:
    until: int | None = turn.at + plan.delay
    value: Any = None
    if plan.until is not None:
        value = plan.until.render(scope(turn.state, row))
        until = instant_ns(value)
    if until is None or until > turn.at + LENGTH_NS_MAX:
        found = HIDDEN if plan.until is None else shown(turn.program(row), plan.until.expressions, value)
        message = f"a wait ends within ten years, at RFC 3339 or milliseconds, not {found}"
        raise StepFailed("invalid_instant", message)
    if until > turn.at:
        turn.emit(WaitStarted(row.cycle, turn.at, row.id, row.step, until, "delay"))
    else:
        turn.succeeded(row, row.step, turn.at)
        turn.emit(StepCompleted(row.cycle, turn.at, row.id, row.step, {}, plan.after))
