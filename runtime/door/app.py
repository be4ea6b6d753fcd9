"""The Quart-Trio application: webhooks, status, health and the API, over one engine.

Errors of every kind leave as problem details (RFC 9457), never as a traceback.
"""

from typing import Any

import structlog
import trio
from quart import Quart, Response, request
from quart.sessions import SessionInterface
from quart.wrappers import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from protocol.admission import Incoming
from protocol.answers import problem
from runtime.door.api import add_api
from runtime.door.door import Door, as_response, not_ready
from runtime.door.http1 import parameters
from runtime.door.metrics import add_metrics
from runtime.door.webhook import Answer, Fate, Waiting, find, receive, too_large, too_slow

# The step says which it takes; the rest is here too, so that one answer refuses every other, and a HEAD runs nothing.
WEBHOOK_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]

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

    add_metrics(app, door)
    add_api(app, door)
    return app


async def _webhook(door: Door, identifier: str) -> Response:
    found = find(door, identifier)
    if isinstance(found, Answer):
        return as_response(found.reply)
    assert door.engine is not None, "a door that finds its webhooks is ready"
    await door.line.turn()
    try:
        body = await request.get_data(as_text=False)
    except RequestEntityTooLarge:
        return as_response(too_large(door))
    except RequestTimeout:
        return as_response(too_slow(door))
    assert isinstance(body, bytes), "asked for as bytes"
    incoming = Incoming(
        method=request.method,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]},
        query=parameters(request.query_string),
        body=body,
        at=door.engine.clock(),
    )
    answer = await receive(door, found, incoming)
    if isinstance(answer, Waiting):
        answer = await answer.answered()
        request.scope["cyclewright.end"] = answer.settle  # type: ignore[typeddict-unknown-key]  # Read by SentNotes, ours.
    return as_response(answer.reply)


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
