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
    seen = row.seen.get(step, "") if plan.newer is not None else ""
    return plan.newer is not None and bool(mark and seen) and is_older(mark, seen, plan.newer.type)


def give(
    turn: Turn, hit: HitRow, row: TransactionRow, plan: WebhookPlan, mark: str, candidates: Sequence[int] = ()
) -> bool:
    """Give a hit to a transaction, where it waits for its pass; False when it is outdated there."""
    if is_outdated(row, plan, hit.step, mark):
        turn.emit(HitIgnored(hit.cycle, turn.at, hit.id, row.id, mark, row.seen[hit.step]))
        return False
    turn.emit(HitMatched(hit.cycle, turn.at, hit.id, row.id, list(candidates), mark))
    return True
