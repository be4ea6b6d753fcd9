"""Time as the runtime uses it: wall time for facts, Trio's time for waits."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import trio

Clock = Callable[[], int]
"""Nanoseconds since 1970 UTC, never decreasing within a process."""


def wall_clock() -> Clock:
    """The machine's clock, held from going back: an event is never older than the one before it."""
    latest = 0

    def now() -> int:
        nonlocal latest
        latest = max(latest, time.time_ns())
        return latest

    return now


def trio_clock(start: int) -> Clock:
    """A wall clock that follows Trio's time from `start`: under a mock clock, virtual time is wall time too."""
    origin = trio.current_time()
    return lambda: start + int((trio.current_time() - origin) * 1e9)


def instant(at: int) -> str | None:
    """Nanoseconds since 1970 as RFC 3339 text in UTC; None for 0, which means never."""
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds") if at else None
