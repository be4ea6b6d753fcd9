"""A cycle with holds against a small model: hits early and late, repeats, timeouts, stops and restarts."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.inputs import Accepted, Duplicate, Parked, Refused, Resumed
from tests.protocol.story import Story

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
"""

jobs = st.integers(1, 3)


@dataclass
class Model:
    """What must be true, in dicts: transactions by job, newest last; passes and parked hits by job."""

    newest: dict[int, int] = field(default_factory=dict)
    passes: dict[int, int] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)  # Until when.
    parked: dict[int, list[int]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)


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

    def began(self, transaction: int, job: int) -> None:
        """A transaction takes what was parked for its job, or holds for an hour."""
        early = len(self.model.parked.pop(job, []))
        self.model.passes[transaction] = 1 + early
        if not early:
            self.model.held[transaction] = self.story.at + 3600 * 10**9

    @rule(job=jobs)
    def ask(self, job: int) -> None:
        """A trigger: a new transaction, which takes what was parked for its job."""
        verdict = self.post("asked", {"job": job})
        if not self.running:
            assert isinstance(verdict, Refused)
            return
        assert isinstance(verdict, Accepted)
        self.model.newest[job] = verdict.transaction
        self.began(verdict.transaction, job)

    @rule(job=jobs)
    def call_back(self, job: int) -> None:
        """A callback: runs the newest transaction of its job, or is parked."""
        self.sent += 1
        verdict = self.post("back", {"job": job, "n": self.sent})
        if not self.running:
            assert isinstance(verdict, Refused)
        elif job in self.model.newest:
            assert isinstance(verdict, Resumed)
            assert verdict.transaction == self.model.newest[job]
            self.model.passes[verdict.transaction] += 1
            self.model.held.pop(verdict.transaction, None)
        else:
            assert isinstance(verdict, Parked)
            self.model.parked.setdefault(job, []).append(self.story.at + 600 * 10**9)

    @rule(job=jobs, key=st.sampled_from(["k1", "k2", "k3"]))
    def ask_with_a_key(self, job: int, key: str) -> None:
        """A named delivery runs once; again it is a duplicate, with another body it is refused."""
        verdict = self.post("asked", {"job": job}, key)
        if key in self.model.keys:
            expected = Duplicate if self.model.keys[key] == job else Refused
            assert isinstance(verdict, expected)
        elif self.running:
            assert isinstance(verdict, Accepted)
            self.model.keys[key] = job
            self.model.newest[job] = verdict.transaction
            self.began(verdict.transaction, job)

    @rule(minutes=st.sampled_from([1, 11, 61]))
    def wait(self, minutes: int) -> None:
        """Parked hits expire; holds take their exit, which is a pass of its own, unless the cycle is stopped."""
        self.story.later(minutes * 60)
        for job, until in list(self.model.parked.items()):
            self.model.parked[job] = [one for one in until if one > self.story.at]
            if not self.model.parked[job]:
                del self.model.parked[job]
        self.expire()

    def expire(self) -> None:
        """The holds whose time is over end."""
        if not self.running:
            return
        for transaction in [one for one, until in self.model.held.items() if until <= self.story.at]:
            del self.model.held[transaction]
            self.model.passes[transaction] += 1

    @rule()
    def stop_or_start(self) -> None:
        """Holds survive; a stopped cycle refuses."""
        if self.running:
            self.story.stop()
        else:
            self.story.start()
        self.running = not self.running
        self.story.later(0)  # Timers that came due while it was stopped are due now.
        self.expire()

    @rule()
    def crash(self) -> None:
        """State from the journal's bytes is the live state, by digest."""
        self.story.restart()

    @invariant()
    def the_model_holds(self) -> None:
        """Every transaction has the passes it should have; every hit has a place; counts add up."""
        state = self.story.state
        assert {row.id: row.number for row in state.transactions.values()} == self.model.passes
        assert all(hit.status in ("done", "parked", "expired") for hit in state.hits.values())
        cycle = state.cycle("machine")
        assert cycle.parked == sum(map(len, self.model.parked.values()))
        assert {row.id for row in state.transactions.values() if row.status == "held"} == set(self.model.held)
        assert cycle.held == len(self.model.held)
        assert cycle.completed == len(self.model.passes) - len(self.model.held)
        assert cycle.running == 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
