"""One seed decides everything: Trio's scheduler and clock, both private or mocked, behind one function.

The scheduler's names are private to Trio. If an upgrade renames them this raises; if one changes what they do, the
test that compares two processes fails.
"""

import importlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing

Done = TypeVar("Done")
SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"
CHANCE = "_r"


class SeedingLostError(Exception):
    """Trio changed: its scheduler can not be seeded the way this file knows."""


def scheduler() -> Any:
    """Trio's module whose switch and generator decide the order of tasks.

    Raises:
        SeedingLostError: it does not have them.
    """
    found: Any = importlib.import_module("trio._core._run")
    if not isinstance(getattr(found, SWITCH, None), bool) or not isinstance(
        getattr(found, CHANCE, None), random.Random
    ):
        raise SeedingLostError(
            f"trio {trio.__version__} has no {SWITCH} and {CHANCE} in trio._core._run: find out how its scheduler "
            "chooses among tasks that are ready, and seed that; without it no printed seed reproduces a run"
        )
    return found


def run_seeded(seed: int, main: Callable[[], Awaitable[Done]]) -> Done:
    """Run under a mock clock, which jumps when all wait, with an order of tasks that the seed decides."""
    module = scheduler()
    before, state = getattr(module, SWITCH), getattr(module, CHANCE).getstate()
    setattr(module, SWITCH, True)
    getattr(module, CHANCE).seed(seed)
    try:
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        setattr(module, SWITCH, before)
        getattr(module, CHANCE).setstate(state)
