"""A turn: one input becomes events, and the state is already what they make of it.

`emit` is the only way to change anything during a turn: it numbers an event, folds it, and keeps it. So what is
decided next always sees the state that replay will see, and a turn can not disagree with its own record.

A turn is one atomic frame of the journal, which has a largest size. So a turn that is `exhausted` begins nothing more:
what is left becomes an input of its own. It may overshoot by what one input brings: an answer of 4 MiB takes at most
4 MiB as bytes and 9 MiB as data (`1e5,` is 4 bytes of JSON and 9 of msgpack), which still fits a frame of 16 MiB.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from protocol.bodies import BodyError
from protocol.canonical import instant_text
from protocol.cloudevents import read_event
from protocol.events import AnyEvent, IncidentRaised, StepSucceeded, encode_event
from protocol.evolve import evolve
from protocol.fold_hits import hit_of, pass_hit
from protocol.incidents import Kind, Level
from protocol.inputs import Input, Verdict
from protocol.program import Program
from protocol.state import HitRow, State, TransactionRow, transaction_name

TURN_BYTES = 2 << 20  # Past it a turn begins nothing more.
TURN_PASSES = 64  # The same, for passes: 64 of them hold the loop for a few milliseconds.

Numbering = Callable[[AnyEvent, int], int]
"""Gives an event its number, told the one it would have: a run beside the record keeps the record's ids by it."""


class Decision(Struct, frozen=True):
    """What a turn brought: events in order, the first of them numbered `seq`, and a verdict for who asked.

    `records` are the events as the journal takes them. `rest` are inputs that carry on what one turn could not hold; a
    verdict that is None is theirs to give.
    """

    seq: int
    events: list[AnyEvent]
    verdict: Verdict
    records: list[bytes]
    rest: tuple[Input, ...] = ()


class Turn:
    """One turn of a cycle's actor."""

    def __init__(self, state: State, cycle: str, at: int, seq: int, numbering: Numbering | None = None) -> None:
        self.state = state
        self.cycle = cycle
        self.at = at
        self.seq = seq
        self.events: list[AnyEvent] = []
        self.records: list[bytes] = []
        self.passes = 0
        self.rest: list[Input] = []
        self._bytes = 0
        self._numbering = numbering

    def emit(self, event: AnyEvent) -> int:
        """Number an event, fold it into the state and keep it; returns its sequence number."""
        seq = self.seq + len(self.events)
        if self._numbering is not None:
            seq = self._numbering(event, seq)
        evolve(self.state, event, seq)
        record = encode_event(event)
        self.events.append(event)
        self.records.append(record)
        self._bytes += len(record)
        return seq

    @property
    def exhausted(self) -> bool:
        """Whether the turn holds as much as one turn may; what is not begun yet goes to `rest`."""
        return self._bytes > TURN_BYTES or self.passes >= TURN_PASSES

    def incident(
        self,
        transaction: int,
        step: str,
        kind: Kind,
        message: str,
        level: Level = "error",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Record something a person should know."""
        self.emit(IncidentRaised(self.cycle, self.at, transaction, step, kind, message, level, detail or {}))

    def succeeded(self, row: TransactionRow, step: str, began: int) -> None:
        """Record that a step did its work, where its definition asks for it."""
        if step in self.program(row).notes_success:
            self.emit(StepSucceeded(row.cycle, self.at, row.id, step, began))

    def program(self, row: TransactionRow) -> Program:
        """The version of the cycle that a transaction runs."""
        return self.state.program(row.definition_hash)

    def caller(self, row: TransactionRow) -> HitRow | None:
        """The request that began the latest pass; None after a `wait_all` or an expired hold, which none began.

        None too for one that retention has dropped from: its caller was told long ago.
        """
        hit = pass_hit(self.state, row)
        return None if hit is None or hit.purged else hit


def scope(state: State, row: TransactionRow, program: Program | None = None) -> dict[str, Any]:
    """The names an expression sees: the steps' data, and the few things around it.

    What costs something is there only for a definition that mentions it: the request's body is read again for `hit`,
    at microseconds per KiB.

    Args:
        state: all rows.
        row: the transaction.
        program: the version whose expression it is, if not the transaction's own.
    """
    program = program or state.program(row.definition_hash)
    names: dict[str, Any] = {
        **row.data,
        "vars": program.definition.variables,
        "cycle": row.cycle,
        "last_success": None,
    }
    if "transaction" in program.mentions:
        started = row.created // 1_000_000
        names["transaction"] = {"id": transaction_name(row.cycle, row.id), "started": started, "pass": row.number}
    if row.step in program.notes_success and (last := state.cycle(row.cycle).succeeded.get(row.step)) is not None:
        names["last_success"] = instant_text(last)
    hit = hit_of(state, row) if "hit" in program.mentions else None
    if hit is not None:
        try:
            body, event = read_event(hit.headers, hit.body, hit.content_type)
        except BodyError:  # The step does not check its requests, and this one is not what it says.
            body, event = hit.body.decode("utf-8", "replace"), None
        received = hit.at // 1_000_000
        names["hit"] = {"headers": hit.headers, "query": hit.query, "received": received, "body": body, "event": event}
    return names
