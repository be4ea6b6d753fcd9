"""The sockets of the door: listening, a bound on connections, the lane, and Hypercorn behind it.

A connection begins in the lane; Hypercorn's Trio `TCPServer` takes over what the lane does not know, and all of them
when the lane is off. Neither sees a connection past the bound: it is told 503 at once, instead of waiting unheard.
"""

import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
import trio

from protocol.answers import problem
from runtime.config import Settings
from runtime.door.binding import HttpConfig
from runtime.door.desk import Desk, Http
from runtime.door.http1 import encode_answer
from runtime.door.lane import Lane
from runtime.door.wire import LINGER_S, Begun, SocketWire, StreamWire, Wire

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


def url_of(listening: socket.socket, *, tls: bool) -> str:
    """The URL of what listens there."""
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def room(settings: Settings) -> int:
    """How many connections may be open at once: what the settings say, or as many as there may be files."""
    return max(1, min(settings.connections_max, file_limit() - files_kept_free()))


class Gate:
    """Bounds how many connections are open at once."""

    def __init__(self, settings: Settings) -> None:
        self._open = 0
        self._connections_max = room(settings)
        self._refusals_max = (
            files_kept_free() // 2
        )  # Connections at once that are told 503; past it they are only closed.
        crowded = problem(503, "Too many connections", f"{self._connections_max} connections are open")
        crowded.headers["retry-after"] = str(CROWDED_RETRY_S)
        self._crowded = encode_answer(crowded, b"", keep=False)

    async def serve(self, stream: trio.SocketStream, serve: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        """Have a connection served, or tell it to come again; whatever is wrong with it ends it alone."""
        self._open += 1
        try:
            if self._open > self._connections_max + self._refusals_max:
                stream.socket.close()
            elif self._open > self._connections_max:
                await _refuse(stream, self._crowded)
            else:
                await serve(stream)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The other end is gone.
        except* Exception as faults:  # noqa: BLE001 - Hypercorn raises at some malformed requests; only they may end.
            log.warning("connection failed", faults=[type(one).__name__ for one in faults.exceptions])
        finally:
            self._open -= 1


class Listener:
    """What listens at one address, and reads what comes there."""

    def __init__(self, settings: Settings, desk: Desk, http: Http) -> None:
        self._settings = settings
        self._config = HttpConfig.of(settings)
        self._tls = self._config.tls()
        self._http = http
        self._lane = Lane(settings, desk, self._hand_on)
        self._gate = Gate(settings)

    async def run(
        self, stop: trio.Event, sockets: Sequence[socket.socket] | None = None, *, task_status: trio.TaskStatus[str]
    ) -> None:
        """Accept connections until told to stop, then let answers leave for a moment; started with the URL.

        Args:
            stop: told to.
            sockets: listen already, for several processes; by default those of the settings.
            task_status: Trio's.
        """
        sockets = await self._config.listening() if sockets is None else sockets
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, self._connection, listeners, handler_nursery=connections)
                )
                accepting.start_soon(self._lane.watch)
                task_status.started(url_of(sockets[0], tls=self._tls is not None))
                await stop.wait()
                accepting.cancel_scope.cancel()
            await self._http.stop()
            self._lane.stop()
            connections.cancel_scope.deadline = trio.current_time() + STOP_S

    async def _connection(self, stream: trio.SocketStream) -> None:
        await self._gate.serve(stream, self._serve)

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._tls is not None:
            await self._secure(trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True))
        elif self._settings.lane:
            await self._lane.serve(SocketWire.of(stream, self._settings.answer_timeout_s))
        else:
            await self._http.serve(stream)

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
            await self._http.serve(stream)

    async def _hand_on(self, wire: Wire, pending: bytes) -> None:
        await self._http.serve(Begun(wire.as_stream(), pending))


async def _refuse(stream: trio.SocketStream, answer: bytes) -> None:
    """Tell a connection to come again; it is not read, so that who is refused costs next to nothing."""
    async with stream:
        with trio.move_on_after(LINGER_S):
            await stream.send_all(answer)
            await stream.send_eof()
            while await stream.receive_some():  # Closing with unread bytes would reset it, and the answer be lost.
                pass
