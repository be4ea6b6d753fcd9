"""What a failure of a step means (section 10): an incident, and what the policy says."""

from collections.abc import Sequence
from typing import Any, Literal

from protocol.events import CycleStopping, HitParked, StepCompleted, TransactionFailed
from protocol.incidents import Kind
from protocol.inputs import Deliver, Stop
from protocol.program import COLLECTED_NS, RespondPlan, WebhookPlan
from protocol.replies import answer_in_vain
from protocol.state import TransactionRow
from protocol.turn import Turn

Detail = dict[str, Any] | None


def step_failed(
    turn: Turn,
    row: TransactionRow,
    kind: Kind,
    message: str,
    data: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record an incident and do what the step's `on_error` says: go on, with what data there is, or fail.

    A hold that can not be reached fails the transaction whatever the policy: going on past it would run the steps
    that only its request may run. Where there is data its request has come.
    """
    step = row.step
    plan = turn.program(row).plans[step]
    turn.incident(row.id, step, kind, message, detail=detail)
    if isinstance(plan, WebhookPlan) and data is None:
        fail(turn, row, f"{kind}: {message}")
    elif plan.policy != "ignore":
        if plan.policy == "stop_cycle":
            _stop_cycle(turn, row.cycle)
        fail(turn, row, f"{kind}: {message}")
    else:
        if isinstance(plan, RespondPlan):
            answer_in_vain(turn, row)
        turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, data or {}, plan.after))


def _stop_cycle(turn: Turn, cycle: str) -> None:
    """Take nothing more from this turn on, whatever becomes of the process; other passes are ended by the next."""
    if turn.state.cycle(cycle).status == "running":
        turn.emit(CycleStopping(cycle, turn.at))
    turn.rest.append(Stop(cycle, turn.at, "stop"))


def fail(turn: Turn, row: TransactionRow, reason: str) -> None:
    """End the transaction as failed; hits that waited behind the pass look for another transaction."""
    queue = list(row.queue)
    turn.emit(TransactionFailed(row.cycle, turn.at, row.id, row.step, reason))
    if queue:
        send_on(turn, queue)


def send_on(turn: Turn, hits: Sequence[int]) -> None:
    """Hits that their transaction does not run look for another place, now or when their cycle starts."""
    if turn.state.cycle(turn.cycle).status == "running":
        keep(turn, hits, "moved")
        turn.rest.append(Deliver(turn.cycle, turn.at))
    else:
        keep(turn, hits, "stopped")


def keep(turn: Turn, hits: Sequence[int], reason: Literal["stopped", "moved"]) -> None:
    """Keep hits that have no place now until their cycle delivers them, in order of arrival."""
    for hit in hits:
        key = turn.state.hit(hit).key
        turn.emit(HitParked(turn.cycle, turn.at, hit, key, turn.at + COLLECTED_NS, reason))
