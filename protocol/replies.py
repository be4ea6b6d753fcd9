"""What the caller of a pass is told (section 5): by a respond step, or at the instant the pass ends.

1. The answer goes to the hit that began the pass, once; what would be a second one is recorded as an incident.
   A respond that was reached answers: when its answer can not be built, and the policy goes on, with a 500.
2. A hit that was split is answered by the first of its parts to respond, else when the last of them has ended.
"""

from protocol.answers import TRANSACTION_HEADER, json_reply, problem
from protocol.calls import StepFailed, encode_body, encode_headers
from protocol.events import ReplyBuilt, StepCompleted
from protocol.program import RespondPlan
from protocol.shown import shown
from protocol.state import HitRow, Reply, TransactionRow, transaction_name
from protocol.turn import Turn, scope


def respond(turn: Turn, row: TransactionRow, plan: RespondPlan) -> None:
    """Answer the caller with what the step maps, unless he has an answer already."""
    hit = turn.caller(row)
    if hit is None or hit.reply is not None:
        turn.incident(row.id, row.step, "already_answered", "the caller has an answer already", "info")
    else:
        names = scope(turn.state, row)
        status = plan.status.render(names)
        if isinstance(status, str) and status.isdecimal():
            status = int(status)
        if not isinstance(status, int) or not 200 <= status <= 599:
            found = shown(turn.program(row), plan.status.expressions, status)
            raise StepFailed("invalid_response", f"a status lies from 200 to 599, not {found}")
        body, content_type = encode_body(plan.body.render(names), plan.body_as)
        headers = encode_headers(plan.headers.render(names))
        if body:
            headers.setdefault("content-type", content_type)
        tell(turn, row, hit, Reply(status, headers, body), row.step)
        turn.succeeded(row, row.step, turn.at)
    turn.emit(StepCompleted(row.cycle, turn.at, row.id, row.step, {}, plan.after))


def answer_in_vain(turn: Turn, row: TransactionRow) -> None:
    """Tell a caller whose answer could not be built so: the pass goes on, for who knows how long, and ends well."""
    hit = turn.caller(row)
    if hit is not None and hit.reply is None:
        name = transaction_name(row.cycle, row.id)
        detail = f"the answer of step {row.step} could not be built; the run goes on"
        tell(turn, row, hit, problem(500, "The answer failed", detail, step=row.step, transaction=name))


def tell(turn: Turn, row: TransactionRow, hit: HitRow, reply: Reply, step: str = "") -> None:
    """Build the answer to a hit; the name of its transaction goes with it."""
    headers = {**reply.headers, TRANSACTION_HEADER: transaction_name(row.cycle, row.id)}
    turn.emit(ReplyBuilt(hit.cycle, turn.at, hit.id, reply.status, headers, reply.body, step))


def answer_at_end(turn: Turn, row: TransactionRow) -> None:
    """A pass that ended without responding answers the caller who was promised an answer, now."""
    hit = turn.caller(row)
    if hit is None or not hit.wants_reply or hit.reply is not None or hit.parked or hit.branches:
        return
    name = transaction_name(row.cycle, row.id)
    match row.status:
        case "completed" | "held" if hit.failed_at:
            detail = f"a part of the run failed at step {hit.failed_at}"
            reply = problem(500, "The run failed", detail, step=hit.failed_at, transaction=name)
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
    tell(turn, row, hit, reply)
