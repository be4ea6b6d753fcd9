"""Time as the runtime uses it: wall time for facts, Trio's time for waits."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import trio

STEP_NS = 1_000_000_000  # What clocks differ by is set right slowly; by more than this somebody has set one.

Clock = Callable[[], int]
"""Nanoseconds since 1970 UTC, never decreasing within a process."""


def wall_clock(wall: Clock = time.time_ns, steady: Clock = time.monotonic_ns) -> Clock:
    """The machine's clock, held from going back: an event is never older than the one before it.

    Nor does it stand still until a clock that was set back has caught up, since every delay would wait for that: it
    goes on as far ahead as it was, until the clock is set forward again or the process ends. What happened while a
    machine slept is seen at once.

    Args:
        wall: the time that people set.
        steady: the time that nobody sets.
    """
    seen, counted = wall(), steady()
    latest = ahead = 0

    def now() -> int:
        nonlocal seen, counted, latest, ahead
        at, count = wall(), steady()
        step = (at - seen) - (count - counted)
        if abs(step) > STEP_NS:
            ahead = max(0, ahead - step)
        seen, counted = at, count
        latest = max(latest, at + ahead)
        return latest

    return now


def trio_clock(start: int) -> Clock:
    """A wall clock that follows Trio's time from `start`: under a mock clock, virtual time is wall time too."""
    origin = trio.current_time()
    return lambda: start + int((trio.current_time() - origin) * 1e9)


def instant(at: int) -> str | None:
    """Nanoseconds since 1970 as RFC 3339 text in UTC; None for 0, which means never."""
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds") if at else None
