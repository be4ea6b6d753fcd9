"""A listener in the process that has the engine: webhooks by themselves, and the application behind Hypercorn."""

from typing import Any

import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from protocol.admission import Incoming
from protocol.state import Reply
from runtime.config import Settings
from runtime.door.answer import Answer
from runtime.door.app import SentNotes, make_app
from runtime.door.binding import HttpConfig
from runtime.door.door import Door, Route, engine_of
from runtime.door.http1 import Head, parameters
from runtime.door.refusals import too_large, too_slow
from runtime.door.webhook import Waiting, find, receive, receive_now


class OwnDesk:
    """The desk of the process that has the engine."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def find(self, identifier: str) -> Route | Answer:
        return find(self._door, identifier)

    def is_full(self) -> bool:
        return engine_of(self._door).line.is_needed()

    async def place(self) -> None:
        await engine_of(self._door).line.wait()

    def at_once(self, found: Route, head: Head, body: bytes) -> Answer | Waiting | None:
        return receive_now(self._door, found, self._incoming(head, body))

    async def take(self, found: Route, head: Head, body: bytes) -> Answer | Waiting:
        return await receive(self._door, found, self._incoming(head, body))

    def _incoming(self, head: Head, body: bytes) -> Incoming:
        return Incoming(
            method=head.method,
            headers=head.headers,
            query=parameters(head.query),
            body=body,
            at=engine_of(self._door).clock(),
        )

    def too_large(self) -> Reply:
        return self._counted(too_large(self._door.settings))

    def too_slow(self) -> Reply:
        return self._counted(too_slow(self._door.settings))

    def _counted(self, reply: Reply) -> Reply:
        self._door.count("", reply)
        return reply


class OwnHttp:
    """Hypercorn and the application, in the process that has the engine."""

    def __init__(self, settings: Settings, door: Door) -> None:
        self._config = HttpConfig.of(settings)
        app = SentNotes(make_app(door), settings.answer_timeout_s)
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)

    async def serve(self, stream: Any) -> None:
        try:
            await TCPServer(self._app, self._config, self._context, ConnectionState({}), stream)
        finally:
            await trio.aclose_forcefully(stream)  # Hypercorn does not get to it when the server ends.

    async def stop(self) -> None:
        await self._context.terminated.set()
