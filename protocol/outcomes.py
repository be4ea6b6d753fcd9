"""What the outcome of a call means for its pass (sections 7 and 10): data, a failure, another attempt, or patience."""

from typing import Any, Literal

from msgspec import UNSET

from protocol.answers import problem
from protocol.bodies import repeats_names
from protocol.definition import END
from protocol.duration import SECOND_NS
from protocol.events import CallAnswered, CallFailed, CallIntended, CallUnknown, StepCompleted, WaitStarted
from protocol.events_leaving import CallLeft
from protocol.failures import fail, step_failed
from protocol.hooks import MESSAGE_MAX, BadWord, after_word, rejection
from protocol.incidents import Kind
from protocol.inputs import CallAnswer, CallLeaves
from protocol.parting import complete
from protocol.program import CallPlan, Plan, ScriptPlan, WebhookPlan
from protocol.remotes import attempts_lost, patience
from protocol.replies import answer_at_end, tell
from protocol.retry import asks_for_patience
from protocol.state import TransactionRow, transaction_name
from protocol.turn import Turn


def attempt_failed(turn: Turn, row: TransactionRow, phase: Literal["connect", "sent"], kind: Kind, reason: str) -> None:
    """An attempt brought no answer."""
    call = row.call
    assert call is not None, "only an open call fails"
    turn.emit(CallFailed(row.cycle, turn.at, row.id, call.step, call.attempt, phase, reason, attempts_lost(call)))
    call_failed(turn, row, kind, reason)


def hook_ended(turn: Turn, row: TransactionRow, result: dict[str, Any]) -> None:
    """An `after_webhook` returned: the data of its step is what it says, or nothing more runs."""
    step = row.step
    try:
        word = after_word(result)
        reject = None if word.reject is UNSET else rejection(word.reject)
    except BadWord as fault:
        attempt_failed(turn, row, "sent", "script_failed", str(fault))
        return
    if reject is not None:
        turn.incident(row.id, step, "rejected", reject.message)
        hit = turn.caller(row)
        if hit is not None and hit.wants_reply and hit.reply is None and not hit.parked:
            name = transaction_name(row.cycle, row.id)
            tell(turn, row, hit, problem(reject.status, "Rejected", reject.message, step=step, transaction=name))
        fail(turn, row, f"rejected: {reject.message}")
    elif isinstance(word.filter, str):
        turn.incident(row.id, step, "filtered", word.filter[:MESSAGE_MAX], "info")
        turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, row.data[step], END))
    else:
        complete(turn, row, row.data[step] if word.data is UNSET else word.data)


def call_failed(turn: Turn, row: TransactionRow, kind: Kind, message: str) -> None:
    """An attempt failed: wait for the next one if the policy has one left, else the step has failed."""
    call, plan = row.call, turn.program(row).plans[row.step]
    assert call is not None, "only an open call fails"
    assert isinstance(plan, CallPlan | ScriptPlan | WebhookPlan), "only these have an open call"
    if call.failures < len(plan.gaps):
        turn.incident(row.id, row.step, kind, message, "warning")
        put_off(turn, row, turn.at + plan.gaps[call.failures], "retry")
        return
    if plan.gaps:
        kind, message = "out_of_retries", f"Out of retries: {kind}: {message}"
    step_failed(turn, row, kind, message, row.data[row.step] if isinstance(plan, WebhookPlan) else None)


def put_off(turn: Turn, row: TransactionRow, until: int, reason: Literal["retry", "limited", "remote"]) -> None:
    """Wait for another attempt; a caller who will be gone by then is told so now."""
    step = row.step
    turn.emit(WaitStarted(row.cycle, turn.at, row.id, step, until, reason))
    hit = turn.caller(row)
    if hit is None or hit.origin is not None:
        return  # A link has no deadline, and would be told the same by every attempt of its own.
    if hit.wants_reply and hit.reply is None and not hit.parked and until > hit.answer_by:
        name = transaction_name(row.cycle, row.id)
        detail = f"the remote system of step {step} gave no good answer; the run goes on and tries again"
        tell(turn, row, hit, problem(502, "The run tries again later", detail, step=step, transaction=name))


def answered(turn: Turn, row: TransactionRow, attempt: int, answer: CallAnswer) -> None:
    """An answer came: the data of the step, or a failure if it is not a good one."""
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
            0 if row.call is None else attempts_lost(row.call),
        )
    )
    if row.call is not None and asks_for_patience(answer.status, answer.headers):
        until = patience(turn.state.cycle(row.cycle), row.call.request, answer, turn.at)
        seconds = (until - turn.at) // SECOND_NS
        message = f"{plan.step.method} was answered with {answer.status}: the next attempt is in {seconds} s"
        turn.incident(row.id, step, "rate_limited", message, "info")
        put_off(turn, row, until, "limited")
        return
    if not 200 <= answer.status < 300:
        call_failed(turn, row, "remote_error", f"{plan.step.method} was answered with {answer.status}")
        return
    data: dict[str, Any] = {}
    if plan.contract.declared:
        repeats = repeats_names(answer.headers.get("content-type", ""))
        data, faults = plan.contract.read(row.data[step]["body"], repeats=repeats)
        if faults:
            said = "; ".join(f"{fault.where}: {fault.rule}, found {fault.found}" for fault in faults)
            call_failed(turn, row, "invalid_answer", f"the answer breaks its contract: {said}")
            return
    turn.succeeded(row, step, row.call.at if row.call else turn.at)
    complete(turn, row, data)


def call_unknown(turn: Turn, row: TransactionRow) -> None:
    """The process died with this call open: repeat it under its key, or leave it to a person."""
    call = row.call
    if call is None or call.unknown or row.until:
        return  # One that waits for its next attempt is not on its way.
    plan = turn.program(row).plans[call.step]
    assert isinstance(plan, CallPlan | ScriptPlan | WebhookPlan), "only these have an open call"
    if not call.left:
        resend(turn, row)  # It waited for its place when the process died, so it surely had no effect.
        return
    waits = not (isinstance(plan, WebhookPlan) or plan.safe_to_repeat) and call.link is None
    lost = 1 + attempts_lost(call) if waits else 0  # One that is made again has its end before it.
    turn.emit(CallUnknown(row.cycle, turn.at, row.id, call.step, call.attempt, waits, lost))
    if waits:
        turn.incident(row.id, call.step, "unknown_outcome", "a person must say whether the call took effect")
        answer_at_end(turn, row)
    else:
        resend(turn, row)


def is_announced(plan: Plan) -> bool:
    """Whether it is recorded when a call leaves: where nobody may repeat one that might have."""
    return isinstance(plan, CallPlan) and plan.link is None and not plan.safe_to_repeat


def call_leaves(turn: Turn, row: TransactionRow, given: CallLeaves) -> None:
    """Record that an announced attempt leaves; one that is not open any more does not."""
    call = row.call
    if call is None or call.left or row.until or row.number != given.number:
        return
    if (call.step, call.attempt) == (given.step, given.attempt):
        turn.emit(CallLeft(row.cycle, turn.at, row.id, call.step, call.attempt))


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
            is_announced(turn.program(row).plans[call.step]),
        )
    )
