"""One run: a plan of what senders and operators do, carried out among faults until all is quiet, then judged."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Literal
from unittest import mock

import msgspec
import trio

from journal import LOCAL_PARTITION, JournalDamaged, JournalError, LocalLog
from protocol.admission import Incoming
from protocol.events import WriterStarted, decode_events, encode_event
from protocol.loading import encode_definition, version_name
from protocol.memory import MemoryState
from protocol.state import Reply
from runtime.blocking import on_the_spot
from runtime.deploying import deploy
from runtime.door.door import Route
from runtime.door.webhook import Answer, receive
from runtime.store import StoreError, digest
from tests.journal.disk import FOLDER, PowerLossError
from tests.simulation import operating, strangers
from tests.simulation.model import Judge
from tests.simulation.partner import Breach, Partner
from tests.simulation.programs import BACK, TRIGGER, Program, Request, generate
from tests.simulation.rot import refusals
from tests.simulation.running import SEGMENT, Process, definitions_of, fold, process
from tests.simulation.seeding import run_seeded
from tests.simulation.strangers import STRANGERS, Stranger
from tests.simulation.world import Death, World

TRIES_MAX = 60  # Of one sender; processes come back sooner.
QUIET_S = 600.0  # Between two looks at whether all is quiet; holds of hours end meanwhile.
LOOKS = 30
"""Five hours: longer than any hold, and than all attempts at a step."""
STORED_S = 60.0  # For the last checkpoint.
STUCK_S = 7 * 86400.0  # No run is meant to take so long.
DEATHS = (PowerLossError, JournalError, StoreError)
"""What a process ends by: its machine, its disk, or a store that can not be written when it starts."""
TELLING = ("disk.write_durable", "store.write", "store.written", "network.send", "network.effect", "network.answer")
"""Ports around which most can go wrong: what is durable, what the store has, what happened outside."""
Verb = Literal["stop", "finish", "start", "once", "deploy", "rival", "redrive"]


@dataclass(frozen=True)
class Sent:
    """A sender's request, `at` seconds into the run."""

    at: float
    request: Request
    hurried: bool = False  # Its sender hangs up soon.


@dataclass(frozen=True)
class Ordered:
    """An operator's order."""

    at: float
    verb: Verb


@dataclass(frozen=True)
class Plan:
    """What happens from outside.

    Attributes:
        early: the partner calls back before the call that made him do so is answered.
        strangers: requests that are refused, a second into the run.
        crash_at: calls of ports at which the machine stops.
        crash_on: the same, by the name of a port.
    """

    program: Program
    sent: tuple[Sent, ...]
    ordered: tuple[Ordered, ...] = ()
    newer: Program | None = None
    early: bool = False
    strangers: tuple[Stranger, ...] = ()
    crash_at: tuple[int, ...] = ()
    crash_on: tuple[tuple[str, int], ...] = ()


@dataclass
class Told:
    """What became of one run."""

    seed: int
    digest: str
    calls: int
    seconds: float
    crashes: int
    faults: Counter[str] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)


def plan_of(seed: int) -> Plan:
    """A plan made at random."""
    chance = random.Random(f"plan {seed}")
    program = generate(chance)
    pad = chance.choice((0, 0, 0, 6000))  # Enough to fill a segment.
    sent: list[Sent] = []
    for number in range(1, chance.randint(2, 7)):
        at = chance.uniform(0, 30)
        items = [chance.randint(1, 3) * 10 + one for one in range(chance.randint(0, 3))]
        key = f"t{number}"
        sent.append(Sent(at, Request(TRIGGER, number, items=items, key=key, pad=pad), chance.random() < 0.1))
        if program.has("hold"):
            for back in range(chance.choice((0, 1, 1, 1, 2, 3))):
                when = max(0.0, at + chance.uniform(-3, 60) * chance.choice((0.02, 1, 40)))
                sent.append(Sent(when, Request(BACK, number, 100 * number + back, key=f"b{number}.{back}", pad=pad)))
        for item in items if program.has("part_hold") else ():
            when = max(0.0, at + chance.uniform(-3, 60) * chance.choice((0.02, 1, 40)))
            request = Request(BACK, number, 100 * number, key=f"p{number}.{item}.{len(sent)}", item=item)
            sent += [Sent(when, request)] * (chance.random() < 0.7)
    ordered: list[Ordered] = []
    if chance.random() < 0.25:
        at = chance.uniform(0, 40)
        ordered += [Ordered(at, chance.choice(("stop", "finish"))), Ordered(at + chance.uniform(0, 30), "start")]
        if chance.random() < 0.3:
            ordered[-1:] = [Ordered(at + chance.uniform(0, 30), "once")]
    if chance.random() < 0.3:
        ordered.append(Ordered(chance.choice((60, 901, 5000)), "redrive"))
    newer = None
    if chance.random() < 0.25:
        newer = replace(program, version=2, steps=(*program.steps[:-1], replace(program.steps[-1])))
        ordered.append(Ordered(chance.uniform(0, 40), "deploy"))
    early = program.before_hold("call") and program.has("hold") and chance.random() < 0.3
    crash_at = [chance.randint(1, chance.choice((100, 300, 300))) for _ in range(chance.choice((0, 1, 1, 2, 5)))]
    crash_on = [(chance.choice(TELLING), chance.randint(2, 20)) for _ in range(chance.choice((0, 0, 1, 3)))]
    known = tuple(one for one in STRANGERS if chance.random() < 0.2)
    return Plan(program, tuple(sent), tuple(ordered), newer, early, known, tuple(crash_at), tuple(crash_on))


class Life:
    """A run in progress."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan = deepcopy(plan)  # Its requests note what they are told.
        self.world = world
        self.partner = Partner()
        self.program = plan.program
        self.requests = [one.request for one in plan.sent]
        self.crashes = 0
        self.running: Process | None = None
        self._up = trio.Event()
        self._struck: dict[str, int] = {}
        self._lenient = any(one.verb == "stop" for one in plan.ordered)
        self._senders: trio.Nursery | None = None
        self._rivals: set[int] = set()
        self.state = MemoryState()
        if plan.early:
            self.partner.on_effect = self._call_back

    async def live(self) -> str:
        """Carry the plan out; returns the digest of everything that happened."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._machine)
            self._senders = nursery
            async with trio.open_nursery() as senders:
                for one in self.plan.sent:
                    senders.start_soon(self._send, one)
                for order in self.plan.ordered:
                    senders.start_soon(self._order, order)
                senders.start_soon(self._stranger, 1.0)
            await self._quiet()
            nursery.cancel_scope.cancel()
        self._open_again()
        return self.world.trace.hexdigest()

    def _open_again(self) -> None:
        """What was closed in order is found as it was; what a rival wrote is there as well."""
        with LocalLog.open(FOLDER, SEGMENT, storage=self.world.disk.copy()) as log:
            self.world.saw(f"recovery: {log.recovery.reason}")
            state, _ = fold(log)
            whole = not log.first_seq
            epochs = {
                event.epoch
                for frame in log.read(LOCAL_PARTITION, log.first_seq - 1)
                for event in decode_events(frame.payload)
                if isinstance(event, WriterStarted)
            }
        if digest(state) != digest(self.state):
            raise Breach("5: the journal that was closed in order gives another state")
        if whole and not self._rivals <= epochs:
            raise Breach(
                f"7: what the owners of the epochs {self._rivals - epochs} wrote was written over by an older one"
            )

    def _call_back(self, body: dict[str, object]) -> None:
        """The partner is fast: his callback may come before his answer."""
        number = body.get("id")
        if self._senders is None or not isinstance(number, int) or body.get("n") != 0 or "item" in body:
            return
        request = Request(BACK, number, 1000 + number, key=f"early{number}")
        if all(one.key != request.key for one in self.requests):
            self.requests.append(request)
            self._senders.start_soon(self._send, Sent(trio.current_time(), request))

    # ------------------------------------------------------------------ the machine

    async def _machine(self) -> None:
        """Start a process whenever there is none."""
        while True:
            try:
                async with process(self.world, self.program, self.partner, self._struck) as running:
                    self.running = running
                    self._up.set()
                    await trio.sleep_forever()
            except BaseExceptionGroup as group:
                if not self._died_of(group):
                    raise
            except JournalDamaged as fault:
                raise Breach(f"7: the journal can not be opened: {fault}") from fault
            except DEATHS as fault:
                self.world.note("died", type(fault).__name__)
            self.crashes += 1
            self.running = None
            if self._up.is_set():  # Else senders wait for it still.
                self._up = trio.Event()
            death: Death = self.world.death if self.world.down else "kill"
            self.world.saw(f"death by {death}" if self.world.down else "death by a failing disk")
            await trio.sleep(self.world.chance.choice((0.0, 0.5, 30.0)))
            self.world.restart(death)

    def _died_of(self, group: BaseExceptionGroup[BaseException]) -> bool:
        """Whether a process ended as processes may: by its machine or its disk, and by nothing else."""
        _, rest = group.split((*DEATHS, trio.Cancelled))
        return rest is None and group.split(DEATHS)[0] is not None

    async def up(self) -> Process:
        """Wait until a process runs."""
        while self.running is None:
            await self._up.wait()
        return self.running

    # ------------------------------------------------------------------ senders and operators

    async def _send(self, sent: Sent) -> None:
        """A sender repeats a request under its key until he has an answer that says what became of it."""
        await trio.sleep_until(sent.at)
        request = sent.request
        for _ in range(TRIES_MAX):
            running = await self.up()
            request.tries += 1
            with running.connection():
                answer = await self._ask(running, request, 0.05 if sent.hurried else 40.0)
                if answer is not None:
                    self._heard(request, answer)
                    if answer.reply.status not in (409, 429, 503):
                        return
            await trio.sleep(1.0)

    async def _ask(self, running: Process, request: Request, patience: float) -> Answer | None:
        incoming = Incoming(
            method="POST",
            headers={"content-type": "application/json", "webhook-id": request.key},
            query={},
            body=request.body,
            at=self.world.clock(),
        )
        with trio.move_on_after(patience):
            given = await receive(running.door, Route("main", request.step), incoming)
            answer = given if isinstance(given, Answer) else await given.answered()
            answer.settle("sent")
            return answer
        self.world.saw("a caller hung up")
        return None

    def _heard(self, request: Request, answer: Answer) -> None:
        reply: Reply = answer.reply
        request.answers.append(reply)
        repeated = " repeated" if "cyclewright-duplicate" in reply.headers else ""
        self.world.saw(f"answer {reply.status}{repeated}")
        if reply.status == 202:
            self.world.saw(f"answer 202 {msgspec.json.decode(reply.body)['status']}")
        self.world.note("heard", request.key, reply.status, reply.body)

    async def _order(self, order: Ordered) -> None:
        await trio.sleep_until(order.at)
        if order.verb == "redrive":
            await operating.redrive(self, order.at)
            return
        if order.verb not in ("deploy", "rival"):
            await operating.order(self, order.verb)
            return
        running = await self.up()
        with running.connection():
            if order.verb == "deploy":
                assert self.plan.newer is not None, "there is something to deploy"
                self.program = self.plan.newer
                await deploy(running.engine, definitions_of(self.program), self.world.entropy)
                running.door.learn()
            else:
                with suppress(PowerLossError):  # The machine stops under both.
                    self._take_over()
            self.world.saw(f"order {order.verb}")

    async def _stranger(self, at: float) -> None:
        """Someone who knows a URL, and is refused."""
        await trio.sleep_until(at)
        running = await self.up()
        with running.connection():
            for stranger in self.plan.strangers:
                await strangers.ask(self.world, running.door, stranger)

    def _take_over(self) -> None:
        """Another process gets past the lock and becomes the owner; the one that was must notice before it writes."""
        disk = self.world.disk
        disk.break_lock()
        rival = LocalLog.open(FOLDER, SEGMENT, storage=disk)
        owner = rival.own(LOCAL_PARTITION)
        owner.append([[encode_event(WriterStarted("", self.world.clock(), owner.epoch, "rival", 1))]], at=0)
        self._rivals.add(owner.epoch)
        disk.break_lock()

    # ------------------------------------------------------------------ the end

    async def _quiet(self) -> None:
        """No more faults but planned crashes: whatever is owed is done, then everything is compared."""
        self.world.calm = True
        for _ in range(LOOKS):
            running = await self.up()
            with running.connection():
                await operating.tidy(self, running)
            await trio.sleep(QUIET_S)
        self.world.crash_at.clear()
        self.world.crash_on.clear()
        running = await self.up()
        engine = running.engine
        with trio.move_on_after(STORED_S) as scope:
            await engine.checkpointed()
        if scope.cancelled_caught:
            raise Breach(f"5: the store reaches {engine.checkpoints.applied} of {engine.next_seq - 1} events")
        self._compare(running)
        programs = {_hash(one): one for one in (self.plan.program, self.plan.newer) if one is not None}
        past = self.world.past
        whole = past.with_all(engine.shadow)
        gone = {*past.transactions, *past.hits}
        Judge(whole, self.partner, programs, self.requests, self._lenient, gone, self.world.sometimes).judge()
        self._compare_alerts(whole)
        self.state = engine.shadow

    def _compare_alerts(self, whole: MemoryState) -> None:
        """Every incident was told, or the alert that would have told it was given up as an incident."""
        if not self.plan.program.alerts:
            return
        waiting = {row.name: row.untold for row in whole.cycles.values() if row.untold or row.alert is not None}
        if waiting:
            raise Breach(f"10: incidents are not told when all is quiet: {waiting}")
        errors = [one for one in whole.incidents.values() if one.level == "error"]
        given_up = any(one.kind == "alert_failed" for one in whole.incidents.values())
        told = sum(one["count"] for one in self.partner.told.values())
        if told < len(errors) and not given_up:
            raise Breach(f"10: {len(errors)} incidents came up, and {told} were told")
        self.world.sometimes["incidents told"] += told

    def _compare(self, running: Process) -> None:
        engine = running.engine
        whole, _ = fold(engine.journal)
        live = digest(engine.state.database)
        if not live == digest(engine.shadow) == digest(whole):
            raise Breach("5: the live state, the turns and the journal differ at the end")


def _hash(program: Program) -> str:
    return version_name(encode_definition(definitions_of(program)["main"]))


def simulate(
    seed: int,
    plan: Plan | None = None,
    *,
    crash_at: Sequence[int] = (),
    faulty: bool = True,
    rotten: bool = False,
    prepare: Callable[[World], None] = lambda _: None,
) -> Told:
    """Run a plan, or the one that the seed makes, in a world of that seed; if `rotten`, damage what it leaves.

    Raises:
        Breach: a promise was broken; the message names the seed.
    """
    plan = plan or plan_of(seed)
    world = World(seed, crash_at=[*plan.crash_at, *crash_at], faulty=faulty)
    world.crash_on.update(plan.crash_on)
    prepare(world)
    life: list[Life] = []

    async def main() -> tuple[str, float]:
        life.append(Life(plan, world))
        with trio.move_on_after(STUCK_S):
            return await life[0].live(), trio.current_time()
        raise Breach("3: something waits for ever: no sender is answered, or no process starts")

    try:
        with mock.patch.object(trio.to_thread, "run_sync", on_the_spot):  # Threads keep no seed's order.
            trace, seconds = run_seeded(seed, main)
    except BaseException as fault:
        fault.add_note(f"seed {seed}, crash at {sorted({*plan.crash_at, *crash_at})}")
        raise
    if rotten:
        world.sometimes.update(f"refused: {rule}" for rule in refusals(world))
    return Told(seed, trace, world.calls, seconds, life[0].crashes, world.faults, world.sometimes)
