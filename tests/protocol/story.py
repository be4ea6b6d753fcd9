"""Given / when / then for the core: a cycle over a memory state, fed with requests, answers and time."""

from typing import Any

import msgspec

from protocol.admission import Incoming, admit
from protocol.ages import Ages
from protocol.cycle import decide
from protocol.events import AnyEvent, CallIntended, HitAccepted, Origin, ReplyBuilt, decode_events, encode_event
from protocol.events_redrive import RedriveAction
from protocol.evolve import evolve
from protocol.inputs import (
    CallAnswer,
    CallEnded,
    CallFailure,
    CallLeaves,
    Deploy,
    Hit,
    HoldDue,
    Input,
    ParkDue,
    Recover,
    Redrive,
    Refused,
    ReplySettled,
    Retain,
    ScriptResult,
    Settle,
    Start,
    Stop,
    Verdict,
)
from protocol.loading import Source, encode_definition, load_project
from protocol.memory import MemoryState
from protocol.outbox import Effect, SendReply, awaits_reply, outbox
from protocol.redrive_items import item_of, redrive_of
from protocol.state import Reply, Row, TransactionRow
from protocol.turn import Decision
from protocol.verdicts import verdict_reply
from runtime.store.digest import digest
from runtime.store.rows import encode, row_key

SECOND = 1_000_000_000
SAVED_CHECK_MAX = 100  # Rows; a story of thousands would spend its time on looking at them all after every turn.
NOON = 1_767_268_800 * SECOND


def status_url(hit: int) -> str:
    """Where a hit can be followed; what signs it is no business of the core."""
    return f"/status/{hit}"


class Careful(MemoryState):
    """Keeps the bytes of each row as it was saved: a change that is not saved would be lost to a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[tuple[str, int | str], bytes] = {}

    def save(self, row: Row) -> None:
        super().save(row)
        self.saved[type(row).__name__, row_key(row)] = encode(row)

    def unsaved(self) -> list[Row]:
        """The rows that were changed after they were saved."""
        tables = (self.cycles, self.definitions, self.transactions, self.hits, self.incidents)
        rows = [row for table in tables for row in table.values()]
        return [row for row in rows if self.saved[type(row).__name__, row_key(row)] != encode(row)]


class Story:
    """One or more cycles, deployed and started, at a time that only `later` moves."""

    def __init__(self, *files: str, started: bool = True, connectors: str = "") -> None:
        sources = [Source(f"{number}.cycle.yaml", text) for number, text in enumerate(files)]
        sources += [Source("connectors.yaml", connectors)] if connectors else []
        definitions, faults = load_project(sources)
        assert not faults, [str(fault) for fault in faults]
        self.state = Careful()
        self.at = NOON
        self.journal: list[AnyEvent] = []
        self.latest: list[AnyEvent] = []
        self.effects: list[Effect] = []
        self.turns: list[Decision] = []
        self.all_effects: list[Effect] = []
        for name, definition in definitions.items():
            packed = encode_definition(definition)
            self.put(Deploy(name, self.at, packed, f"hash-{name}", {}))
            if started:
                self.put(Start(name, self.at))
        self.cycle = next(iter(definitions))

    def put(self, given: Input) -> Verdict:
        """One turn, and the turns it leaves over."""
        decision = self.decision = decide(self.state, given, len(self.journal))
        self.turns.append(decision)
        self.latest = list(decision.events)
        self.journal += decision.events
        if len(self.state.saved) < SAVED_CHECK_MAX:
            assert not self.state.unsaved()
        self.effects = outbox(self.state, decision, status_url)
        self.all_effects += self.effects
        verdict = decision.verdict
        for left in decision.rest:
            latest, effects = self.latest, self.effects
            later = self.put(left)
            verdict = later if verdict is None else verdict
            self.latest, self.effects = latest + self.latest, effects + self.effects
        return verdict

    def admit(self, step: str, body: Any = None, *, cycle: str = "", **more: Any) -> Hit | Reply:
        """A request at a webhook, read and checked."""
        row = self.state.cycle(cycle or self.cycle)
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        request = Incoming(
            method=more.pop("method", "POST"),
            headers=headers,
            query=more.pop("query", {}),
            body=raw,
            at=self.at,
            **more,
        )
        return admit(self.state.program(row.definition_hash), step, request)

    def hit(self, step: str, body: Any = None, **more: Any) -> Verdict:
        """A request that is admitted and decided."""
        admitted = self.admit(step, body, **more)
        assert isinstance(admitted, Hit), admitted
        return self.put(admitted)

    def ask(self, step: str, body: Any = None, **more: Any) -> Reply | None:
        """What the caller of a request is told at once; None when it waits for an answer that comes later."""
        admitted = self.admit(step, body, **more)
        if isinstance(admitted, Reply):
            return admitted
        verdict = self.put(admitted)
        waits = awaits_reply(self.state, verdict)
        if not waits:
            return verdict_reply(self.state, verdict, status_url)
        return next(iter(self.answers(waits)), None)

    def answer(
        self, body: Any = None, status: int = 200, *, transaction: int = 0, headers: dict[str, str] | None = None
    ) -> None:
        """The remote answers the open call of a transaction."""
        said = {"content-type": "application/json", **(headers or {})}
        self.end_call(CallAnswer(status, said, msgspec.json.encode(body)), transaction)

    def script(self, data: dict[str, Any], *, transaction: int = 0) -> None:
        """The function that a script step called returns."""
        self.end_call(ScriptResult(data), transaction)

    def no_answer(self, *, transaction: int = 0) -> None:
        """The open call of a transaction brings nothing."""
        self.end_call(CallFailure("sent", "connection reset"), transaction)

    def unreachable(self) -> None:
        """The open call of the only transaction was never sent."""
        self.end_call(CallFailure("connect", "connection refused"), 0)

    def end_call(self, outcome: CallAnswer | CallFailure | ScriptResult, transaction: int) -> None:
        """The open call of a transaction ends so."""
        row = self.state.transaction(transaction) if transaction else self.only()
        assert row.call is not None, "a call is open"
        self.put(CallEnded(row.cycle, self.at, row.id, row.call.step, row.number, row.call.attempt, outcome))

    def leave(self) -> None:
        """Every announced call has its place, and leaves."""
        for row in list(self.state.transactions.values()):
            if row.call is not None and not row.call.left:
                self.put(CallLeaves(row.cycle, self.at, row.id, row.call.step, row.number, row.call.attempt))

    def later(self, seconds: float) -> None:
        """Let time go by, and fire what is due then."""
        self.at += int(seconds * SECOND)
        for hit in list(self.state.hits.values()):
            if hit.status in ("parked", "collected") and hit.until <= self.at:
                self.put(ParkDue(hit.cycle, self.at, hit.id))
        for row in list(self.state.transactions.values()):
            if row.status in ("held", "running") and 0 < row.until <= self.at:
                self.put(HoldDue(row.cycle, self.at, row.id))

    def retain(
        self, *, completed: float = 0, failed: float = 0, held: float = 0, bodies: float = 0, cycle: str = ""
    ) -> list[AnyEvent]:
        """Offer every row of a cycle to retention, by ages in seconds, until nothing goes; what it recorded."""
        name, state = cycle or self.cycle, self.state
        ages = Ages(*(int(age * SECOND) for age in (completed, failed, held, bodies)))
        before = len(self.journal)
        while True:
            tables: list[dict[int, Any]] = [state.transactions, state.hits, state.incidents]
            ids = [tuple(one for one, row in table.items() if row.cycle == name) for table in tables]
            self.put(Retain(name, self.at, ages, *ids))
            if not self.latest:
                return self.journal[before:]

    def sent(self) -> None:
        """Every answer that was built has left for its caller."""
        for hit in list(self.state.hits.values()):
            if hit.fate == "waiting" and hit.reply is not None:
                self.put(ReplySettled(hit.cycle, self.at, hit.id, "sent"))

    def deploy(self, text: str) -> Verdict:
        """Another version of the cycle becomes the current one."""
        (definition,) = load_project([Source("new.cycle.yaml", text)])[0].values()
        packed = encode_definition(definition)
        return self.put(Deploy(definition.cycle, self.at, packed, f"hash-at-{len(self.journal)}", {}))

    def start(self, *, cycle: str = "") -> Verdict:
        """Order a cycle to start."""
        return self.put(Start(cycle or self.cycle, self.at))

    def stop(self, mode: Any = "stop", *, cycle: str = "") -> Verdict:
        """Order a cycle to stop or to finish."""
        return self.put(Stop(cycle or self.cycle, self.at, mode))

    def settle(self, action: Any, *, transaction: int = 0) -> Verdict:
        """A person's word on an unknown call, of the only transaction unless another is named."""
        return self.put(Settle(self.cycle, self.at, transaction or self.only().id, action))

    def redrive_input(
        self, action: RedriveAction, item: int, order: str = "o1", *, current: bool = False, again: bool = False
    ) -> Redrive | Refused:
        """An item of an order, with its request as the journal has it."""
        found = item_of(self.state, action, item, current=current)
        original = self.journal[found.original] if found.original else None
        assert original is None or isinstance(original, HitAccepted)
        return redrive_of(self.state, found, original, self.at, order=order, action=action, again=again)

    def redrive(self, action: RedriveAction, item: int, order: str = "o1", **more: bool) -> Verdict:
        """Order one item to be redriven."""
        given = self.redrive_input(action, item, order, **more)
        return given if isinstance(given, Refused) else self.put(given)

    def origin(self, call: CallIntended) -> Origin:
        """Where the answer to a linked call goes."""
        return Origin(call.cycle, call.transaction, call.step, self.state.transaction(call.transaction).number)

    def restart(self, *, queued: bool = False) -> None:
        """The process dies and comes back: everything is folded from the journal's bytes again.

        Args:
            queued: whether announced calls still waited for their place; by default they had left.
        """
        if not queued:
            self.leave()
        before = digest(self.state)
        self.state = self.replayed()
        assert digest(self.state) == before, "replay gives the live state"
        waiting = tuple(hit.id for hit in self.state.hits.values() if hit.fate == "waiting")
        rows = self.state.transactions.values()
        active = tuple(row.id for row in rows if row.status == "running" or row.call or row.queue)
        self.put(Recover(self.cycle, self.at, waiting, active))

    def replayed(self) -> Careful:
        """The state that the journal's bytes give."""
        state = Careful()
        packed = b"\xdd" + len(self.journal).to_bytes(4, "big") + b"".join(map(encode_event, self.journal))
        for seq, event in enumerate(decode_events(packed)):
            evolve(state, event, seq)
        return state

    # -- then

    def names(self) -> list[str]:
        """The events of the latest turn, by name."""
        return [type(event).__name__ for event in self.latest]

    def only(self) -> TransactionRow:
        """The one transaction there is."""
        (row,) = self.state.transactions.values()
        return row

    def status(self) -> list[str]:
        """The status of every transaction, oldest first."""
        return [row.status for row in self.state.transactions.values()]

    def replies(self) -> list[tuple[int, bytes]]:
        """Every answer built so far."""
        return [(event.status, event.body) for event in self.journal if isinstance(event, ReplyBuilt)]

    def answers(self, hit: int) -> list[Reply]:
        """What was given, so far, to whoever waits for the answer to a hit."""
        return [effect.reply for effect in self.all_effects if isinstance(effect, SendReply) and effect.hit == hit]

    def calls(self) -> list[CallIntended]:
        """Every call intended so far."""
        return [event for event in self.journal if isinstance(event, CallIntended)]

    def incidents(self) -> list[str]:
        """The kinds of every incident so far."""
        return [incident.kind for incident in self.state.incidents.values()]


def cycle(steps: str, *, name: str = "c", rules: str = "{}") -> str:
    """A cycle file around some steps, indented by two; `shop` receives, `remote` has a base URL, `other` has none."""
    return (
        f"cycle: {name}\n"
        'connectors: {shop: {}, other: {}, remote: {base_url: "http://127.0.0.1:9000", timeout: 9 seconds}}\n'
        f"variables: {{channel: orders}}\nsettings: {rules}\nsteps:\n{steps}"
    )


def begun(steps: str, body: Any = None, *, rules: str = "{}", **more: Any) -> Story:
    """A story whose trigger `t`, which takes anything, was hit once."""
    story = Story(cycle("  t: {webhook: shop}\n" + steps, rules=rules))
    story.hit("t", body, **more)
    return story
