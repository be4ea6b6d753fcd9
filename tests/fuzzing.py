"""Fuzzing: a few seconds of the same examples in `make test`, minutes of new ones in `make faults`.

A failure of the latter prints a blob for `@reproduce_failure`, and Hypothesis keeps the example for the next run.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

LENGTH = int(os.environ.get("FAULTS", "1"))  # How many times as long as in `make test`.


def fuzz(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Settings for a test that takes any input: so many examples, without a clock's say."""
    return settings(
        max_examples=examples * LENGTH,
        derandomize=LENGTH == 1,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
