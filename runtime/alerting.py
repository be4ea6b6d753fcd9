"""Alerts on their way: incidents told to a URL at least once, or handed to another cycle exactly once.

1. What an alert tells is journaled before it leaves; every attempt has the same body under the same key. One that is
   open when the process dies is sent again.
2. Attempts are bounded. An alert that is given up is an incident of its own, which no alert tells.
3. Nothing waits for an alert but the next alert of its cycle. One cycle has at most one a second, and all of them have
   few connections of their own.
4. The place where alerts go is looked up for each attempt: a deploy may have repaired it.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import trio

from protocol.admission import Incoming
from protocol.alert_settings import Alerts
from protocol.alerts import ALERT_FIELDS, alerts_of
from protocol.chain import Chain, chain_of, new_chain
from protocol.definition import Connector
from protocol.duration import SECOND_NS
from protocol.events import CallIntended, Origin, Request
from protocol.inputs import AlertDone, CallAnswer, Refused
from protocol.program import LINK_PREFIX
from protocol.remotes import Rate
from protocol.retry import asks_for_patience, retry_after
from protocol.state import IncidentRow, Reply, transaction_name
from runtime import egress
from runtime.calling import chain_headers, with_headers
from runtime.clock import instant
from runtime.gates import Limits
from runtime.links import unsigned
from runtime.outbound import resolve_secrets
from runtime.reception import hit_of

if TYPE_CHECKING:
    from runtime.engine import Engine

GAPS_S = (10.0, 60.0, 300.0, 900.0, 3600.0)  # Before each attempt after the first; together an hour and a half.
SPACING_S = 1.0  # Between two alerts of one cycle: what comes up meanwhile is told together.
TIMEOUT_NS = 10 * SECOND_NS  # Of one attempt.
LIMITS = Limits(4, Rate(10, SECOND_NS))  # Of all cycles that tell one place.
TRANSACTIONS_MAX = 20  # Named by one alert.


class Alerting:
    """Sends the alerts of one engine."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._next: dict[str, float] = {}  # By cycle, when it may tell again.

    async def send(self, cycle: str, incidents: list[int]) -> None:
        """Deliver an alert, or give it up after some attempts; the outcome becomes an input."""
        reason = self._engine.secrets.said(await self._deliver(cycle, incidents))
        self._engine.post(AlertDone(cycle, self._engine.clock(), incidents[0], reason))

    async def _deliver(self, cycle: str, incidents: list[int]) -> str:
        rows = [row for row in map(self._row, incidents) if row is not None]
        if not rows:
            return ""  # Their time is over, and so is the alert's.
        await trio.sleep_until(self._next.get(cycle, 0))
        self._next[cycle] = trio.current_time() + SPACING_S
        alert = _Alert(self._engine, rows, incidents[0])
        reason = ""
        for attempt in range(len(GAPS_S) + 1):
            target = self._target(cycle)
            if target is None:
                return "alerts are not set any more"
            reason = await alert.attempt(target, attempt + 1)
            if not reason:
                return ""
            if attempt < len(GAPS_S):
                await trio.sleep(max(GAPS_S[attempt], alert.patience_s))
        return f"{reason}, at the last of {len(GAPS_S) + 1} attempts"

    def _row(self, incident: int) -> IncidentRow | None:
        try:
            return self._engine.state.incident(incident)
        except KeyError:
            return None

    def _target(self, cycle: str) -> Alerts | None:
        state = self._engine.state
        definition = state.program(state.cycle(cycle).definition_hash).definition
        return alerts_of(definition, self._engine.settings.alerts)


class _Alert:
    """One alert, whatever attempt carries it."""

    def __init__(self, engine: "Engine", rows: list[IncidentRow], first: int) -> None:
        self._engine = engine
        self._row = rows[0]
        self._key = f"{self._row.cycle}.incident.{first}"
        self._body = msgspec.json.encode(alert_view(rows))
        self.patience_s = 0.0  # How long the place asked to be left alone.
        self._chain, self._depth = self._chained()

    def _chained(self) -> tuple[Chain, int]:
        """The chain of what the incident is about, so that alerts which bring incidents come to an end."""
        row = self._row
        try:
            about = self._engine.state.transaction(row.transaction)
        except KeyError:
            chain = str(row.detail.get("chain") or new_chain(row.cycle, row.id, row.at))
            return Chain(chain, signed=True), int(row.detail.get("depth", 0)) + 1
        return Chain(chain_of(about), signed=True, sampled=about.sampled), about.depth + 1

    async def attempt(self, target: Alerts, number: int) -> str:
        """What went wrong with an attempt; empty when the alert was delivered."""
        if target.url.startswith(LINK_PREFIX):
            cycle, _, step = target.url.removeprefix(LINK_PREFIX).partition("/")
            return await self._hand_over(cycle, step)
        try:
            url = resolve_secrets(target.url)
        except egress.Refused as fault:
            return str(fault)
        own = self._engine.calling.webhook_at(url)
        if own is not None:
            return await self._hand_over(*own, by_url=True)
        reason = await self._post(target, url, number)
        if url != target.url:  # It may be a secret, such as the URLs of chat rooms are, and so may its host.
            for secret in (url, urlsplit(url).hostname or url):
                reason = reason.replace(secret, "the host of the alerts")
        return reason

    async def _hand_over(self, cycle: str, step: str, *, by_url: bool = False) -> str:
        engine, row = self._engine, self._row
        incoming = Incoming(
            method="POST",
            headers={"content-type": "application/json"},
            query={},
            body=self._body,
            at=engine.clock(),
            origin=Origin(row.cycle, row.transaction, row.step, 0),
            depth=self._depth,
            chain=self._chain,
            delivery=self._key,
        )
        try:
            program = engine.state.program(engine.state.cycle(cycle).definition_hash)
            refusal = unsigned(program.webhook(step)) if by_url else None
        except KeyError:
            return f"there is no webhook {cycle}/{step}"
        hit = refusal or await hit_of(engine, program, step, incoming)
        if isinstance(hit, Reply):
            return f"{cycle}/{step} refused it with {hit.status}"
        verdict = (await engine.order(hit).decided()).verdict
        return f"{cycle}/{step} refused it: {verdict.title}" if isinstance(verdict, Refused) else ""

    async def _post(self, target: Alerts, url: str, number: int) -> str:
        engine, row = self._engine, self._row
        request = Request("", "POST", url, {}, self._body, "application/json", TIMEOUT_NS)
        call = CallIntended(row.cycle, engine.clock(), row.transaction, row.step, number, self._key, request)
        call = with_headers(call, chain_headers(self._chain, self._depth, self._key, engine.chain_key))
        connector = Connector(headers=target.headers, allow_private=target.allow_private)
        gate = engine.calling.gates.gate("", f"alerts {target.url}", connector)
        async with gate.place(LIMITS, lambda: True):
            outcome = await engine.outbound.perform(call, connector, safe_to_repeat=True)
        if not isinstance(outcome, CallAnswer):
            return outcome.reason
        if 200 <= outcome.status < 300:
            return ""
        if asks_for_patience(outcome.status, outcome.headers):
            self.patience_s = retry_after(outcome, engine.clock(), 0) / 1e9
        return f"it was answered with {outcome.status}"


def alert_view(rows: list[IncidentRow]) -> dict[str, Any]:
    """What an alert says: its first incident, and how many more of the kind there are."""
    first, names = rows[0], [transaction_name(row.cycle, row.transaction) for row in rows if row.transaction]
    values = (
        *(first.id, instant(first.at), first.cycle, first.step, first.kind),
        transaction_name(first.cycle, first.transaction) if first.transaction else None,
        *(first.message, first.detail, first.level),
        *(len(rows), instant(rows[-1].at), list(dict.fromkeys(names))[:TRANSACTIONS_MAX]),
    )
    return dict(zip(ALERT_FIELDS, values, strict=True))
