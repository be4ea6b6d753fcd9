"""Remote systems: one partner who counts what each key did, and a network that loses, repeats and delays.

The partner honours idempotency keys: the first request under a key takes effect, a repeat is given the same answer.
He remembers what each key asked for, so a key that names two things is found at once.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from runtime.egress import OwnAddress
from tests.journal.disk import PowerLossError
from tests.simulation.programs import RATE
from tests.simulation.world import World

ALERTS = "http://alerts.example/told"
AT_ONCE = 2  # Calls that a partner with limits takes at once.
FAULTS_A_KEY = 3  # After so many a call is let through: every step has attempts enough for that.
JSON = {"content-type": "application/json"}
Asked = tuple[str, str, bytes]


class Breach(AssertionError):
    """A promise of the runtime was broken; the message says which, and where."""


class Partner:
    """Everything that calls did outside.

    Attributes:
        effects: what took effect, by key.
        requests: how many requests came, repeats among them.
        on_effect: told of each first effect, before its answer leaves.
    """

    def __init__(self) -> None:
        self.effects: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.told: dict[str, dict[str, Any]] = {}  # Alerts, by key.
        self.starts: list[float] = []  # Of the latest requests, while he has limits.
        self.on_effect: Callable[[dict[str, Any]], None] = lambda _: None
        self._asked: dict[str, Asked] = {}
        self._met: set[str] = set()

    def meets(self, key: str) -> bool:
        """Whether he hears of a key for the first time."""
        new = key not in self._met
        self._met.add(key)
        return new

    def receive(self, call: CallIntended) -> CallAnswer:
        """One request reaches him."""
        key = call.idempotency_key
        asked = (call.request.method, call.request.url, call.request.body)
        self.requests += 1
        if self._asked.setdefault(key, asked) != asked:
            raise Breach(f"the key {key} names two calls: {self._asked[key]} and {asked}")
        if call.request.url == ALERTS:
            self.told[key] = msgspec.json.decode(call.request.body)
            return CallAnswer(204, {}, b"")
        if key not in self.effects:
            body: dict[str, Any] = msgspec.json.decode(call.request.body) if call.request.body else {}
            self.effects[key] = body
            self.on_effect(body)
        return CallAnswer(200, JSON, msgspec.json.encode({"number": len(key)}))

    def what(self) -> dict[str, list[str]]:
        """The keys by what they did."""
        found: dict[str, list[str]] = {}
        for key, body in self.effects.items():
            found.setdefault(msgspec.json.encode(body, order="sorted").decode(), []).append(key)
        return found


class SimulatedNetwork:
    """The way to the partner and back, each part of which can fail."""

    def __init__(self, world: World, partner: Partner, struck: dict[str, int], *, window_s: float = 0) -> None:
        self._world = world
        self._partner = partner
        self._struck = struck
        self._window_s = window_s
        self._in_flight = Counter[str]()  # By cycle.
        self._left_alone = 0.0  # Until then nobody may call, as far as this process can know.

    def listen_at(self, own: OwnAddress | None) -> None:
        """Nobody listens."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _strikes(self, key: str, name: str, probability: float) -> bool:
        if self._struck.get(key, 0) >= FAULTS_A_KEY or not self._world.fault(name, probability):
            return False
        self._struck[key] = self._struck.get(key, 0) + 1
        return True

    async def perform(
        self, call: CallIntended, connector: Connector, *, safe_to_repeat: bool | None = None
    ) -> CallAnswer | CallFailure:
        """Send one attempt; raises `Breach` when it comes too early or too many are on their way."""
        del connector, safe_to_repeat
        if call.request.url == ALERTS:
            return await self._perform(call)
        self._look(call)
        self._in_flight[call.cycle] += 1
        try:
            outcome = await self._perform(call)
        finally:
            self._in_flight[call.cycle] -= 1
        if isinstance(outcome, CallAnswer) and "retry-after" in outcome.headers:
            self._left_alone = max(self._left_alone, trio.current_time() + float(outcome.headers["retry-after"]))
        return outcome

    def _look(self, call: CallIntended) -> None:
        if self._world.down:
            raise PowerLossError  # One that was given the place of a call that ended with its machine.
        now, partner = trio.current_time(), self._partner
        if now < self._left_alone - 1e-6 and not call.announced:  # It had its place when he asked.
            raise Breach(f"7: {call.step} is called {self._left_alone - now:g} s before the partner's patience is over")
        if not self._window_s or call.cycle != "main":
            return
        # One that was announced had its place before it was recorded; the calls of others, with looser limits, go past.
        under_way = self._in_flight["main"] if call.announced else self._in_flight.total()
        if under_way >= AT_ONCE:
            raise Breach(f"7: {call.step} is called while {under_way} calls are under way, of {AT_ONCE}")
        # A clock that was set while no process ran tells the next one nothing of how long ago a call was (seed 1248).
        since = max(now - self._window_s + 1e-6, self._world.clock_set_at)
        partner.starts = [at for at in partner.starts if at > since]
        if len(partner.starts) >= RATE:
            raise Breach(
                f"7: {call.step} is called after {len(partner.starts)} in {self._window_s} s before, of {RATE}"
            )
        partner.starts.append(now)
        self._world.saw("a call under a limit")

    async def _perform(self, call: CallIntended) -> CallAnswer | CallFailure:
        world, key = self._world, call.idempotency_key
        world.port("network.send")
        await trio.sleep(world.chance.choice((0.001, 0.02, 0.3)))
        if self._strikes(key, "dropped before the effect", 0.05):
            return CallFailure("connect", "connection refused")
        if call.request.url.endswith("/refuse"):
            return CallAnswer(422, {}, b"")
        if call.request.url.endswith("/later") and self._partner.meets(key):
            return CallAnswer(503, {"retry-after": "60"}, b"")
        if self._strikes(key, "429 with Retry-After", 0.04):
            return CallAnswer(429, {"retry-after": "3"}, b"")
        if self._strikes(key, "503 with Retry-After", 0.03):
            return CallAnswer(503, {"retry-after": "2"}, b"")
        if self._strikes(key, "500 without effect", 0.04):
            return CallAnswer(500, {}, b"")
        world.port("network.effect")
        answer = self._partner.receive(call)
        if self._strikes(key, "duplicated", 0.05):
            answer = self._partner.receive(call)
        await trio.sleep(20.0 if self._strikes(key, "delayed", 0.04) else world.chance.choice((0.0, 0.01, 0.5)))
        if self._strikes(key, "dropped after the effect", 0.06):
            return CallFailure("sent", "no answer within 30 seconds")
        if self._strikes(key, "reset in the body", 0.04):
            return CallFailure("sent", "ReadError: connection reset by peer")
        if self._strikes(key, "500 after the effect", 0.04):
            return CallAnswer(500, {}, b"")
        world.port("network.answer")
        return answer
