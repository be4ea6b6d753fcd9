"""Steps that bring data, and what the pass goes on with: all of it, or its parts (`settings.split`, section 9).

1. Data that is, or holds, one list is parted where the cycle says so: each item runs on as a transaction of its own, in
   whose data the item stands where the list was. The one that was parted is then completed, as by a `split` step.
2. Several lists at one depth can not be parted: an incident; if that is ignored, the pass goes on with the whole data.
"""

from typing import Any

from protocol.events import PartingStarted, RequestArrived, StepCompleted
from protocol.failures import step_failed
from protocol.lists import NotSplittable, find_list, value_at
from protocol.program import CallPlan, Program, WebhookPlan
from protocol.state import TransactionRow
from protocol.turn import Turn

SPLIT_MAX = 10_000  # Items of one list; each is a transaction of its own.


def complete(turn: Turn, row: TransactionRow, data: dict[str, Any]) -> None:
    """The step at which a transaction is has brought its data."""
    step, program = row.step, turn.program(row)
    plan = program.plans[step]
    path: tuple[str, ...] | None = None
    whole = data
    without: list[str] = []
    if _parts(program, step):
        if isinstance(plan, CallPlan):  # What is declared was read from the body, which every part would carry again.
            whole, without = (data, ["body"]) if plan.contract.declared else ({"body": row.data[step]["body"]}, [])
        try:
            path = find_list(whole)
            if path is not None and len(items := value_at(whole, path)) > SPLIT_MAX:
                raise NotSplittable(f"{len(items)} items, of at most {SPLIT_MAX}")
        except NotSplittable as fault:
            if isinstance(plan, WebhookPlan) and not row.arrived:  # Whatever follows, what came is not lost.
                turn.emit(RequestArrived(row.cycle, turn.at, row.id, step, data))
            step_failed(turn, row, "can_not_be_split", f"Step data cannot be split: {fault}", data)
            return
    turn.emit(StepCompleted(row.cycle, turn.at, row.id, step, data, plan.after))
    if path is not None:
        turn.emit(PartingStarted(row.cycle, turn.at, row.id, step, list(path), without, plan.after))


def _parts(program: Program, step: str) -> bool:
    match program.definition.settings.split:
        case "all":
            return True
        case "trigger":
            return step == program.trigger
        case "none":
            return False
