"""A cycle with holds against a small model that predicts: hits early and late, repeats, timeouts, stops, restarts."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.inputs import Accepted, Duplicate, Parked, Receipt, Refused, Resumed
from tests.protocol.story import SECOND, Story

CYCLE = """
cycle: machine
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    fields: {job: {type: integer, required: true}}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}, n: integer}
    match: {job: asked.job}
    park: 10 minutes
    hold_for: 1 hour
    on_timeout: end
  again:
    decide: back.n % 2 == 0
    then: end
    else: back
"""
PARK = 600 * SECOND
HOLD = 3600 * SECOND

jobs = st.integers(1, 3)


@dataclass
class Known:
    """What the model knows of one transaction; `deadline` is 0 when it does not hold."""

    job: int
    passes: int = 0
    deadline: int = 0
    latest: int | None = None
    updated: int = 0
    purged: bool = False


@dataclass
class Model:
    """What must be true: every transaction by id, the parked hits of a job as (number, until), and the named hits."""

    known: dict[int, Known] = field(default_factory=dict)
    parked: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    expired: int = 0

    def newest(self, job: int) -> int:
        """The transaction that a callback of this job runs, 0 for none; holding or completed makes no difference."""
        return max((one for one, known in self.known.items() if known.job == job and not known.purged), default=0)

    def started(self, transaction: int, job: int, at: int) -> None:
        """A first pass reaches the hold, and takes what is parked there, in order."""
        self.known[transaction] = Known(job, 1, at + HOLD, updated=at)
        for number, _ in self.parked.pop(job, []):
            self.called_back(transaction, number, at)

    def called_back(self, transaction: int, number: int, at: int) -> None:
        """One more pass: an even number ends it, an odd one holds again, for a full hour."""
        known = self.known[transaction]
        known.passes += 1
        known.latest, known.updated = number, at
        known.deadline = at + HOLD if number % 2 else 0

    def expire_parked(self, at: int) -> None:
        """Parking ends whether the cycle runs or not."""
        for job, hits in list(self.parked.items()):
            left = [one for one in hits if one[1] > at]
            self.expired += len(hits) - len(left)
            self.parked[job] = left
            if not left:
                del self.parked[job]

    def expire_holds(self, at: int) -> None:
        """A hold that is due runs its exit as one more pass, to the end."""
        for known in self.known.values():
            if 0 < known.deadline <= at:
                known.passes += 1
                known.deadline, known.updated = 0, at

    def over(self, age: int, at: int) -> list[int]:
        """The completed ones that have not changed for so long."""
        return [one for one, known in self.known.items() if not known.deadline and at - known.updated >= age]


class Machine(RuleBasedStateMachine):
    """Drives the core and the model alike."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story(CYCLE)
        self.model = Model()
        self.running = True
        self.sent = 0

    def post(self, step: str, body: Any, key: str = "") -> Any:
        headers = {"idempotency-key": key} if key else {}
        return self.story.hit(step, body, headers=headers)

    @rule(job=jobs)
    def ask(self, job: int) -> None:
        """A trigger: a new transaction, which takes what was parked for its job."""
        verdict = self.post("asked", {"job": job})
        if not self.running:
            assert isinstance(verdict, Refused)
            return
        assert isinstance(verdict, Accepted)
        self.model.started(verdict.transaction, job, self.story.at)

    @rule(job=jobs)
    def call_back(self, job: int) -> None:
        """A callback: runs the newest transaction of its job, held or completed, or is parked."""
        self.sent += 1
        verdict = self.post("back", {"job": job, "n": self.sent})
        newest = self.model.newest(job)
        if not self.running:
            assert isinstance(verdict, Refused)
        elif newest:
            assert isinstance(verdict, Resumed)
            assert verdict.transaction == newest
            self.model.called_back(newest, self.sent, self.story.at)
        else:
            assert isinstance(verdict, Parked)
            assert verdict.until == self.story.at + PARK
            self.model.parked.setdefault(job, []).append((self.sent, verdict.until))

    @rule(job=jobs, key=st.sampled_from(["k1", "k2", "k3"]))
    def ask_with_a_key(self, job: int, key: str) -> None:
        """A named delivery runs once; again it is a duplicate, with another body it is refused."""
        verdict = self.post("asked", {"job": job}, key)
        if key in self.model.keys:
            asked, hit = self.model.keys[key]
            if asked == job:
                assert verdict == Duplicate(hit)
            else:
                assert isinstance(verdict, Refused)
                assert verdict.status == 409
        elif self.running:
            assert isinstance(verdict, Accepted)
            self.model.keys[key] = job, verdict.hit
            self.model.started(verdict.transaction, job, self.story.at)

    @rule(minutes=st.sampled_from([1, 11, 59, 61]))
    def wait(self, minutes: int) -> None:
        """Parked hits expire, and in a running cycle holds take their exit."""
        self.story.later(minutes * 60)
        self.model.expire_parked(self.story.at)
        if self.running:
            self.model.expire_holds(self.story.at)

    @rule(mode=st.sampled_from(["stop", "finish"]))
    def stop_or_start(self, mode: str) -> None:
        """Holds survive, and what came due meanwhile is due at the start; with no pass in progress both orders stop."""
        if self.running:
            held = sum(known.deadline > 0 for known in self.model.known.values())
            assert self.story.stop(mode) == Receipt("stopped", held=held)
        else:
            self.story.start()
            self.story.later(0)
            self.model.expire_holds(self.story.at)
        self.running = not self.running

    @rule(hours=st.integers(1, 5))
    def remove(self, hours: int) -> None:
        """Retention removes what completed long enough ago; a named delivery is known on."""
        self.story.retain(completed=hours * 3600)
        for one in self.model.over(hours * 3600 * SECOND, self.story.at):
            del self.model.known[one]

    @rule(hours=st.integers(1, 5))
    def purge(self, hours: int) -> None:
        """It drops their data first, and what has none is matched no more."""
        self.story.retain(bodies=hours * 3600)
        for one in self.model.over(hours * 3600 * SECOND, self.story.at):
            self.model.known[one].purged = True
            self.model.known[one].latest = None

    @rule()
    def crash(self) -> None:
        """State from the journal's bytes is the live state, by digest."""
        self.story.restart()

    @invariant()
    def the_model_holds(self) -> None:
        """Every transaction has the passes, the deadline and the data it should have; every hit has a place."""
        state = self.story.state
        known = self.model.known
        assert {row.id: (row.number, row.until) for row in state.transactions.values()} == {
            one: (expected.passes, expected.deadline) for one, expected in known.items()
        }
        for row in state.transactions.values():
            assert row.status == ("held" if known[row.id].deadline else "completed")
            assert bool(row.purged) == known[row.id].purged == (not row.data)
            assert row.data.get("back", {}).get("n") == known[row.id].latest
        assert all(hit.status in ("done", "parked", "expired") for hit in state.hits.values())
        assert self.story.incidents() == ["hit_expired"] * self.model.expired
        cycle = state.cycle("machine")
        assert cycle.parked == sum(map(len, self.model.parked.values()))
        assert cycle.held == sum(expected.deadline > 0 for expected in known.values())
        assert cycle.held + cycle.completed == len(known)
        assert cycle.running == 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
