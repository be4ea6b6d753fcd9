"""The sockets of the door: listening, a bound on connections, the lane, and Hypercorn behind it.

A connection begins in the lane; Hypercorn's Trio `TCPServer` takes over what the lane does not know, and all of them
when the lane is off. Neither sees a connection past the bound: it is told 503 at once, instead of waiting unheard.
"""

import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.config import Sockets
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from protocol.answers import problem
from runtime.config import ConfigError, Settings
from runtime.door.app import SentNotes, make_app
from runtime.door.door import Door
from runtime.door.http1 import encode_answer
from runtime.door.lane import Lane, alone
from runtime.door.wire import LINGER_S, Begun, StreamWire, Wire

LISTEN_BACKLOG = 4096  # Connections that wait to be accepted; past it the kernel drops or resets them.
ACCEPTED_AT_ONCE = 8  # In a turn of the loop, which is a millisecond of work and thousands a second.
KEPT_REQUESTS_MAX = 1_000_000  # On one connection; Hypercorn's 1,000 would cut a busy sender every second.
STOP_S = 1.0  # For answers that are on their way when the server ends.
FILES_MIN = 64  # Kept free of callers' connections: for calls, the store and the journal.
FILES_SHARE = 8  # One in so many of what the process may open, where that is more.
CROWDED_RETRY_S = 1  # Told to who is refused for the number of connections: they come and go within seconds.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.door")


def file_limit() -> int:
    """How many files and sockets the process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def files_kept_free() -> int:
    """How many of them callers' connections leave to everything else, so that work goes on however many there are."""
    return max(FILES_MIN, file_limit() // FILES_SHARE)


class EagerListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts some of those who wait without yielding, while there is room for them.

    Trio accepts one a turn of the loop. A busy loop has some hundred turns a second, so who connects behind thousands
    of others would wait for many seconds, unread.
    """

    def __init__(self, plain: socket.socket, room: Callable[[], int]) -> None:
        self._plain = plain
        self._room = room
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(plain))
        self._left = 0  # To be accepted before it yields.

    async def accept(self) -> trio.SocketStream:
        """The next connection; raises `OSError`, as at a bound of open files."""
        if self._left:
            self._left -= 1
            with suppress(OSError):  # Nobody waits; any other fault shows again below.
                return trio.SocketStream(trio.socket.from_stdlib_socket(self._plain.accept()[0]))
        self._left = 0
        stream = await self._listener.accept()
        if self._room() > 2 * ACCEPTED_AT_ONCE:  # Those of the turn before may not have been counted yet.
            self._left = ACCEPTED_AT_ONCE - 1
        return stream

    async def aclose(self) -> None:
        """Listen no more."""
        await self._listener.aclose()


class Listener:
    """What listens at one address; `bound` is its URL."""

    def __init__(self, settings: Settings, door: Door) -> None:
        self._settings = settings
        self._config = _HttpConfig.of(settings)
        self._app = wrap_app(
            SentNotes(make_app(door), settings.answer_timeout_s),
            self._config.wsgi_max_body_size,
            "asgi",
        )
        self._context = WorkerContext(None)
        self._lane = Lane(door, self._hand_on)
        try:
            self._tls = self._config.create_ssl_context()
        except OSError as fault:  # Also ssl.SSLError, which is one.
            raise ConfigError(f"tls_certificate and tls_key are no certificate and its key: {fault}") from None
        self._open = 0
        free = files_kept_free()
        self._connections_max = max(1, min(settings.connections_max, file_limit() - free))
        self._refusals_max = free // 2  # Connections at once that are told 503; past it they are only closed.
        asked = settings.connections_max
        if self._connections_max < asked != Settings().connections_max:  # What nobody has asked for, `doctor` tells.
            log.info(
                "fewer connections than connections_max: raise the limit of open files",
                connections=self._connections_max,
                connections_max=asked,
                open_files=file_limit(),
            )
        crowded = problem(503, "Too many connections", f"{self._connections_max} connections are open")
        crowded.headers["retry-after"] = str(CROWDED_RETRY_S)
        self._crowded = encode_answer(crowded, b"", keep=False)

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[str]) -> None:
        """Accept connections until told to stop, then let answers leave for a moment; started with the URL."""
        sockets = self._config.create_sockets()
        listening = [*sockets.secure_sockets, *sockets.insecure_sockets]
        for one in listening:
            one.listen(self._config.backlog)
        listeners = [EagerListener(one, lambda: self._connections_max - self._open) for one in listening]
        async with trio.open_nursery() as connections:
            connections.start_soon(self._lane.run)
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, self._connection, listeners, handler_nursery=connections)
                )
                host, port = listening[0].getsockname()[:2]
                scheme = "https" if self._tls else "http"
                task_status.started(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
                await stop.wait()
                accepting.cancel_scope.cancel()
            await self._context.terminated.set()
            self._lane.stop()
            connections.cancel_scope.deadline = trio.current_time() + STOP_S

    async def _connection(self, stream: trio.SocketStream) -> None:
        self._open += 1
        try:
            with alone():
                await self._serve(stream)
        finally:
            self._open -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._open > self._connections_max + self._refusals_max:
            stream.socket.close()
        elif self._open > self._connections_max:
            await _refuse(stream, self._crowded)
        elif self._tls is not None:
            await self._secure(trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True))
        elif not self._settings.lane:
            await self._serve_http(stream)
        elif self._lane.adopts:
            self._lane.adopt(stream, self._closed)
            self._open += 1
        else:
            await self._lane.serve(StreamWire(stream, self._settings.answer_timeout_s))

    def _closed(self) -> None:
        self._open -= 1

    async def _secure(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        """Agree on the protocol (ALPN, RFC 7301): HTTP/2 is Hypercorn's, HTTP/1.1 begins in the lane."""
        try:
            with trio.fail_after(self._config.ssl_handshake_timeout):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError):
            return
        if self._settings.lane and stream.selected_alpn_protocol() != "h2":
            await self._lane.serve(StreamWire(stream, self._settings.answer_timeout_s))
        else:
            await self._serve_http(stream)

    async def _hand_on(self, wire: Wire, pending: bytes) -> None:
        await self._serve_http(Begun(wire.as_stream(), pending))

    async def _serve_http(self, stream: Any) -> None:
        try:
            await TCPServer(self._app, self._config, self._context, ConnectionState({}), stream)
        finally:
            await trio.aclose_forcefully(stream)  # Hypercorn does not get to it when the server ends.


async def _refuse(stream: trio.SocketStream, answer: bytes) -> None:
    """Tell a connection to come again; it is not read, so that who is refused costs next to nothing."""
    async with stream:
        with trio.move_on_after(LINGER_S):
            await stream.send_all(answer)
            await stream.send_eof()
            while await stream.receive_some():  # Closing with unread bytes would reset it, and the answer be lost.
                pass


class _HttpConfig(HypercornConfig):
    """Hypercorn's settings, with a bound for callers who do not take their answers.

    Hypercorn shields what it sends over HTTP/1.1 from cancellation, so such a caller would hold his connection for
    ever, and keep the server from ending. Only the kernel can cut him off; connections inherit the listener's option.
    """

    answer_timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> "_HttpConfig":
        """What our settings mean for Hypercorn."""
        config = cls()
        config.bind = [settings.bind]
        if settings.tls_certificate:
            config.certfile = str(Path(settings.project, settings.tls_certificate))
            config.keyfile = str(Path(settings.project, settings.tls_key or settings.tls_certificate))
        config.ssl_handshake_timeout = settings.idle_timeout_s
        config.answer_timeout_s = settings.answer_timeout_s
        config.backlog = LISTEN_BACKLOG
        config.h11_max_incomplete_size = settings.header_bytes_max
        config.keep_alive_timeout = settings.idle_timeout_s
        config.include_server_header = False
        config.keep_alive_max_requests = KEPT_REQUESTS_MAX
        config.accesslog = None
        config.errorlog = None
        return config

    def create_sockets(self) -> Sockets:
        """The listeners; nothing is accepted from them yet."""
        sockets = super().create_sockets()
        option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it.
        if option is not None:
            milliseconds = max(1, round(self.answer_timeout_s * 1000))
            for listener in [*sockets.secure_sockets, *sockets.insecure_sockets]:
                listener.setsockopt(socket.IPPROTO_TCP, option, milliseconds)
        return sockets
