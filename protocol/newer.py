"""Requests that come out of order (section 6.8): the one that is older than the last is recorded, and does not run.

1. Requests are compared when they are given to a transaction, not when their pass begins: the answer says `ignored` at
   once, also while another pass is in progress.
2. Only an older one is ignored. Two with the same value may both be news, since clocks have coarse ticks; a delivery
   that comes twice is told by its key.
3. One without a value is neither older nor newer: it runs, and leaves the value that was seen.
"""

from collections.abc import Sequence

from protocol.canonical import is_older
from protocol.events import HitIgnored, HitMatched
from protocol.program import WebhookPlan
from protocol.state import HitRow, TransactionRow
from protocol.turn import Turn


def is_outdated(row: TransactionRow, plan: WebhookPlan, step: str, mark: str) -> bool:
    """Whether a request with this value is older than the last one that the transaction was given at the step."""
    return plan.newer is not None and bool(mark) and is_older(mark, seen_at(row, plan, step), plan.newer.type)


def seen_at(row: TransactionRow, plan: WebhookPlan, step: str) -> str:
    """The value in the last request that the transaction was given at the step; "" for none, or for another field."""
    return "" if plan.newer is None else row.seen.get(f"{step}.{plan.newer.location}", "")


def give(
    turn: Turn, hit: HitRow, row: TransactionRow, plan: WebhookPlan, mark: str, candidates: Sequence[int] = ()
) -> bool:
    """Give a hit to a transaction, where it waits for its pass; False when it is outdated there."""
    if is_outdated(row, plan, hit.step, mark):
        turn.emit(HitIgnored(hit.cycle, turn.at, hit.id, row.id, mark, seen_at(row, plan, hit.step)))
        return False
    by = "" if plan.newer is None else plan.newer.location
    turn.emit(HitMatched(hit.cycle, turn.at, hit.id, row.id, list(candidates), by, mark))
    return True
