"""A cycle with calls before and after its hold against a small model: what queues, fails, stops, moves and is answered.

The model says for each input what must follow, from its own dicts alone. Every synchronous caller gets exactly one
answer: from the respond step, at the failure, at the stop, or by being told that the request is parked.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.events import ReplyBuilt
from protocol.inputs import Accepted, Parked, Refused, Resumed
from tests.protocol.story import Story

CYCLE = """
cycle: busy
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {job: {type: integer, required: true}}}
  work: {post: remote, path: /work}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}, n: integer}
    match: {job: asked.job}
  finish: {post: remote, path: /finish}
  answer: {respond: {status: 201}}
"""
PARK_NS = 600 * 10**9
jobs = st.integers(1, 2)


@dataclass
class Run:
    """One transaction: its job, where it is, the hit of its pass, and the hits behind it."""

    job: int
    place: str = "working"  # working → held ⇄ finishing → completed; or failed, stopped.
    hit: int = 0
    queue: list[int] = field(default_factory=list)

    @property
    def takes(self) -> bool:
        """Whether a callback for its job may run it."""
        return self.place in ("held", "finishing", "completed")


class Machine(RuleBasedStateMachine):
    """Drives the core and the model alike."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story(CYCLE)
        self.runs: dict[int, Run] = {}
        self.parked: dict[int, tuple[int, int]] = {}  # Hit → job, until when.
        self.kept: dict[int, int] = {}  # Hit → job, for the start.
        self.jobs: dict[int, int] = {}
        self.answers: dict[int, int] = {}
        self.told: set[int] = set()  # Callers who were told that they are parked.
        self.running = True

    # -- what must follow

    def newest(self, job: int) -> Run | None:
        """The most recent transaction that takes a callback of this job."""
        ids = [one for one, run in self.runs.items() if run.job == job and run.takes]
        return self.runs[max(ids)] if ids else None

    def give(self, run: Run, hit: int) -> None:
        """A hit that matches begins its pass, or waits behind the one in progress."""
        run.queue.append(hit)
        self.advance(run)

    def advance(self, run: Run) -> None:
        """The next pass begins when none is in progress."""
        if run.queue and run.place in ("held", "completed"):
            run.place, run.hit = "finishing", run.queue.pop(0)

    def route(self, hit: int) -> None:
        """A hit that was kept looks for its place."""
        run = self.newest(self.jobs[hit])
        if run is None:
            self.parked[hit] = (self.jobs[hit], self.story.at + PARK_NS)
            self.told.add(hit)
        else:
            self.give(run, hit)

    # -- what happens

    @initialize(job=jobs)
    def begin(self, job: int) -> None:
        """Most of what can go wrong needs two transactions of one job that hold."""
        for _ in range(2):
            self.ask(job)
            self.story.answer({}, transaction=max(self.runs))
            self.passed(self.runs[max(self.runs)])

    @rule(job=jobs)
    def ask(self, job: int) -> None:
        """A trigger begins a transaction whose first call is open."""
        verdict = self.story.hit("asked", {"job": job})
        if not self.running:
            assert isinstance(verdict, Refused)
            return
        assert isinstance(verdict, Accepted)
        self.runs[verdict.transaction] = Run(job)

    @rule(job=jobs, count=st.integers(1, 3))
    def call_back(self, job: int, count: int) -> None:
        """Callbacks, one after the other."""
        for _ in range(count):
            self.one_callback(job)

    def one_callback(self, job: int) -> None:
        """A callback runs the newest transaction of its job, or is parked."""
        verdict = self.story.hit("back", {"job": job, "n": len(self.jobs)})
        if not self.running:
            assert isinstance(verdict, Refused)
            return
        assert isinstance(verdict, Resumed | Parked)
        self.jobs[verdict.hit] = job
        run = self.newest(job)
        if run is None:
            assert isinstance(verdict, Parked)
            self.parked[verdict.hit] = (job, self.story.at + PARK_NS)
            self.told.add(verdict.hit)
        else:
            assert isinstance(verdict, Resumed)
            assert self.runs[verdict.transaction] is run
            self.give(run, verdict.hit)

    @precondition(lambda self: any(run.place in ("working", "finishing") for run in self.runs.values()))
    @rule(data=st.data(), good=st.sampled_from([True, True, False]))
    def remote_answers(self, data: st.DataObject, *, good: bool) -> None:
        """The remote answers one of the open calls, well or badly."""
        opened = sorted(one for one, run in self.runs.items() if run.place in ("working", "finishing"))
        transaction = data.draw(st.sampled_from(opened))
        self.story.answer({}, 200 if good else 500, transaction=transaction)
        run = self.runs[transaction]
        if good:
            self.passed(run)
        else:
            self.failed(run)

    def passed(self, run: Run) -> None:
        """A call that went well leads to the hold, or answers the caller and ends the pass."""
        if run.place == "working":
            run.place = "held"
            for hit in sorted(hit for hit, (job, _) in self.parked.items() if job == run.job):
                del self.parked[hit]
                run.queue.append(hit)
        else:
            self.answers[run.hit] = 201
            run.place = "completed"
        self.advance(run)

    def failed(self, run: Run) -> None:
        """A call that went badly ends the transaction; what waited behind it looks for another, in order of arrival.

        That is not always its order in the queue: a hit that moved before stands behind hits that came after it.
        """
        if run.place == "finishing" and run.hit not in self.told:
            self.answers[run.hit] = 500
        queue, run.queue, run.place = run.queue, [], "failed"
        for hit in sorted(queue):
            self.route(hit)

    @rule()
    def stop_or_start(self) -> None:
        """A stop ends every pass, answers its caller, and keeps what waited; a start gives that its places."""
        if self.running:
            self.story.stop()
            for run in self.runs.values():
                if run.place in ("working", "finishing"):
                    if run.place == "finishing" and run.hit not in self.told:
                        self.answers[run.hit] = 409
                    self.kept |= dict.fromkeys(run.queue, run.job)
                    self.told |= set(run.queue)
                    run.queue, run.place = [], "stopped"
        else:
            self.story.start()
            kept, self.kept = sorted(self.kept), {}
            for hit in kept:
                self.route(hit)
        self.running = not self.running

    @rule(minutes=st.sampled_from([1, 11]))
    def wait(self, minutes: int) -> None:
        """What was parked too long expires."""
        self.story.later(minutes * 60)
        self.parked = {hit: (job, until) for hit, (job, until) in self.parked.items() if until > self.story.at}

    @rule()
    def crash(self) -> None:
        """Open calls are sent again under their keys; nothing else changes."""
        before = {call.idempotency_key for call in self.story.calls()}
        self.story.restart()
        assert {call.idempotency_key for call in self.story.calls()} == before

    @invariant()
    def every_transaction_is_where_it_must_be(self) -> None:
        """Its status, the hit of its pass, and the hits behind it, in order."""
        status = {"working": "running", "finishing": "running"}
        for transaction, run in self.runs.items():
            row = self.story.state.transaction(transaction)
            assert row.status == status.get(run.place, run.place)
            assert row.queue == run.queue
            if run.place == "finishing":
                assert row.hit == run.hit

    @invariant()
    def every_hit_has_its_place(self) -> None:
        """Parked ones are parked, kept ones are kept, and no other waits anywhere."""
        hits = self.story.state.hits.values()
        assert {hit.id: hit.until for hit in hits if hit.status == "parked"} == {
            hit: until for hit, (_, until) in self.parked.items()
        }
        assert {hit.id for hit in hits if hit.status == "collected"} == set(self.kept)
        assert self.story.state.cycle("busy").parked == len(self.parked) + len(self.kept)

    @invariant()
    def every_caller_has_the_answer_that_is_due(self) -> None:
        """One answer to a hit, by what became of its pass."""
        built = [(event.hit, event.status) for event in self.story.journal if isinstance(event, ReplyBuilt)]
        assert sorted(built) == sorted(self.answers.items())


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
