"""Figures as a table, with the machine they were measured on."""

import os
import platform
import statistics
import sys
from collections.abc import Sequence


def machine() -> str:
    """What this was measured on."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    if len(seconds) < 2:
        return (seconds[0] * 1e3, seconds[0] * 1e3) if seconds else (0.0, 0.0)
    cut = statistics.quantiles(seconds, n=100)
    return cut[49] * 1e3, cut[98] * 1e3


def row(question: str, figure: str, p50: float | None = None, p99: float | None = None, note: str = "") -> None:
    """Print one line of the table."""
    times = f"{p50:9.2f} {p99:9.2f}" if p50 is not None and p99 is not None else " " * 19
    print(f"{question:<44} {figure:>16} {times}  {note}")
    sys.stdout.flush()


def head() -> None:
    """Print the head of the table."""
    print(machine())
    print(f"{'question':<44} {'figure':>16} {'p50 ms':>9} {'p99 ms':>9}")
