"""Calls of the engine on their way out: each waits at the gate of its remote, and is sent if it is still wanted."""

from typing import TYPE_CHECKING, Any

import trio

from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallEnded, CallFailure, ScriptResult
from protocol.program import CallPlan
from protocol.remotes import recent_calls, remote_of
from protocol.retry import asks_for_patience
from protocol.state import CycleRow, OpenCall, TransactionRow
from runtime.gates import Gates, limits_of

if TYPE_CHECKING:
    from runtime.engine import Engine


DECIDED_S = 1.0  # For the turn that says for how long a remote is left alone; nothing slips through before it.


class Calling:
    """Performs the calls of one engine, and posts what came of them."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.gates = Gates()

    async def perform(self, call: CallIntended, number: int, data: dict[str, Any] | None) -> None:
        """Send a request, or call a function of the project with `data`; the outcome becomes an input."""
        engine = self._engine
        outcome = await (self._send(call) if data is None else engine.scripts.perform(call, data))
        if outcome is not None:
            engine.post(
                CallEnded(call.cycle, engine.clock(), call.transaction, call.step, number, call.attempt, outcome)
            )

    async def _send(self, call: CallIntended) -> CallAnswer | CallFailure | ScriptResult | None:
        engine = self._engine
        connector = engine.connections(call.cycle, call.request.connector)
        gate = self.gates.gate(call.cycle, remote_of(call.request), connector)
        async with gate.place(limits_of(connector), lambda: self._is_open(call)) as sent:
            if not sent:
                return None
            plan = engine.state.program(engine.state.transaction(call.transaction).definition_hash).plans[call.step]
            safe = isinstance(plan, CallPlan) and plan.safe_to_repeat
            outcome = await engine.outbound.perform(call, connector, safe_to_repeat=safe)
            if isinstance(outcome, CallAnswer) and asks_for_patience(outcome.status, outcome.headers):
                gate.close(DECIDED_S)
            return outcome

    def close(self, cycle: str, remote: str, until: int) -> None:
        """Leave a remote alone until then: it put a call off."""
        connector = self._engine.connections(cycle, remote.partition(" ")[0])
        self.gates.gate(cycle, remote, connector).close((until - self._engine.clock()) / 1e9)

    def _is_open(self, call: CallIntended) -> bool:
        """Whether its transaction still waits for this very attempt: a stop, or a person, may have ended that."""
        try:
            row = self._engine.state.transaction(call.transaction)
        except KeyError:
            return False
        return is_attempt(row.call, call) and row.status == "running"

    def recover(self, cycle: CycleRow, open_rows: list[TransactionRow]) -> None:
        """Count the calls of the process before this one, so that rates hold across a restart.

        Those that ended are known by the instant of their end, and those in flight may have left just now; both are
        late rather than early.
        """
        at, now = self._engine.clock(), trio.current_time()
        for name, remote in cycle.remotes.items():
            connector = self._engine.connections(cycle.name, name.partition(" ")[0])
            limits = limits_of(connector)
            if remote.until:
                self.close(cycle.name, name, remote.until)
            if limits.rate is not None:
                starts = [now - (at - end) / 1e9 for end in recent_calls(remote, limits.rate, at)]
                self.gates.gate(cycle.name, name, connector).remember(starts, limits)
        in_flight: dict[str, list[float]] = {}
        for row in open_rows:
            if row.call is not None and row.call.link is None and not row.call.unknown and not row.until:
                in_flight.setdefault(remote_of(row.call.request), []).append(now)
        for name, starts in in_flight.items():
            connector = self._engine.connections(cycle.name, name.partition(" ")[0])
            limits = limits_of(connector)
            self.gates.gate(cycle.name, name, connector).remember(starts[: limits.concurrency], limits)


def is_attempt(open_call: OpenCall | None, call: CallIntended) -> bool:
    """Whether an open call is at this attempt."""
    return (
        open_call is not None
        and (open_call.step, open_call.attempt) == (call.step, call.attempt)
        and open_call.idempotency_key == call.idempotency_key
    )


def connector_of(engine: "Engine", cycle: str, name: str) -> Connector:
    """A connector as the current version of a cycle has it."""
    program = engine.state.program(engine.state.cycle(cycle).definition_hash)
    return program.definition.connectors.get(name, Connector())
