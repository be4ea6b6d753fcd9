"""Tasks: how many there were, by cycle, step and day, and whether the month has any left (section 12)."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from protocol.duration import DAY_NS
from protocol.state import UsageRow, usage_name
from runtime.clock import Clock
from runtime.store import StoredState

LOOK_NS = 1_000_000_000  # Between sums of the month; a quota is passed by what a second accepts at most.
ROWS_MAX = 100_000  # Rows of usage summed or shown at once: 3,000 steps for a month.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class QuotaReached(Exception):
    """The month has no task left; `retry_after` is seconds until the next one begins."""

    def __init__(self, quota: int, retry_after: int) -> None:
        super().__init__(f"the quota of {quota} tasks a month is used up; the next month begins in {retry_after} s")
        self.retry_after = retry_after


class Meter:
    """Holds hits to the quota of the month (UTC)."""

    def __init__(self, state: StoredState, clock: Clock, tasks_per_month: int) -> None:
        self._state = state
        self._clock = clock
        self._quota = tasks_per_month
        self._used = 0
        self._looked_at = 0

    def check(self) -> None:
        """Raise `QuotaReached` when the month has no task left."""
        if not self._quota:
            return
        now = self._clock()
        if now - self._looked_at >= LOOK_NS:
            first, _ = month(now)
            self._used = sum(row.tasks for row in self._state.usages(usage_name(first, "", ""), ROWS_MAX))
            self._looked_at = now
        if self._used >= self._quota:
            _, after = month(now)
            raise QuotaReached(self._quota, (after * DAY_NS - now) // 1_000_000_000 + 1)


def month(at: int) -> tuple[int, int]:
    """The first day of the month of an instant, and that of the next month, as days since 1970."""
    first = (EPOCH + timedelta(days=at // DAY_NS)).replace(day=1)
    after = (first + timedelta(days=31)).replace(day=1)
    return (first - EPOCH).days, (after - EPOCH).days


def usage_view(rows: Iterable[UsageRow]) -> list[dict[str, Any]]:
    """Rows of usage as people read them."""
    return [
        {
            "day": (EPOCH + timedelta(days=row.day)).date().isoformat(),
            "cycle": row.cycle,
            "step": row.step,
            "tasks": row.tasks,
        }
        for row in rows
    ]
