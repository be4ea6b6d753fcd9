"""The quota (section 12): months in UTC, what is used of them, and what is told past it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.duration import DAY_NS
from runtime.config import Quota
from runtime.metering import EPOCH, QuotaReached, month
from tests.runtime.rig import NOON, running

CYCLE = """
cycle: counts
connectors: {shop: {}}
steps:
  asked: {webhook: shop}
  answer: {respond: {body: 1}}
"""


def days(*date: int) -> int:
    """A date as days since 1970."""
    return (datetime(*date, tzinfo=UTC) - EPOCH).days  # type: ignore[arg-type, misc]  # Year, month and day.


@pytest.mark.parametrize(
    ("at", "first", "after"),
    [
        ((2026, 1, 1), (2026, 1, 1), (2026, 2, 1)),
        ((2026, 12, 31), (2026, 12, 1), (2027, 1, 1)),
        ((2028, 2, 29), (2028, 2, 1), (2028, 3, 1)),
    ],
)
def test_12_a_month_is_a_month_of_utc(at: tuple[int, ...], first: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Section 12: from its first day to that of the next."""
    assert month(days(*at) * DAY_NS + DAY_NS - 1) == (days(*first), days(*after))


async def test_12_past_the_quota_requests_are_refused_until_the_next_month(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 12: 429; what was used before a restart counts."""
    del autojump_clock
    monkeypatch.setattr("runtime.metering.LOOK_NS", 0)
    async with running(tmp_path, CYCLE, quota=Quota(tasks_per_month=5)) as rig:
        for _ in range(2):
            assert (await rig.ask("counts", "asked", {})).status == 200
    async with running(tmp_path, CYCLE, quota=Quota(tasks_per_month=5)) as rig:
        assert (await rig.ask("counts", "asked", {})).status == 200
        with pytest.raises(QuotaReached) as refused:
            rig.hit("counts", "asked", {})
        assert refused.value.retry_after == pytest.approx(month(NOON)[1] * 86_400 - NOON // 10**9, abs=5)
