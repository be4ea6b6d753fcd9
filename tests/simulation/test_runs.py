"""A slice of the simulation for every day; `make simulate` has the whole of it."""

import random
from functools import partial
from pathlib import Path

import pytest
import trio

from journal import JournalDamaged, LocalLog
from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.events import Request as Asked
from tests.journal.disk import FOLDER
from tests.simulation.breaks import BREAKS, caught
from tests.simulation.life import Life, plan_of, simulate
from tests.simulation.partner import Breach, Partner, SimulatedNetwork
from tests.simulation.programs import Request
from tests.simulation.running import SEGMENT, fold
from tests.simulation.scenarios import SCENARIOS, crashed, length
from tests.simulation.seeding import run_seeded
from tests.simulation.sometimes import UNTOLD, event_names, must_happen
from tests.simulation.world import World

SEEDS = 80
FOUND = (5489, 5672, 6139)
POINTS = 5  # Of each scenario; chosen anew by no one, so that a failure is one for everybody.
BREAK_RUNS_MAX = 200
MODEL_LINES_MAX = 240


@pytest.mark.parametrize("first", range(1, SEEDS + 1, 20))
def test_given_random_cycles_and_faults_then_nothing_accepted_is_lost(first: int) -> None:
    """Each run is checked after every turn, at every restart, and at its end against the model."""
    for seed in range(first, first + 20):
        simulate(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_given_a_seed_that_found_something_then_it_finds_it_no_more(seed: int) -> None:
    """For as long as the same plan follows from it; tests of their own hold what each of them found."""
    simulate(seed)


@pytest.mark.parametrize("name", SCENARIOS)
def test_given_a_scenario_when_the_machine_stops_at_some_call_then_it_comes_out_the_same(name: str) -> None:
    """A sample of the calls, and of those that the recovery makes."""
    calls = length(name)
    chance = random.Random(name)
    for point in chance.sample(range(1, calls + 1), POINTS):
        crashed(name, (point,))
    one = chance.randrange(1, calls)
    crashed(name, (one, one + chance.randint(1, 40)))


def test_7_given_a_call_that_a_crash_repeats_when_it_ends_before_the_next_crash_then_the_rate_holds() -> None:
    """The second process forgot that the first had called; these two points show it."""
    crashed("limits across crashes", (45, 80))


@pytest.mark.parametrize("name", BREAKS)
def test_given_a_defect_put_in_on_purpose_then_it_is_found(name: str) -> None:
    """What the harness would not find, it could not prove absent."""
    seed, runs, found = caught(name, BREAK_RUNS_MAX, simulate)
    print(f"{name}: seed {seed}, {runs} runs: {found}")


def test_given_a_flipped_bit_in_a_journal_then_it_is_refused_or_changes_nothing() -> None:
    """Detection is the promise here: what was acknowledged is never other than it was, and never silently less."""
    world = World(3)
    life: list[Life] = []

    async def main() -> None:
        life.append(Life(plan_of(3), world))
        await life[0].live()

    run_seeded(3, main)
    with LocalLog.open(FOLDER, SEGMENT, storage=world.disk.copy()) as log:
        whole, end = fold(log)
    refused = 0
    for _ in range(40):
        disk = world.disk.copy()
        name = world.chance.choice(disk.segments())
        content = disk.content(name)
        used = len(bytes(content).rstrip(b"\0"))
        content[world.chance.randrange(used)] ^= 1 << world.chance.randrange(8)
        try:
            with LocalLog.open(FOLDER, SEGMENT, storage=disk) as log:
                again, reached = fold(log)
                assert reached == end
                assert again.hits == whole.hits
        except JournalDamaged:
            refused += 1
    assert refused > 10


def test_given_each_kind_of_damage_then_each_rule_that_refuses_is_met() -> None:
    """Of a journal that was closed in order, and of one whose process died as it sealed a segment."""
    told = simulate(10, rotten=True)
    assert {name for name in must_happen() if name.startswith("refused: ")} <= set(told.sometimes)


def test_given_one_key_for_two_calls_then_the_partner_says_so() -> None:
    """The harness checks what it stands on."""
    partner = Partner()
    calls = [
        CallIntended("main", 0, 1, "s0", 1, "k", Asked("partner", "POST", "/do", {}, body, "", 1))
        for body in (b'{"id":1}', b'{"id":2}')
    ]
    partner.receive(calls[0])
    with pytest.raises(Breach, match="names two calls"):
        partner.receive(calls[1])


def test_given_a_call_that_has_its_place_when_calls_without_limits_pass_it_then_the_partner_does_not_mind() -> None:
    """A gate gives places by the caller's own limits; before one that is recorded leaves, others may."""

    def call(cycle: str, number: int, *, announced: bool = False) -> CallIntended:
        asked = Asked("partner", "POST", "/do", {}, b"{}", "", 1)
        return CallIntended(cycle, 0, number, "s0", 1, f"{cycle}-{number}", asked, announced=announced)

    async def under_way(cycle: str, latest: CallIntended) -> None:
        network = SimulatedNetwork(World(1), Partner(), {}, window_s=1)
        async with trio.open_nursery() as nursery:
            for number in (1, 2):
                nursery.start_soon(network.perform, call(cycle, number), Connector())
            await trio.sleep(0.0005)  # Less than the way to the partner takes.
            await network.perform(latest, Connector())

    run_seeded(1, lambda: under_way("worker", call("main", 3, announced=True)))
    for cycle, announced in (("worker", False), ("main", False), ("main", True)):
        latest = call("main", 3, announced=announced)
        with pytest.raises(BaseExceptionGroup) as told:
            run_seeded(1, partial(under_way, cycle, latest))
        assert told.group_contains(Breach, match="2 calls are under way")


def test_given_a_request_that_was_refused_then_the_model_expects_nothing_of_it() -> None:
    """Overloaded and stopped servers take nothing; late and failed ones have."""
    from protocol.state import Reply

    for status, accepted in ((202, True), (201, True), (409, False), (429, False), (503, False), (504, True)):
        assert Request("asked", 1, answers=[Reply(status, {}, b"")]).accepted == accepted


def test_given_what_must_happen_then_no_event_is_left_out_by_mistake() -> None:
    """A new event is met by some run, or is said to be out of reach, with the reason."""
    assert event_names() >= UNTOLD


def test_given_the_model_then_it_is_small_enough_to_be_believed() -> None:
    """A model as large as what it models proves nothing."""
    assert len((Path(__file__).parent / "model.py").read_text().splitlines()) <= MODEL_LINES_MAX
