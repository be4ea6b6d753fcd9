"""`python -m tests.simulation --seeds N --first S`: many runs, every crash point, every break, and what they came to.

One seed alone, with its digest: `python -m tests.simulation --seeds 1 --first S --only runs`.
"""

import argparse
import random
import sys
import time
from collections import Counter

import structlog

from tests.simulation.breaks import BREAKS, caught, said
from tests.simulation.life import Told, simulate
from tests.simulation.scenarios import SCENARIOS, crashed, length
from tests.simulation.sometimes import must_happen

PAIRS = 40  # Crashes while recovering from a crash, of each scenario.
BREAK_RUNS_MAX = 400
ROTTEN_EVERY = 10  # Of the runs, the journals of so many are damaged, in every way.
FULL_RUNS = 300  # From so many seeds on, everything that must happen now and then must have happened.


class Sum:
    """What many runs came to."""

    def __init__(self) -> None:
        self.runs = 0
        self.broken: list[str] = []
        self.hours = 0.0
        self.crashes = 0
        self.points = 0
        self.calls = 0
        self.faults: Counter[str] = Counter()
        self.sometimes: Counter[str] = Counter()

    def add(self, told: Told) -> None:
        """One more."""
        self.runs += 1
        self.hours += told.seconds / 3600
        self.crashes += told.crashes
        self.calls += told.calls
        self.faults += told.faults
        self.sometimes += told.sometimes


def random_runs(total: Sum, first: int, seeds: int) -> None:
    """A run for each seed."""
    for seed in range(first, first + seeds):
        try:
            told = simulate(seed, rotten=seed % ROTTEN_EVERY == 0)
        except Exception as fault:  # noqa: BLE001 - Whatever it is, its seed is told, and the next one runs.
            total.broken.append(f"seed {seed}: {said(fault)}")
            print(total.broken[-1], flush=True)
        else:
            total.add(told)
            if seeds == 1:
                print(f"seed {seed}: digest {told.digest}, {told.calls} calls of ports")


def crash_points(total: Sum) -> None:
    """Each scenario with a crash at each call of a port, and at pairs of them."""
    for name in SCENARIOS:
        calls = length(name)
        chance = random.Random(name)
        pairs = [(one, one + chance.randint(1, 40)) for one in chance.choices(range(1, calls + 1), k=PAIRS)]
        for points in [*((one,) for one in range(1, calls + 1)), *pairs]:
            total.points += 1
            try:
                total.add(crashed(name, points))
            except Exception as fault:  # noqa: BLE001 - As above.
                total.broken.append(f"{name} crashed at {points}: {said(fault)}")
                print(total.broken[-1], flush=True)


def breaks(total: Sum) -> None:
    """Each break must be found."""
    for name in BREAKS:
        try:
            seed, runs, found = caught(name, BREAK_RUNS_MAX, simulate)
        except AssertionError as fault:
            total.broken.append(str(fault))
            print(total.broken[-1], flush=True)
        else:
            print(f"{name}: found by seed {seed} in {runs} runs: {found}")


def quiet() -> None:
    """The incidents of a simulation are nobody's."""

    def drop(*_: object) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])


def main() -> int:
    """Run what the command line says; 1 when anything was broken or never happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", choices=("runs", "crashes", "breaks"))
    given = parser.parse_args()
    quiet()
    total, began = Sum(), time.monotonic()
    if given.only in (None, "runs"):
        random_runs(total, given.first, given.seeds)
    if given.only in (None, "crashes"):
        crash_points(total)
    if given.only in (None, "breaks"):
        breaks(total)
    print(
        f"{total.runs} runs in {time.monotonic() - began:.0f} s: {total.hours:,.0f} simulated hours, "
        f"{total.calls:,} calls of ports, {total.crashes:,} crashes, {total.points:,} crash points tried, "
        f"{sum(total.faults.values()):,} faults injected"
    )
    if given.seeds > 1:
        for name, times in sorted((total.faults + total.sometimes).items()):
            print(f"{times:>8,} {name}")
    if given.only is None and given.seeds >= FULL_RUNS:
        never = [name for name in must_happen() if not total.sometimes[name]]
        total.broken += [f"never happened: {name}" for name in never]
        print(*total.broken, sep="\n")
    return bool(total.broken)


if __name__ == "__main__":
    sys.exit(main())
