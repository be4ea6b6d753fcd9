"""One transaction, carried from a webhook step until it must wait or is over.

1. A pass runs in one turn as far as it can: it stops at a call, at a hold, or at its end.
2. A pass that ends, in whatever way, answers the caller who still waits, in the same turn.
3. Hits that matched while a pass ran begin theirs one after the other, in order of arrival.
4. Nothing here acts: a call that must be made is a `CallIntended`, an answer to be sent is a `ReplyBuilt`.
"""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

from protocol.answers import TRANSACTION_HEADER, json_reply, problem
from protocol.bodies import BodyError, read_body
from protocol.calls import StepFailed, encode_body, encode_headers, idempotency_key, render_request
from protocol.definition import END
from protocol.events import (
    CallAnswered,
    CallFailed,
    CallIntended,
    CallUnknown,
    DecisionTaken,
    HitMatched,
    HitParked,
    PassStarted,
    ReplyBuilt,
    StepCompleted,
    TransactionCompleted,
    TransactionFailed,
    TransactionHeld,
)
from protocol.expression import EmptySource, ExpressionError
from protocol.inputs import CallAnswer, CallEnded, CallFailure, Continue, Deliver
from protocol.program import COLLECTED_NS, CallPlan, DecidePlan, RespondPlan, WebhookPlan
from protocol.state import HitRow, Reply, TransactionRow, transaction_name
from protocol.turn import Turn, scope

PARKED_AT_ONCE_MAX = 10_000  # Parked hits given to one hold in one turn: 60 bytes of journal each.


def begin_pass(turn: Turn, row: TransactionRow, hit: HitRow, data: dict[str, Any] | None = None) -> None:
    """Put a transaction at the webhook step that a hit came to; `data` saves reading the hit's body again."""
    plan = turn.program(row).webhook(hit.step)
    if data is None:
        data = hit_data(plan, hit)
    turn.passes += 1
    turn.emit(PassStarted(row.cycle, turn.at, row.id, hit.id, hit.step, row.number + 1))
    turn.emit(StepCompleted(row.cycle, turn.at, row.id, hit.step, data, plan.after))


def hit_data(plan: WebhookPlan, hit: HitRow) -> dict[str, Any]:
    """What a stored hit gives its step: the declared fields of its body, or of its query for GET and DELETE."""
    if hit.method in ("GET", "DELETE"):
        return plan.contract.read(hit.query)[0]
    try:
        return plan.contract.read(read_body(hit.body, hit.content_type))[0]
    except BodyError:
        return {}  # The step does not check its requests (`check: off`), and this one could not be read.


def run(turn: Turn, row: TransactionRow) -> None:
    """Carry a transaction on until it waits or ends, through the passes that queue behind the one in progress.

    What a turn can not hold is left for a turn of its own; the pass is then in progress, so a restart finds it.
    """
    while True:
        if row.status == "running":
            if row.call is not None:
                return
            if turn.exhausted:
                turn.rest.append(Continue(row.cycle, turn.at, row.id))
                return
            if row.step == END:
                turn.emit(TransactionCompleted(row.cycle, turn.at, row.id))
            else:
                _step(turn, row)
        else:
            answer_at_end(turn, row)
            if not begins_next(row):
                return
            begin_pass(turn, row, turn.state.hit(row.queue[0]))


def begins_next(row: TransactionRow) -> bool:
    """Whether a hit waits whose pass may begin now."""
    return bool(row.queue) and row.status in ("held", "completed") and row.call is None


def _step(turn: Turn, row: TransactionRow) -> None:
    plan = turn.program(row).plans[row.step]
    try:
        match plan:
            case DecidePlan():
                target = plan.choose(scope(turn, row, turn.program(row)))
                turn.emit(DecisionTaken(row.cycle, turn.at, row.id, row.step, target))
            case RespondPlan():
                _respond(turn, row, plan)
            case CallPlan():
                _call(turn, row, plan)
            case WebhookPlan():
                _hold(turn, row, plan)
            case _:
                assert_never(plan)
    except EmptySource as fault:
        step_failed(turn, row, "required_source_empty", f"Required source is empty: {fault}")
    except ExpressionError as fault:
        step_failed(turn, row, "invalid_expression", str(fault))
    except StepFailed as fault:
        step_failed(turn, row, fault.kind, str(fault))


def step_failed(turn: Turn, row: TransactionRow, kind: str, message: str) -> None:
    """Record an incident and do what the step's `on_error` says: go on, or fail the transaction.

    A hold that can not be reached fails the transaction whatever the policy: going on past it would run the steps
    that only its request may run.
    """
    step = row.step
    plan = turn.program(row).plans[step]
    turn.incident(row.id, step, kind, message)
    if isinstance(plan, WebhookPlan) or plan.policy == "stop_transaction":
        fail(turn, row, f"{kind}: {message}")
        return
    turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, {}, plan.after))


def fail(turn: Turn, row: TransactionRow, reason: str) -> None:
    """End the transaction as failed; hits that waited behind the pass look for another transaction."""
    queue = list(row.queue)
    turn.emit(TransactionFailed(row.cycle, turn.at, row.id, row.step, reason))
    if not queue:
        return
    if turn.state.cycle(row.cycle).status == "running":
        keep(turn, queue, "moved")
        turn.rest.append(Deliver(row.cycle, turn.at))
    else:
        keep(turn, queue, "stopped")


def keep(turn: Turn, hits: Sequence[int], reason: Literal["stopped", "moved"]) -> None:
    """Keep hits that have no place now until their cycle delivers them, in order of arrival."""
    for hit in hits:
        key = turn.state.hit(hit).key
        turn.emit(HitParked(turn.cycle, turn.at, hit, key, turn.at + COLLECTED_NS, reason))


def _respond(turn: Turn, row: TransactionRow, plan: RespondPlan) -> None:
    hit = turn.state.hit(row.hit)
    if hit.reply is not None:
        turn.incident(row.id, row.step, "already_answered", "the caller has an answer already", "info")
    else:
        names = scope(turn, row, turn.program(row))
        status = plan.status.render(names)
        if isinstance(status, str) and status.isdecimal():
            status = int(status)
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise StepFailed("invalid_response", f"a status lies from 200 to 599, not {status!r}")
        body, content_type = encode_body(plan.body.render(names), plan.body_as)
        headers = encode_headers(plan.headers.render(names))
        if body:
            headers.setdefault("content-type", content_type)
        _reply(turn, row, hit, Reply(status, headers, body))
    turn.emit(StepCompleted(row.cycle, turn.at, row.id, row.step, {}, plan.after))


def _reply(turn: Turn, row: TransactionRow, hit: HitRow, reply: Reply) -> None:
    headers = {**reply.headers, TRANSACTION_HEADER: transaction_name(row.cycle, row.id)}
    turn.emit(ReplyBuilt(hit.cycle, turn.at, hit.id, reply.status, headers, reply.body))


def answer_at_end(turn: Turn, row: TransactionRow) -> None:
    """A pass that ended without responding answers the caller who was promised an answer, now."""
    hit = turn.state.hit(row.hit)
    if not hit.wants_reply or hit.reply is not None or hit.parked:
        return
    name = transaction_name(row.cycle, row.id)
    match row.status:
        case "completed":
            reply = Reply(204, {}, b"")
        case "held":
            reply = json_reply(202, {"status": "held", "transaction": name, "step": row.step})
        case "failed":
            detail = f"the run failed at step {row.step}"
            reply = problem(500, "The run failed", detail, step=row.step, transaction=name)
        case "stopped":
            detail = f"the cycle was stopped at step {row.step}"
            reply = problem(409, "The run was stopped", detail, step=row.step, transaction=name)
        case "running":
            return
    _reply(turn, row, hit, reply)


def _hold(turn: Turn, row: TransactionRow, plan: WebhookPlan) -> None:
    step = row.step
    key = plan.key_of(scope(turn, row, turn.program(row)))
    if key is None:
        pairs = ", ".join(pair.earlier.text for pair in plan.match)
        raise StepFailed("required_source_empty", f"Required source is empty: nothing to match by in {pairs}")
    until = turn.at + plan.hold if plan.hold else 0
    turn.emit(TransactionHeld(row.cycle, turn.at, row.id, step, list(key), until))
    if not turn.state.cycle(row.cycle).parked:
        return  # Nearly always so, and it saves the look-up.
    for hit in turn.state.find("parked", (row.cycle, step, *key), PARKED_AT_ONCE_MAX):
        turn.emit(HitMatched(row.cycle, turn.at, hit, row.id, []))


def _call(turn: Turn, row: TransactionRow, plan: CallPlan) -> None:
    step = row.step
    if plan.link is not None and row.depth + 1 > turn.program(row).definition.settings.max_depth:
        raise StepFailed("loop_detected", f"508 Loop Detected: links are {row.depth} deep at {step}")
    request = render_request(plan, scope(turn, row, turn.program(row)))
    key = idempotency_key(row, step)
    turn.emit(CallIntended(row.cycle, turn.at, row.id, step, 1, key, request, plan.link))


def call_ended(turn: Turn, row: TransactionRow, ended: CallEnded) -> None:
    """The outcome of a call; one that is not the open call's is recorded by nobody, since it changes nothing."""
    call = row.call
    if call is None or call.step != ended.step or row.number != ended.number or call.unknown:
        return
    if ended.attempt not in (0, call.attempt):
        return
    match ended.outcome:
        case CallAnswer() as answer:
            _answered(turn, row, call.attempt, answer)
        case CallFailure(phase=phase, reason=reason):
            turn.emit(CallFailed(row.cycle, turn.at, row.id, call.step, call.attempt, phase, reason))
            kind = "connection_failed" if phase == "connect" else "no_answer"
            step_failed(turn, row, kind, reason)
    run(turn, row)


def _answered(turn: Turn, row: TransactionRow, attempt: int, answer: CallAnswer) -> None:
    step = row.step
    plan = turn.program(row).plans[step]
    assert isinstance(plan, CallPlan), "only a call step has an open call"
    turn.emit(
        CallAnswered(
            row.cycle,
            turn.at,
            row.id,
            step,
            attempt,
            answer.status,
            answer.headers,
            answer.body,
            answer.child,
            answer.child_cycle,
        )
    )
    if not 200 <= answer.status < 300:
        step_failed(turn, row, "remote_error", f"{plan.step.method} was answered with {answer.status}")
        return
    data: dict[str, Any] = {}
    if plan.contract.declared:
        data, faults = plan.contract.read(row.data[step]["body"])
        if faults:
            said = "; ".join(f"{fault.where}: {fault.rule}, found {fault.found}" for fault in faults)
            step_failed(turn, row, "invalid_answer", f"the answer breaks its contract: {said}")
            return
    turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, data, plan.after))


def call_unknown(turn: Turn, row: TransactionRow) -> None:
    """The process died with this call open: repeat it under its key, or leave it to a person."""
    call = row.call
    if call is None or call.unknown:
        return
    plan = turn.program(row).plans[call.step]
    assert isinstance(plan, CallPlan), "only a call step has an open call"
    waits = not plan.safe_to_repeat and call.link is None
    turn.emit(CallUnknown(row.cycle, turn.at, row.id, call.step, call.attempt, waits))
    if waits:
        turn.incident(row.id, call.step, "unknown_outcome", "a person must say whether the call took effect")
        answer_at_end(turn, row)
    else:
        resend(turn, row)


def resend(turn: Turn, row: TransactionRow) -> None:
    """Send the open call once more, under the key it always had."""
    call = row.call
    assert call is not None, "there is an open call to send again"
    turn.emit(
        CallIntended(
            row.cycle,
            turn.at,
            row.id,
            call.step,
            call.attempt + 1,
            call.idempotency_key,
            call.request,
            call.link,
        )
    )
