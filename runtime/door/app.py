"""The Quart-Trio application: webhooks, status, health and the API, over one engine.

A request becomes a hit by `protocol.admission`, a verdict by the engine, and an answer here. Errors of every kind
leave as problem details (RFC 9457), never as a traceback.
"""

from collections.abc import Callable
from typing import Any, Literal

import structlog
import trio
from msgspec import json
from quart import Quart, Response, request
from quart.sessions import SessionInterface
from quart.wrappers import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from protocol.admission import Incoming, admit, answer_within
from protocol.answers import DUPLICATE_HEADER, problem
from protocol.chain import read_chain
from protocol.inputs import Duplicate, Hit
from protocol.state import Reply
from runtime.door.api import add_api
from runtime.door.door import Door, as_response, not_ready
from runtime.engine import Engine
from runtime.metering import QuotaReached
from runtime.ticket import Overloaded, Ticket

# The step says which it takes; the rest is here too, so that one answer refuses every other, and a HEAD runs nothing.
WEBHOOK_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]

Fate = Literal["sent", "gone"]

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.door")


class _NoSessions(SessionInterface):
    """No request of ours has a session: a cookie that names one is neither read nor set."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> None:
        """None makes Quart use its null session, which can hold nothing."""


def make_app(door: Door) -> QuartTrio:
    """The application; its routes read everything through the door."""
    app = QuartTrio("cyclewright", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = door.settings.body_bytes_max
    app.config["BODY_TIMEOUT"] = door.settings.body_timeout_s
    app.session_interface = _NoSessions()  # type: ignore[assignment]  # Typed by its default, not by its interface.

    @app.errorhandler(HTTPException)
    async def http_error(fault: HTTPException) -> Response:
        status = fault.code or 500
        headers = {"allow": ", ".join(fault.valid_methods or ())} if status == 405 else {}  # type: ignore[attr-defined]  # Only MethodNotAllowed is a 405.
        return as_response(problem(status, fault.name, fault.description or "", headers=headers))

    @app.errorhandler(Exception)
    async def our_error(fault: Exception) -> Response:
        log.error("request failed", fault=type(fault).__name__, exc_info=fault)
        return as_response(problem(500, "Internal error", "the server failed; its log says how"))

    @app.route("/webhook/<identifier>", methods=WEBHOOK_METHODS, provide_automatic_options=False)
    async def webhook(identifier: str) -> Response:
        return await _webhook(door, identifier)

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response(b'{"status":"alive"}', 200, content_type="application/json")

    @app.get("/readyz")
    async def readyz() -> Response:
        refusal = not_ready(door)
        if refusal is not None:
            return as_response(refusal)
        return Response(b'{"status":"ready"}', 200, content_type="application/json")

    add_api(app, door)
    return app


async def _webhook(door: Door, identifier: str) -> Response:
    refusal = not_ready(door)
    if refusal is not None:
        return as_response(refusal)
    engine = door.engine
    assert engine is not None, "a ready door has an engine"
    route = door.route(identifier)
    if route is None:
        return as_response(problem(404, "No such webhook", "no cycle has this identifier"))
    program = engine.state.program(engine.state.cycle(route.cycle).definition_hash)
    body = await request.get_data(as_text=False)
    assert isinstance(body, bytes), "asked for as bytes"
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    chain, depth = read_chain(headers, door.chain_key)
    incoming = Incoming(
        method=request.method,
        headers=headers,
        query=request.args.to_dict() if request.query_string else {},
        body=body,
        at=engine.clock(),
        depth=depth,
        chain=chain,
    )
    refusal = door.verified(program.webhook(route.step), route, incoming)
    if refusal is not None:
        return as_response(refusal)
    admitted = admit(program, route.step, incoming)
    if isinstance(admitted, Reply):
        return as_response(admitted)
    return await deliver(engine, admitted)


async def deliver(engine: Engine, hit: Hit) -> Response:
    """Put a hit to its cycle and answer: at once, or by what the pass responds."""
    try:
        ticket = engine.accept(hit)
    except Overloaded as full:
        headers = {"retry-after": str(full.retry_after)}
        return as_response(problem(503, "Overloaded", str(full), headers=headers))
    except QuotaReached as used:
        headers = {"retry-after": str(used.retry_after)}
        return as_response(problem(429, "Quota reached", str(used), headers=headers))
    try:
        outcome = await ticket.decided()
    except trio.Cancelled:
        engine.leave(hit.cycle, ticket, "gone")
        raise
    marks = {DUPLICATE_HEADER: "true"} if isinstance(outcome.verdict, Duplicate) else {}
    if outcome.reply is not None:
        return as_response(outcome.reply, **marks)
    return await _wait(engine, hit, ticket, outcome.waits, marks)


async def _wait(engine: Engine, hit: Hit, ticket: Ticket, waits: int, marks: dict[str, str]) -> Response:
    """Wait for the built answer within the caller's and the step's bounds; the transaction knows nothing of them."""
    plan = engine.state.program(engine.state.cycle(hit.cycle).definition_hash).webhook(hit.step)
    bound = answer_within(plan, hit.headers) / 1e9
    try:
        with trio.move_on_after(bound):
            await ticket.answered()
    except trio.Cancelled:
        engine.leave(hit.cycle, ticket, "gone")
        raise
    if ticket.reply is not None:  # Also when the bound is zero, or came in the same instant.

        def settle(fate: Fate) -> None:
            if fate == "sent" or not marks:  # Who repeats a delivery and hangs up says nothing of the first caller.
                engine.settle(hit.cycle, waits, fate)

        _on_end(settle)
        return as_response(ticket.reply, **marks)
    engine.leave(hit.cycle, ticket, "deadline")
    url = engine.status_url(waits)
    if plan.step.on_late == "accept":
        body = {"status": "accepted", "hit": waits, "status_url": url}
        return as_response(
            Reply(202, {"content-type": "application/json", "location": url}, json.encode(body)), **marks
        )
    detail = f"no answer within {bound:g} seconds; the run goes on"
    return as_response(problem(504, "Answer is late", detail, headers={"location": url}, status_url=url), **marks)


def _on_end(note: Callable[[Fate], None]) -> None:
    request.scope["cyclewright.end"] = note  # type: ignore[typeddict-unknown-key]  # Read by SentNotes, ours.


class SentNotes:
    """ASGI around the application: tells whether the last byte of an answer was handed to the connection."""

    def __init__(self, app: QuartTrio, answer_timeout_s: float) -> None:
        self.app = app
        self._answer_timeout_s = answer_timeout_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        fate: Fate = "gone"  # A caller who hangs up ends the application wherever it is, also between two sends.

        async def noting(message: Any) -> None:
            nonlocal fate
            if message["type"] != "http.response.body" or message.get("more_body"):
                await send(message)
                return
            # The end of an answer cancels its own task, before the connection is closed or its idle time begins.
            # The bound is for callers over HTTP/2 whose window takes nothing: nobody else would ever give up on them.
            with trio.move_on_after(self._answer_timeout_s, shield=True):
                await send(message)
                fate = "sent"

        try:
            await self.app(scope, receive, noting)
        finally:
            note = scope.get("cyclewright.end")
            if note is not None:
                note(fate)
