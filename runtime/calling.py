"""Calls of the engine on their way out: each waits at the gate of its remote, and is sent if it is still wanted."""

import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import trio
from msgspec import UNSET

from protocol.chain import CHAIN_HEADER, TRACE_HEADER, Chain, chain_header, chain_of, traceparent
from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallEnded, CallFailure, CallLeaves, ScriptResult
from protocol.program import CallPlan
from protocol.remotes import attempts_lost, patience, recent_calls, remote_of
from protocol.retry import asks_for_patience
from protocol.state import CycleRow, OpenCall, State, TransactionRow
from runtime.egress import Refused
from runtime.gates import Gates, limits_of
from runtime.outbound import url_of

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
        if data is None and (own := self._own_webhook(call)) is not None:
            engine.links.hand_over(call, number, own, by_url=True)
            return
        if data is None:
            await self._send(call, number)
        else:
            engine.post(self._ended(call, number, await engine.scripts.perform(call, data)))

    def _ended(self, call: CallIntended, number: int, outcome: CallAnswer | CallFailure | ScriptResult) -> CallEnded:
        """What came of a call, as an input."""
        engine = self._engine
        if isinstance(outcome, CallFailure):
            outcome = CallFailure(outcome.phase, engine.secrets.said(outcome.reason))
        return CallEnded(call.cycle, engine.clock(), call.transaction, call.step, number, call.attempt, outcome)

    async def _send(self, call: CallIntended, number: int) -> None:
        engine = self._engine
        connector = self._connector(call)
        gate = self.gates.gate(call.cycle, remote_of(call.request), connector)
        async with gate.place(limits_of(connector), lambda: self._is_open(call)) as sent:
            if not sent:
                return
            entered = gate.entered
            if call.announced:
                at = engine.clock()
                leaves = CallLeaves(call.cycle, at, call.transaction, call.step, number, call.attempt)
                await engine.order(leaves).decided()
                if not self._is_open(call):
                    return
                gate.leaves_now(entered)
            row = engine.state.transaction(call.transaction)
            plan = engine.state.program(row.definition_hash).plans[call.step]
            safe = isinstance(plan, CallPlan) and plan.safe_to_repeat
            chain = Chain(chain_of(row), signed=True, sampled=row.sampled)
            marks = chain_headers(chain, row.depth + 1, call.idempotency_key, engine.chain_key)
            marked = with_headers(call, marks)
            outcome = await engine.outbound.perform(marked, connector, safe_to_repeat=safe)
            if isinstance(outcome, CallAnswer) and asks_for_patience(outcome.status, outcome.headers):
                # Until the turn that says so is durable, which a slow disk may put off, nobody else may slip through.
                at = engine.clock()
                until = patience(engine.state.cycle(call.cycle), call.request, outcome, at)
                gate.close(max(DECIDED_S, (until - at) / 1e9))
            ended = engine.order(self._ended(call, number, outcome))
            if connector.rate is not UNSET:
                # A restart counts as many calls in flight as have places: one whose end it would forget keeps its own.
                await ended.decided()

    def _own_webhook(self, call: CallIntended) -> tuple[str, str] | None:
        """The webhook of this very server that a call names by its URL: it is handed over like a link."""
        try:
            url = url_of(call, self._connector(call))
        except Refused:
            return None  # The attempt says so.
        return self.webhook_at(str(url))

    def webhook_at(self, url: str) -> tuple[str, str] | None:
        """The cycle and step that a URL leads to when it is a webhook of this server."""
        engine = self._engine
        with suppress(httpx.InvalidURL):
            url = str(httpx.URL(url))
        base = next((one for one in engine.own_urls if url.startswith(one)), None)
        if base is None:
            return None
        identifier = re.split("[/?#]", url.removeprefix(base), maxsplit=1)[0]
        for row in engine.state.cycles():
            for step, one in row.identifiers.items():
                if one == identifier and step in engine.state.program(row.definition_hash).plans:
                    return row.name, step
        return None

    def close(self, cycle: str, remote: str, until: int) -> None:
        """Leave a remote alone until then: it put a call off."""
        connector = connector_of(self._engine.state, cycle, remote.partition(" ")[0])
        self.gates.gate(cycle, remote, connector).close((until - self._engine.clock()) / 1e9)

    def _connector(self, call: CallIntended) -> Connector:
        state = self._engine.state
        version = state.transaction(call.transaction).definition_hash
        return connector_of(state, call.cycle, call.request.connector, version)

    def _is_open(self, call: CallIntended) -> bool:
        """Whether its transaction still waits for this very attempt: a stop, or a person, may have ended that."""
        try:
            row = self._engine.state.transaction(call.transaction)
        except KeyError:
            return False
        return is_attempt(row.call, call) and row.status == "running"

    def recover(self, cycle: CycleRow, open_rows: list[TransactionRow]) -> None:
        """Count the calls of the process before this one, so that rates hold across a restart.

        Those that ended are known by the instant of their end, and those in flight may have left just now, as may the
        attempts before them whose end an earlier crash took; all are late rather than early.
        """
        at, now = self._engine.clock(), trio.current_time()
        for name, remote in cycle.remotes.items():
            connector = connector_of(self._engine.state, cycle.name, name.partition(" ")[0])
            limits = limits_of(connector)
            if remote.until:
                self.close(cycle.name, name, remote.until)
            if limits.rate is not None:
                starts = [now - (at - end) / 1e9 for end in recent_calls(remote, limits.rate, at)]
                self.gates.gate(cycle.name, name, connector).remember(starts, limits)
        in_flight, before = Counter[str](), Counter[str]()
        for row in open_rows:
            call = row.call
            if call is not None and call.link is None and call.left and not call.unknown and not row.until:
                in_flight[remote_of(call.request)] += 1
                before[remote_of(call.request)] += attempts_lost(call)
        for name, count in in_flight.items():
            connector = connector_of(self._engine.state, cycle.name, name.partition(" ")[0])
            limits = limits_of(connector)
            starts = [now] * (min(count, limits.concurrency) + before[name])
            self.gates.gate(cycle.name, name, connector).remember(starts, limits)


def chain_headers(chain: Chain, depth: int, call: str, key: bytes) -> dict[str, str]:
    """What tells whoever gets a call, of this idempotency key, which chain it belongs to: the same on every attempt."""
    return {
        TRACE_HEADER: traceparent(chain.id, call, sampled=chain.sampled),
        CHAIN_HEADER: chain_header(chain.id, depth, key),
    }


def with_headers(call: CallIntended, headers: dict[str, str]) -> CallIntended:
    """A call whose request has these headers, whatever its step would rather send."""
    own = {name: value for name, value in call.request.headers.items() if name.lower() not in headers}
    request = msgspec.structs.replace(call.request, headers={**own, **headers})
    return msgspec.structs.replace(call, request=request)


def is_attempt(open_call: OpenCall | None, call: CallIntended) -> bool:
    """Whether an open call is at this attempt."""
    return (
        open_call is not None
        and (open_call.step, open_call.attempt) == (call.step, call.attempt)
        and open_call.idempotency_key == call.idempotency_key
    )


def connector_of(state: State, cycle: str, name: str, version: str = "") -> Connector:
    """A connector as the current version of a cycle has it: an address or a secret that changed is meant for all calls.

    One that the current version has no more is that of the version which the call's transaction runs.
    """
    for one in (state.cycle(cycle).definition_hash, version):
        if one and (found := state.program(one).definition.connectors.get(name)) is not None:
            return found
    return Connector()
