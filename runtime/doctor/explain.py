"""Why a transaction waits: for what, since when, until when, what would wake it, and what a person can do about it.

Read off rows, so that it is the same for a live server and for a stopped one. Values are masked as everywhere.
"""

import shlex
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from protocol.program import CallPlan, Program, ScriptPlan, WebhookPlan
from protocol.state import CycleRow, HitRow, OpenCall, TransactionRow, TransactionStatus, transaction_name
from runtime.clock import instant
from runtime.masking import MASK, hidden_of
from runtime.store import Look
from runtime.store.rows import TABLES, encode

PARKED_SHOWN = 5  # Parked requests that are named; `parked ls` has all.
STOPPED_SERVER = "no server runs: cyclewright serve PROJECT"

For = Literal["nothing", "request", "person", "time", "answer", "function", "turn", "cycle"]


class Waiting(Struct, frozen=True):
    """What a transaction waits for.

    Attributes:
        waits_for: as one of few words, for machines.
        said: the same for people.
        since: the last change of the transaction, or when the call left.
        until: when the wait ends by itself, None for never.
        then: what happens then.
        wakes: what would wake it before.
        do: what a person can do: commands to paste.
        notes: what else stands in the way.
    """

    transaction: str
    status: TransactionStatus
    step: str
    waits_for: For
    said: str
    since: str | None
    until: str | None = None
    then: str | None = None
    wakes: list[str] = []
    do: list[str] = []
    notes: list[str] = []


class Surroundings(Struct, frozen=True):
    """What an explanation needs beside the row.

    Attributes:
        look: a store at one moment.
        program: a version by its hash.
        url: a webhook's URL by its identifier.
        gate: what is known of the way to the remote of a call; "" for nothing.
        now: nanoseconds since 1970.
        live: whether a server runs.
    """

    look: Look
    program: Callable[[str], Program]
    url: Callable[[str], str]
    gate: Callable[[TransactionRow], str]
    now: int
    live: bool


def explain(row: TransactionRow, around: Surroundings) -> Waiting:
    """Why a transaction waits."""
    cycle: CycleRow = around.look.row(TABLES[CycleRow], row.cycle)
    found = _Explaining(row, cycle, around).told()
    notes = [] if around.live else [STOPPED_SERVER]
    return msgspec.structs.replace(found, notes=notes + found.notes)


class _Explaining:
    def __init__(self, row: TransactionRow, cycle: CycleRow, around: Surroundings) -> None:
        self.row, self.cycle, self.around = row, cycle, around
        self.name = transaction_name(row.cycle, row.id)
        self.program = around.program(row.definition_hash)
        self.hidden = hidden_of(self.program)

    def told(self) -> Waiting:
        row, call = self.row, self.row.call
        if call is not None and call.unknown:
            return self._person(call)
        if row.status == "held":
            return self._request()
        if row.status != "running":
            return self._over()
        if row.until:
            return self._time()
        if call is not None:
            return self._link(call, *call.link) if call.link is not None else self._call(call)
        return self._waiting("turn", "its next turn, which comes by itself", do=[])

    def _waiting(self, waits_for: For, said: str, **more: Any) -> Waiting:
        row = self.row
        since = more.pop("since", instant(row.updated))
        return Waiting(self.name, row.status, row.step, waits_for, said, since, **more)

    def _over(self) -> Waiting:
        row = self.row
        if row.status == "completed":
            at = ", ".join(row.reached)
            wakes = [f"a request that matches at {at} runs it again"] if at and not row.purged else []
            return self._waiting("nothing", "nothing: it is completed", wakes=wakes)
        do = [f"cyclewright redrive resume {self.name}", f"cyclewright redrive rerun {self.name}"]
        notes = ["its data is gone, so it can not be resumed"] if row.purged else []
        why = f": {row.reason}" if row.reason else ""
        return self._waiting("nothing", f"nothing: it is {row.status}{why}", do=do, notes=notes)

    def _person(self, call: OpenCall) -> Waiting:
        request = self.hidden.request(call.step, call.request)
        said = f"a person: whether {request['method']} {request['url']} of {call.step} took effect is not known"
        do = [f"cyclewright transactions settle {self.name} {answer}" for answer in ("resend", "done", "fail")]
        notes = [f"the remote may tell, by the key {call.idempotency_key}"]
        return self._waiting("person", said, wakes=["one of the three answers below"], do=do, notes=notes)

    def _time(self) -> Waiting:
        row = self.row
        words = {
            "delay": ("the end of a delay", "the pass goes on"),
            "retry": ("the next attempt", f"{row.call.step if row.call else row.step} is tried again"),
            "limited": ("its remote, which asked for patience", "the remote is asked again"),
            "remote": ("a remote that asked another call for patience", "the remote is asked again"),
        }
        said, then = words.get(row.waits, ("a due time", "the pass goes on"))
        overdue = ["it is overdue: it runs as soon as a server does"] if row.until < self.around.now else []
        do = [f"cyclewright stop {row.cycle}  # ends every pass in progress of the cycle"]
        return self._waiting(
            "time", said, until=instant(row.until), then=then, wakes=["time alone"], do=do, notes=overdue
        )

    def _call(self, call: OpenCall) -> Waiting:
        plan = self.program.plans.get(call.step)
        since = instant(call.at or self.row.updated)
        if isinstance(plan, ScriptPlan | WebhookPlan):
            function = plan.function if isinstance(plan, ScriptPlan) else str(plan.step.after_webhook)
            said = f"the function {function} of the project"
            return self._waiting("function", said, since=since, then="it fails after 60 seconds", wakes=["its return"])
        request = self.hidden.request(call.step, call.request)
        said = f"the answer to {request['method']} {request['url']} of {call.step}, attempt {call.attempt}"
        gate = self.around.gate(self.row)
        if gate:
            said, since = f"{said}: {gate}", instant(self.row.updated)
        timeout = plan.timeout if isinstance(plan, CallPlan) and not gate and call.at else 0
        return self._waiting(
            "answer",
            said,
            since=since,
            until=instant(call.at + timeout) if timeout else None,
            then="the attempt fails, and on_error says what follows" if timeout else None,
            wakes=["the remote's answer, or that the connection breaks"],
            do=[f"cyclewright stop {self.row.cycle}  # ends every pass in progress of the cycle"],
        )

    def _link(self, call: OpenCall, cycle: str, step: str) -> Waiting:
        said = f"the answer of {cycle}/{step}, which {call.step} handed over to"
        key = encode((cycle, step, call.idempotency_key))
        hits = [self._hit(one) for one in self.around.look.entries("delivery", key, 1, latest=True)]
        runs = [transaction_name(hit.cycle, hit.transaction) for hit in hits if hit is not None and hit.transaction]
        do = [f"cyclewright doctor {name}" for name in runs]
        return self._waiting("cycle", said, since=instant(call.at or self.row.updated), do=do)

    def _hit(self, one: int) -> HitRow | None:
        hit: HitRow | None = self.around.look.row(TABLES[HitRow], one)
        return hit

    def _request(self) -> Waiting:
        row, cycle = self.row, self.cycle
        plan = self.program.plans.get(row.step)
        if not isinstance(plan, WebhookPlan):
            return self._waiting("request", f"a request at {row.step}, which its version does not have", do=[])
        pairs = list(zip(plan.match, self.hidden.key(row.step, row.reached.get(row.step, [])), strict=False))
        values = " and ".join(f"{pair.location} = {value}" for pair, value in pairs)
        url = self.around.url(cycle.identifiers.get(row.step, ""))
        do = []
        if cycle.status != "running":
            do.append(f"cyclewright start {cycle.name}")
        shown = all(value != MASK for _, value in pairs)
        body = msgspec.json.encode(_body(plan, pairs)).decode()
        comment = "" if shown else "  # with the value that is masked here"
        do.append(f"cyclewright hit {cycle.name}/{row.step} --json {shlex.quote(body)}{comment}")
        parked = self._parked()
        do += [f"cyclewright parked aim {hit} {self.name}" for hit in parked[:PARKED_SHOWN]]
        notes = [f"the cycle is {cycle.status}: a request finds it stopped"] if cycle.status != "running" else []
        if parked:
            notes.append(
                f"{len(parked)} requests are parked at {row.step} for other values: is one of them meant for it?"
            )
        limit = {"end": "the pass ends", "fail": "it fails"}.get(plan.on_timeout, f"it goes on at {plan.on_timeout}")
        return self._waiting(
            "request",
            f"a request at {row.step} with {values}",
            until=instant(row.until),
            then=limit if row.until else None,
            wakes=[f"{' or '.join(plan.step.methods)} {url} with {values}"],
            do=do,
            notes=notes,
        )

    def _parked(self) -> list[int]:
        """Requests that wait at the step it holds at, for other values."""
        found = self.around.look.rows(
            TABLES[HitRow], "due > 0 AND cycle = ? AND status = 'parked' ORDER BY due LIMIT 1000", (self.row.cycle,)
        )
        return [hit.id for hit in found if hit.step == self.row.step]


def _body(plan: WebhookPlan, pairs: list[tuple[Any, str]]) -> dict[str, Any]:
    """A request that would match: its fields by name, nested as their locations are; other required ones are null."""
    wanted = {pair.location: _typed(pair.type, value) for pair, value in pairs}
    required = [one for one, spec in plan.step.fields.items() if getattr(spec, "required", False) in (True, "yes")]
    body: dict[str, Any] = {}
    for location in (*wanted, *(one for one in required if one not in wanted)):
        place = body
        *heads, last = location.split(".")
        for head in heads:
            place = place.setdefault(head, {})
        place[last] = wanted.get(location)
    return body


def _typed(kind: str, value: str) -> Any:
    return int(value) if kind == "integer" and value.lstrip("-").isdecimal() else value
