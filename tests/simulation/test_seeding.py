"""A printed seed reproduces a run, in another process and with another hash seed."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.simulation import seeding
from tests.simulation.life import simulate

ROOT = Path(__file__).resolve().parents[2]
SEED = 20  # With crashes, faults, callbacks and a deploy.


def told_by_a_process(hash_seed: str) -> str:
    """What the command says of a seed."""
    command = [sys.executable, "-m", "tests.simulation", "--only", "runs", "--seeds", "1", "--first", str(SEED)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=100)
    return done.stdout.splitlines()[0]


def test_given_one_seed_when_run_in_two_processes_then_every_call_and_every_byte_is_the_same() -> None:
    """Whatever order a set or an address has there."""
    first, second = told_by_a_process("1"), told_by_a_process("2")
    assert first == second
    assert simulate(SEED).digest in first


def test_given_two_seeds_then_the_runs_differ() -> None:
    """A digest of nothing would be the same, too."""
    assert simulate(SEED).digest != simulate(SEED + 1).digest


def test_given_trio_then_its_scheduler_follows_the_seed() -> None:
    """The guard: should this fail after an upgrade, no seed reproduces anything until `seeding` knows the new Trio."""

    def order_of(seed: int) -> list[int]:
        order: list[int] = []

        async def note(number: int) -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                order.append(number)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(note, number)

        seeding.run_seeded(seed, main)
        return order

    assert order_of(1) == order_of(1)
    assert order_of(1) != order_of(2)


@pytest.mark.parametrize("name", [seeding.SWITCH, seeding.CHANCE])
def test_given_a_trio_without_its_names_then_it_says_so_loudly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence would leave runs that nobody can repeat."""
    monkeypatch.delattr(f"trio._core._run.{name}")
    with pytest.raises(seeding.SeedingLostError, match=f"no {seeding.SWITCH}"):
        seeding.scheduler()


def test_given_a_run_then_the_scheduler_is_left_as_it_was() -> None:
    """Other tests have theirs."""
    module = seeding.scheduler()
    before = getattr(module, seeding.SWITCH), getattr(module, seeding.CHANCE).getstate()
    simulate(SEED)
    assert (getattr(module, seeding.SWITCH), getattr(module, seeding.CHANCE).getstate()) == before
    assert isinstance(getattr(module, seeding.CHANCE), random.Random)
