"""The engine: actors of cycles over one journal, and what leaves them once it is durable.

1. All turns happen on one Trio thread, one after the other; each is one atomic group of the journal.
2. The outbox of a turn is released by the committer, after the sync that made the turn durable.
3. Memory follows what is in progress: mailboxes, running passes and the rows that the store does not have yet.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import structlog
import trio

from journal import LOCAL_PARTITION, Log
from protocol.cycle import decide
from protocol.events import (
    SCHEMA,
    AnyEvent,
    WriterStarted,
    decode_events,
    encode_event,
)
from protocol.evolve import evolve
from protocol.inputs import (
    Continue,
    Deliver,
    Duplicate,
    Hit,
    Input,
    Recover,
    Redrive,
    ReplySettled,
    Verdict,
    body_bytes,
)
from protocol.outbox import (
    AnswerLink,
    ArmTimer,
    CloseGate,
    Effect,
    PerformCall,
    RearmTimers,
    Report,
    SendAlert,
    SendReply,
    awaits_reply,
    outbox,
)
from protocol.state import HitRow, TransactionRow, transaction_name
from protocol.verdicts import first_verdict, verdict_reply
from runtime.alerting import Alerting
from runtime.calling import Calling
from runtime.checkpoints import Checkpoints
from runtime.clock import Clock
from runtime.committer import BATCH_BYTES_MAX, Appender, Committer
from runtime.config import Settings
from runtime.counters import Counters
from runtime.line import Line
from runtime.links import Links
from runtime.metering import Meter
from runtime.network import Network
from runtime.outbound import Outbound
from runtime.scripts import Scripts
from runtime.secrets import Secrets
from runtime.store import StoredState
from runtime.store.rows import TABLES
from runtime.ticket import Outcome, Overloaded, Ticket
from runtime.timers import Timers
from runtime.version import VERSION
from runtime.watching import Watchers

SEGMENT_BATCHES = 8  # A batch is at most such a part of a segment, half of which is all that one commit may take.
TURNS_AT_ONCE = 32  # Between two looks at the rest of the loop: with many more, callers and disk wait for each other.
READ_MAX = 2 * TURNS_AT_ONCE  # In the mailbox; then no more is read: the turns have enough, and find it in the cache.
CHECKPOINT_ROWS_MAX = 4000  # Rows taken at once when replaying; taking one costs about a microsecond.
REPLY_WAITERS_MAX = 20_000  # Callers who wait for built answers.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.engine")


class Engine:
    """Everything between the door and the journal, for the cycles of one partition."""

    def __init__(
        self, log_: Log, appender: Appender, state: StoredState, settings: Settings, clock: Clock, epoch: int
    ) -> None:
        self.state = state
        self.clock = clock
        self.settings = settings
        self.committer = Committer(appender, clock, min(BATCH_BYTES_MAX, settings.segment_bytes // SEGMENT_BATCHES))
        self.checkpoints = Checkpoints(state, self.committer, lambda: self.next_seq - 1)
        self.timers = Timers(state, clock, self.post, backlog=lambda: len(self._inbox))
        self.meter = Meter(state, clock, settings.quota.tasks_per_month)
        self.scripts = Scripts(Path())
        self.outbound: Network = Outbound()
        self.next_seq = 0
        self.public_url = ""
        self.sign: Callable[[int], str] = lambda hit: ""  # noqa: ARG005 - Replaced by the door, which has the key.
        self.chain_key = b""  # Signs the chain headers of calls.
        self.own_urls: frozenset[str] = frozenset()  # What comes before the identifier in URLs of own webhooks.
        self.calling = Calling(self)
        self.links = Links(self)
        self.alerting = Alerting(self)
        self.secrets = Secrets(self)
        self.journal = log_
        self._epoch = epoch
        self._inbox: deque[tuple[Input, Ticket | None]] = deque()
        self._inbox_bytes = 0
        self._read_max = min(READ_MAX, settings.mailbox_items_max)
        self.line = Line(self.room, self.wake)  # Who waits to be read.
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._waiters: dict[int, list[Ticket]] = {}
        self.watchers = Watchers()
        self.counters = Counters()
        self._drained = 0
        self._rate = 1000.0  # Turns a second, measured over the latest second in which there was always one to take.
        self._busy_since = self._busy = 0.0

    # ------------------------------------------------------------------ entering

    def accept(self, hit: Hit | Redrive) -> Ticket:
        """Take a hit in, or an earlier one again; its verdict comes once it is durable.

        Raises:
            Overloaded: a bound of the backlog is reached; nothing was recorded.
            QuotaReached: the month has no task left; the same.
        """
        self.meter.check()
        self.check_room(body_bytes(hit))
        return self.order(hit)

    def check_room(self, size: int) -> None:
        """Raise `Overloaded` when a hit with a body of this size would be refused now, whatever it says."""
        settings = self.settings
        if (
            self.committer.full
            or self.checkpoints.full
            or len(self._inbox) >= settings.mailbox_items_max
            or self._inbox_bytes + size > settings.mailbox_bytes_max
            or self.state.running_count >= settings.running_max
            or len(self._waiters) >= REPLY_WAITERS_MAX
        ):
            raise Overloaded(max(1, round((len(self._inbox) + len(self.line)) / self._rate)))

    def room(self) -> int:
        """How many requests are to be read now, so that there is always one to take."""
        return self._read_max - len(self._inbox)

    def order(self, given: Input, then: Callable[[Outcome], None] | None = None) -> Ticket:
        """Put an input whose outcome someone waits for, or which is told to `then`."""
        ticket = Ticket(then)
        self.post(given, ticket)
        return ticket

    def post(self, given: Input, ticket: Ticket | None = None) -> None:
        """Put an input into the mailbox. Inputs of our own making are bounded by the passes in progress."""
        self._inbox.append((given, ticket))
        self._inbox_bytes += body_bytes(given)
        self.wake()

    def wake(self) -> None:
        """Take turns, if there are any, and let in who waits."""
        self._wake.set()

    # ------------------------------------------------------------------ running

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover, then take turns until cancelled; started when ready."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.committer.run)
            self._write(WriterStarted("", self.clock(), self._epoch, VERSION, SCHEMA))
            self._recover()
            nursery.start_soon(self.timers.run)
            nursery.start_soon(self.checkpoints.run)
            await self.committer.flushed()
            task_status.started()
            try:
                await self._turns()
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(1):
                    await self.outbound.aclose()

    def replay_tail(self, progress: Callable[[int], None] | None = None) -> None:
        """Fold what the journal has beyond the store, before anything runs. Blocks."""
        applied = self.state.database.meta("applied")
        self.next_seq = applied + 1
        for frame in self.journal.read(LOCAL_PARTITION, applied):
            for seq, event in enumerate(decode_events(frame.payload), frame.base_seq):
                if seq > applied:
                    evolve(self.state, event, seq)
                    self.next_seq = seq + 1
            if self.state.changed >= CHECKPOINT_ROWS_MAX:
                self.checkpoints.now()
            if progress is not None:
                progress(self.next_seq)
        self.checkpoints.now()

    def _recover(self) -> None:
        """What a restart owes: callers who waited are gone, open calls are unknown, queues go on."""
        database = self.state.database
        hits: dict[str, list[int]] = {}
        for hit in database.rows(TABLES[HitRow], "waiting = 1 ORDER BY id"):
            hits.setdefault(hit.cycle, []).append(hit.id)
        transactions: dict[str, list[TransactionRow]] = {}
        for row in database.rows(TABLES[TransactionRow], "active = 1 ORDER BY id"):
            transactions.setdefault(row.cycle, []).append(row)
        for cycle in self.state.cycles():
            name, at = cycle.name, self.clock()
            if cycle.status == "running" and self.state.find("collected", (name,), 1):
                self.post(Deliver(name, at))
            if name in hits:
                self.post(Recover(name, at, tuple(hits[name]), ()))
            self.calling.recover(cycle, transactions.get(name, []))
            if cycle.alert is not None:
                self.spawn(self.alerting.send, name, cycle.alert.incidents)
            for row in transactions.get(name, ()):
                self.post(Recover(name, at, (), (row.id,)))

    async def _turns(self) -> None:
        while True:
            if self._inbox:
                await trio.lowlevel.checkpoint()
            else:
                self._wake = trio.Event()
                await self._wake.wait()
                self._busy_since = trio.current_time()
            for _ in range(min(TURNS_AT_ONCE, len(self._inbox))):
                given, ticket = self._inbox.popleft()
                self._inbox_bytes -= body_bytes(given)
                self._turn(given, ticket)
            self.line.call()
            self._measure()

    def _measure(self) -> None:
        now = trio.current_time()
        self._busy += now - self._busy_since
        self._busy_since = now
        if self._busy >= 1:
            self._rate = max(1.0, self._drained / self._busy)
            self._drained, self._busy = 0, 0.0

    def _turn(self, given: Input, ticket: Ticket | None) -> None:
        self.counters.turn(self.state, given)
        decision = decide(self.state, given, self.next_seq)
        self._drained += 1
        self.next_seq += len(decision.events)
        self.checkpoints.note_change()
        effects = outbox(self.state, decision, self.status_url)
        if decision.verdict is None and decision.rest and ticket is not None:
            self._put_back(decision.rest, ticket)
            ticket = None
        else:
            self._put_back(decision.rest, None)
        outcome = None if ticket is None else self._outcome(given, decision.verdict, ticket)
        self.committer.submit(decision.records, lambda: self._release(effects, outcome, ticket, decision.events))

    def _put_back(self, rest: tuple[Input, ...], ticket: Ticket | None) -> None:
        """What one turn could not hold: kept hits came before the mailbox, and a pass waits behind it, to be fair."""
        for given in rest:
            if isinstance(given, Continue):
                self._inbox.append((given, None))
            else:
                self._inbox.appendleft((given, ticket))

    def _write(self, event: AnyEvent) -> None:
        evolve(self.state, event, self.next_seq)
        self.next_seq += 1
        self.checkpoints.note_change()
        self.committer.submit([encode_event(event)], lambda: None)

    def _outcome(self, given: Input, verdict: Verdict, ticket: Ticket) -> Outcome:
        """The outcome of a turn, taken from the state as it is now; it is told when the turn is durable."""
        if isinstance(verdict, Duplicate):
            hit = self.state.hit(verdict.hit)
            if hit.wants_reply and not hit.parked and hit.status not in ("expired", "ignored"):
                if hit.reply is None:
                    self._waiters.setdefault(hit.id, []).append(ticket)
                return Outcome(verdict, hit.reply, hit.id if hit.reply is None else 0)
            return Outcome(verdict, verdict_reply(self.state, first_verdict(hit), self.status_url))
        waits = awaits_reply(self.state, verdict)
        if waits:
            self._waiters.setdefault(waits, []).append(ticket)
        if isinstance(given, Hit) and not waits:
            return Outcome(verdict, verdict_reply(self.state, verdict, self.status_url))
        return Outcome(verdict, None, waits)

    # ------------------------------------------------------------------ leaving

    def _release(
        self, effects: list[Effect], outcome: Outcome | None, ticket: Ticket | None, events: list[AnyEvent]
    ) -> None:
        if ticket is not None and outcome is not None:
            ticket.decide(outcome)
            if ticket.left is not None and outcome.waits:
                self.leave(self.state.hit(outcome.waits).cycle, ticket, ticket.left)
        for effect in effects:
            self._act(effect)
        self.watchers.wake(events)

    def _act(self, effect: Effect) -> None:
        match effect:
            case SendReply(hit=hit, reply=reply):
                for waiter in self._waiters.pop(hit, ()):
                    waiter.answer(reply)
            case PerformCall(call=call, number=number, data=data):
                if call.link is None:
                    self.spawn(self.calling.perform, call, number, data)
                else:
                    self.links.hand_over(call, number, call.link)
            case AnswerLink(ended=ended):
                self.post(ended)
            case ArmTimer(due=due):
                self.timers.arm(due)
            case CloseGate(cycle=cycle, remote=remote, until=until):
                self.calling.close(cycle, remote, until)
            case SendAlert(cycle=cycle, incidents=incidents):
                self.spawn(self.alerting.send, cycle, incidents)
            case RearmTimers():
                self.timers.rearm()
            case Report(incident=incident):
                self.counters.incidents[incident.cycle, incident.level] += 1
                name = transaction_name(incident.cycle, incident.transaction) if incident.transaction else ""
                getattr(log, incident.level)(
                    "incident",
                    cycle=incident.cycle,
                    transaction=name,
                    step=incident.step,
                    kind=incident.kind,
                    message=incident.message,
                )

    def spawn(self, task: Callable[..., Any], *arguments: Any) -> None:
        """Start a task that ends with the engine."""
        assert self._nursery is not None, "effects are released by a running engine"
        self._nursery.start_soon(task, *arguments)

    # ------------------------------------------------------------------ answers and looks

    def status_url(self, hit: int) -> str:
        """Where the caller of a hit can follow it without an account."""
        return f"{self.public_url}/status/{hit}.{self.sign(hit)}"

    def settle(self, cycle: str, hit: int, fate: Any) -> None:
        """Record what became of an answer on its way to the caller."""
        self.post(ReplySettled(cycle, self.clock(), hit, fate))

    def leave(self, cycle: str, ticket: Ticket, fate: Literal["gone", "deadline"]) -> None:
        """A caller stops waiting; the transaction goes on. The answer's fate is told when he was the last to wait."""
        if ticket.outcome is None:
            ticket.left = fate  # His turn is not durable yet, or not even taken.
            return
        hit = ticket.outcome.waits
        waiters = self._waiters.get(hit, [])
        if ticket in waiters:
            waiters.remove(ticket)
            if waiters:
                return
            del self._waiters[hit]
        if hit:
            self.settle(cycle, hit, fate)

    async def checkpointed(self) -> None:
        """Wait until the store has everything decided so far, so that a list shows it."""
        await self.checkpoints.reached()

    @property
    def waiting_inputs(self) -> list[Input]:
        """What waits in the mailbox, in order."""
        return [given for given, _ in self._inbox]

    @property
    def idle(self) -> bool:
        """Whether no pass is in progress and no input waits."""
        return not self._inbox and not self.state.running_count
