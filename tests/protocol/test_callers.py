"""Callers who wait, against a model: each is told exactly one thing, and it is the right one (sections 5, 6 and 11).

A cycle answers its callers after an outbound call that succeeds or fails at any moment, while callbacks arrive, queue
and are parked, and while the cycle is stopped, finished, started and restarted.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.inputs import Accepted, Hit, Parked, Receipt, Refused, Resumed
from protocol.outbox import awaits_reply
from protocol.verdicts import verdict_reply
from tests.protocol.story import SECOND, Story, status_url

CYCLE = """
cycle: desk
connectors:
  shop: {}
  remote: {base_url: "http://127.0.0.1:9000"}
settings: {on_error: stop_transaction}
steps:
  asked:
    webhook: shop
    fields: {job: {type: integer, required: true}}
  work: {post: remote, path: /work}
  told: {respond: {body: "{{ asked.job }}"}}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}}
    match: {job: asked.job}
    park: 10 minutes
    hold_for: 1 hour
    on_timeout: fail
  follow: {post: remote, path: /follow}
  thanked: {respond: {body: "{{ back.job }}"}}
"""
PARK = 600 * SECOND
HOLD = 3600 * SECOND
KEPT = 24 * 3600 * SECOND

jobs = st.integers(1, 2)


@dataclass
class Caller:
    """Who sent a hit, and the statuses it was told, of which the first is the answer."""

    job: int
    waits: bool
    parked: bool = False
    told: list[int] = field(default_factory=list)


@dataclass
class Run:
    """A transaction: what it does now (`work` and `follow` are open calls), for which hit, and who queues behind."""

    job: int
    hit: int
    state: str = "work"
    passes: int = 1
    deadline: int = 0
    queue: list[int] = field(default_factory=list)


@dataclass
class Model:
    """What must be true of every run, every caller, and every hit that waits outside a run."""

    status: str = "running"
    runs: dict[int, Run] = field(default_factory=dict)
    callers: dict[int, Caller] = field(default_factory=dict)
    parked: dict[int, int] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)

    def open(self) -> list[int]:
        """The runs whose call is open, oldest first."""
        return [one for one, run in self.runs.items() if run.state in ("work", "follow")]

    def candidate(self, job: int) -> Run | None:
        """The most recent run of a job that has reached the hold and is alive or completed."""
        runs = [run for run in self.runs.values() if run.job == job and run.state in ("held", "follow", "completed")]
        return runs[-1] if runs else None

    def tell(self, hit: int, status: int) -> None:
        """Whoever waits is told; who asked not to wait never is."""
        if self.callers[hit].waits:
            self.callers[hit].told.append(status)

    def tell_of_the_end(self, hit: int, status: int) -> None:
        """A pass ended without a respond; who was told `parked` has an answer already."""
        if not self.callers[hit].parked:
            self.tell(hit, status)

    def set_aside(self, hit: int) -> None:
        """A hit that loses its place is told so; again when it was told before, and then nobody listens."""
        self.tell(hit, 202)
        self.callers[hit].parked = True

    def place(self, hit: int, at: int) -> None:
        """A hit finds a run, or is parked."""
        run = self.candidate(self.callers[hit].job)
        if run is None:
            self.set_aside(hit)
            self.parked[hit] = at + PARK
        else:
            run.queue.append(hit)
            self.go_on(run)

    def go_on(self, run: Run) -> None:
        """The next pass begins unless one is in progress."""
        if run.queue and run.state in ("held", "completed"):
            run.hit = run.queue.pop(0)
            run.state, run.deadline = "follow", 0
            run.passes += 1

    def succeed(self, run: Run, at: int) -> None:
        """The open call was answered well: the respond after it answers, and the pass goes on."""
        self.tell(run.hit, 200)
        if run.state == "follow":
            run.state = "completed"
        else:
            run.state, run.deadline = "held", at + HOLD
            here = [hit for hit in self.parked if self.callers[hit].job == run.job]
            for hit in sorted(here):
                del self.parked[hit]
                run.queue.append(hit)
        self.go_on(run)
        self.drained()

    def fail(self, run: Run, at: int) -> None:
        """The open call was answered badly; who queued looks, by arrival, for another run or waits for the start."""
        self.incidents.append("remote_error")
        self.tell_of_the_end(run.hit, 500)
        run.state = "failed"
        left, run.queue = sorted(run.queue), []
        for hit in left:
            if self.status == "running":
                self.place(hit, at)
            else:
                self.set_aside(hit)
                self.kept[hit] = at + KEPT
        self.drained()

    def cut(self, at: int) -> Receipt:
        """An order to stop ends every pass now."""
        cut, kept = 0, 0
        for one in self.open():
            run = self.runs[one]
            self.tell_of_the_end(run.hit, 409)
            run.state = "stopped"
            for hit in run.queue:
                self.set_aside(hit)
                self.kept[hit] = at + KEPT
            cut, kept = cut + 1, kept + len(run.queue)
            run.queue = []
        self.status = "stopped"
        return Receipt("stopped", cut, kept, self.held())

    def held(self) -> int:
        """How many runs hold."""
        return sum(run.state == "held" for run in self.runs.values())

    def drained(self) -> None:
        """A cycle that finishes is stopped once nothing is in progress."""
        if self.status == "stopping" and not self.open():
            self.status = "stopped"

    def start(self, at: int) -> None:
        """What was kept finds its place, in order of arrival; holds that came due meanwhile fail."""
        self.status = "running"
        hits, self.kept = sorted(self.kept), {}
        for hit in hits:
            self.place(hit, at)
        self.expire(at)

    def expire(self, at: int) -> None:
        """Time went by."""
        for waiting in (self.parked, self.kept):
            for hit in [hit for hit, until in waiting.items() if until <= at]:
                del waiting[hit]
                self.incidents.append("hit_expired")
                self.tell(hit, 410)
        for run in self.runs.values():
            if self.status == "running" and run.state == "held" and run.deadline <= at:
                run.state, run.deadline = "failed", 0
                run.passes += 1
                self.incidents.append("hold_expired")


class Machine(RuleBasedStateMachine):
    """Drives the core and the model alike."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story(CYCLE)
        self.model = Model()
        self.at_once: dict[int, list[int]] = {}

    def post(self, step: str, job: int, *, waits: bool) -> Accepted | Resumed | Parked | Refused:
        headers = {} if waits else {"prefer": "respond-async"}
        hit = self.story.admit(step, {"job": job}, headers=headers)
        assert isinstance(hit, Hit)
        verdict = self.story.put(hit)
        assert isinstance(verdict, Accepted | Resumed | Parked | Refused)
        if not isinstance(verdict, Refused):
            self.model.callers[verdict.hit] = Caller(job, waits)
            answer = [] if awaits_reply(self.story.state, verdict) else [verdict]
            self.at_once[verdict.hit] = [verdict_reply(self.story.state, one, status_url).status for one in answer]
        return verdict

    @rule(job=jobs, waits=st.booleans())
    def ask(self, job: int, waits: bool) -> None:
        """A trigger: a run that calls out; only a running cycle takes it."""
        verdict = self.post("asked", job, waits=waits)
        if self.model.status != "running":
            assert isinstance(verdict, Refused)
            assert verdict.status == 409
            return
        assert isinstance(verdict, Accepted)
        self.model.runs[verdict.transaction] = Run(job, verdict.hit)
        if not waits:
            self.model.callers[verdict.hit].told.append(202)

    @rule(job=jobs)
    def call_back_twice(self, job: int) -> None:
        """The second one queues, or is parked beside the first."""
        self.call_back(job, waits=True)
        self.call_back(job, waits=True)

    @rule(job=jobs, waits=st.booleans())
    def call_back_once(self, job: int, waits: bool) -> None:
        """A callback alone."""
        self.call_back(job, waits=waits)

    def call_back(self, job: int, *, waits: bool) -> None:
        """A callback begins a pass, queues behind one, or is parked."""
        verdict = self.post("back", job, waits=waits)
        run = self.model.candidate(job)
        if self.model.status != "running":
            assert isinstance(verdict, Refused)
            return
        if run is None:
            assert isinstance(verdict, Parked)
            caller = self.model.callers[verdict.hit]
            caller.parked = True
            caller.told.append(202)
            self.model.parked[verdict.hit] = self.story.at + PARK
        else:
            assert isinstance(verdict, Resumed)
            assert self.model.runs[verdict.transaction] is run
            if not waits:
                self.model.callers[verdict.hit].told.append(202)
            run.queue.append(verdict.hit)
            self.model.go_on(run)

    @precondition(lambda self: self.model.open())
    @rule(data=st.data(), good=st.booleans())
    def remote_answers(self, data: st.DataObject, good: bool) -> None:
        """Some open call is answered, well or badly."""
        one = data.draw(st.sampled_from(self.model.open()))
        self.story.answer({}, 200 if good else 500, transaction=one)
        run = self.model.runs[one]
        if good:
            self.model.succeed(run, self.story.at)
        else:
            self.model.fail(run, self.story.at)

    @rule(order=st.sampled_from(["start", "start", "start", "finish", "stop"]))
    def operator_orders(self, order: str) -> None:
        """Most are to start, since little happens in a cycle that is stopped."""
        {"start": self.start, "finish": self.finish, "stop": self.stop}[order]()

    def stop(self) -> None:
        """Passes end now; a cycle that has stopped says no more than that."""
        receipt = self.story.stop()
        if self.model.status == "stopped":
            assert receipt == Receipt("stopped", held=self.model.held())
        else:
            assert receipt == self.model.cut(self.story.at)

    def finish(self) -> None:
        """Passes end first."""
        receipt = self.story.stop("finish")
        if self.model.status != "stopped":
            self.model.status = "stopping"
            self.model.drained()
        assert receipt == Receipt(self.model.status, held=self.model.held())

    def start(self) -> None:
        """Kept hits go on."""
        kept = len(self.model.kept)
        assert self.story.start() == Receipt("running", resumed=kept)
        self.story.later(0)
        self.model.start(self.story.at)

    @rule(minutes=st.sampled_from([0, 1, 11, 61, 25 * 60]))
    def wait(self, minutes: int) -> None:
        """Parked and kept hits expire, holds fail; no time at all is a crash, after which open calls are repeated."""
        if minutes:
            self.story.later(minutes * 60)
            self.model.expire(self.story.at)
        else:
            self.story.restart()

    @invariant()
    def the_model_holds(self) -> None:
        """Runs, queues, places of hits and counts."""
        state = self.story.state
        assert {
            one: (row.status, row.number, row.hit, row.queue, row.until) for one, row in state.transactions.items()
        } == {
            one: (
                "running" if run.state in ("work", "follow") else run.state,
                run.passes,
                run.hit,
                run.queue,
                run.deadline,
            )
            for one, run in self.model.runs.items()
        }
        waiting = {hit.id: hit.status for hit in state.hits.values() if hit.status in ("parked", "collected")}
        assert waiting == dict.fromkeys(self.model.parked, "parked") | dict.fromkeys(self.model.kept, "collected")
        cycle = state.cycle("desk")
        assert (cycle.status, cycle.parked) == (self.model.status, len(waiting))
        assert self.story.incidents() == self.model.incidents

    @invariant()
    def each_caller_is_told_what_it_should_be(self) -> None:
        """One answer each; more only comes to who was told `parked`, and nothing to who asked not to wait."""
        for hit, caller in self.model.callers.items():
            told = self.at_once[hit] + [reply.status for reply in self.story.answers(hit)]
            assert told == caller.told, hit
            assert len(told) <= 1 or (caller.parked and told[0] == 202)
        busy = {run.hit for run in self.model.runs.values() if run.state in ("work", "follow")}
        busy |= {hit for run in self.model.runs.values() for hit in run.queue}
        assert {hit for hit, caller in self.model.callers.items() if not caller.told} <= busy


TestCallers = Machine.TestCase
TestCallers.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
