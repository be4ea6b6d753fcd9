"""What every route needs: where identifiers lead, who may ask, and whether the server takes requests."""

import hashlib
import hmac
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from msgspec import Struct
from quart import Response

from protocol.admission import Incoming
from protocol.answers import problem
from protocol.definition import Verify
from protocol.program import WebhookPlan
from protocol.state import Reply
from protocol.verification import Unverified, verify
from runtime.captures import Captures
from runtime.config import Settings
from runtime.doctor.live import Doctor
from runtime.engine import Engine
from runtime.line import Line

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.door")

SIGNATURE_BYTES = 16  # Of the capability in a status URL: 128 bits.


class Route(Struct, frozen=True):
    """Where a webhook identifier leads."""

    cycle: str
    step: str


class Door:
    """What the routes need: the engine once it has recovered, and how far recovery is until then."""

    def __init__(self, settings: Settings, token: str, status_key: str, chain_key: str = "") -> None:
        self.settings = settings
        self.token = token
        self.engine: Engine | None = None
        self.doctor: Doctor | None = None  # Looks at the state of the engine.
        self.draining = False
        self.progress = 0
        self.reload: Callable[[], Awaitable[Any]] | None = None  # Deploys the project again, once there is an engine.
        self.unverified: Counter[Route] = Counter()  # Requests refused for their signature.
        self.line = Line(lambda: sys.maxsize)  # Nobody waits to be told that there is no engine yet.
        self.chain_key = hashlib.blake2b((chain_key or status_key).encode()).digest()
        self._early: Counter[tuple[str, str]] = Counter()  # Answers before there was an engine.
        self.captures = Captures()
        self._status_key = hashlib.blake2b(status_key.encode()).digest()  # 64 bytes, whatever the file holds.
        self._routes: dict[str, Route] = {}

    def open(self, engine: Engine) -> None:
        """Let requests in."""
        engine.sign = self.sign
        self.engine = engine
        # The same line as before: who was let in while there was no engine arrives at it, and is counted there.
        self.line.room, self.line.wake, engine.line = engine.room, engine.wake, self.line
        self.doctor = Doctor(engine)
        self.learn()

    def learn(self) -> None:
        """Read the webhook identifiers of every cycle's current version."""
        assert self.engine is not None, "identifiers are learnt from an engine"
        routes: dict[str, Route] = {}
        for row in self.engine.state.cycles():
            program = self.engine.state.program(row.definition_hash)
            for step, identifier in row.identifiers.items():
                if step in program.plans:
                    routes[identifier] = Route(row.name, step)
                    if program.webhook(step).step.capture == "next":
                        self.captures.ask((row.name, step), row.definition_hash)
        self._routes = routes

    def route(self, identifier: str) -> Route | None:
        """Where an identifier leads. A dict look-up leaks no more timing than the network hides: 128 random bits."""
        return self._routes.get(identifier)

    def verified(self, plan: WebhookPlan, route: Route, request: Incoming) -> Reply | None:
        """The refusal of a request that is not signed as its step asks; nothing is journaled of it but a count."""
        said = plan.step.verify
        if not isinstance(said, Verify):
            return None
        secrets = [os.environ.get(name, "") for name in said.names]
        if not any(secrets):
            log.error("no secret is set for a webhook, so every request to it is refused", variables=said.names)
        try:
            verify(said, secrets, request.headers, request.body, request.at)
        except Unverified as reason:
            self.unverified[route] += 1
            return problem(401, "Not verified", str(reason))
        return None

    def count(self, cycle: str, answer: Reply) -> None:
        """Count an answer at a webhook; the cycle is empty where none was found."""
        hits = self._early if self.engine is None else self.engine.counters.hits
        hits[cycle, str(answer.status)] += 1

    @property
    def hits(self) -> Counter[tuple[str, str]]:
        """Answers at webhooks, by cycle and status; `gone` where a caller did not wait for his."""
        return self._early if self.engine is None else self._early + self.engine.counters.hits

    def sign(self, hit: int) -> str:
        """The capability that makes a status URL unguessable: keyed BLAKE2b (RFC 7693), cheaper than an HMAC."""
        digest = hashlib.blake2b(str(hit).encode(), key=self._status_key, digest_size=SIGNATURE_BYTES)
        return digest.hexdigest()

    def signed(self, name: str) -> int | None:
        """The hit that a status URL names; None when the signature is not ours."""
        hit, _, signature = name.partition(".")
        if not hit.isascii() or not hit.isdecimal() or len(hit) > 18:
            return None
        return int(hit) if hmac.compare_digest(self.sign(int(hit)).encode(), signature.encode()) else None

    def authorized(self, header: str) -> bool:
        """Whether an Authorization header carries the admin token; compared in constant time. An empty one is none."""
        scheme, _, token = header.partition(" ")
        if not self.token.strip():
            return False
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self.token.encode())


def engine_of(door: Door) -> Engine:
    """The engine behind a route that is guarded: such routes are reached on a ready server only."""
    assert door.engine is not None, "guarded routes run on a ready server"
    return door.engine


def as_response(reply: Reply) -> Response:
    """A reply on its way out."""
    response = Response(reply.body, reply.status, headers=reply.headers)
    if "content-type" not in reply.headers:
        response.headers.pop("content-type", None)
    return response


def not_ready(door: Door) -> Reply | None:
    """The refusal of a server that recovers or drains; None when it takes requests."""
    if door.engine is None:
        detail = f"the journal is being read: {door.progress} events so far"
        return problem(503, "Starting", detail, headers={"retry-after": "1"}, progress=door.progress)
    if door.draining:
        return problem(503, "Stopping", "the server finishes its work", headers={"retry-after": "10"})
    return None
