"""The bytes of one connection, as the lane has them: a socket that the lane's poller watches, or a stream of Trio's.

A call of Trio's sockets yields to the loop even when it has its bytes at once, which costs as much as the syscall. The
lane waits for each request anyway, so a wire yields when it receives, and otherwise only if it has to wait.
"""

import socket
from typing import Any, Protocol, TypeVar

import trio

from runtime.door.poller import Poller

RECEIVE_BYTES = 64 << 10
LINGER_S = 1.0  # For a caller whose request was refused before he had sent it all.
LINGER_BYTES_MAX = 4 << 20  # Read and dropped meanwhile.

Owner = TypeVar("Owner")
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Gone(Exception):
    """The caller's end of the connection is closed."""


class Wire(Protocol):
    """The bytes of one connection."""

    async def receive(self) -> bytes:
        """What has come; b"" once nothing will come any more, or after an interrupt."""
        ...

    def interrupt(self) -> None:
        """Let a `receive` that waits return b""; one whose bytes are there already gets them."""
        ...

    async def send(self, data: bytes) -> None:
        """Hand bytes to the connection; raises `Gone` when they can not be."""
        ...

    async def linger(self) -> None:
        """Say that nothing more is sent, and take what still comes: closing with unread bytes would be a reset.

        A reset can destroy an answer that the caller has not read yet (RFC 9112, 9.6).
        """
        ...

    def as_stream(self) -> Any:
        """The connection as Trio has it, for another reader; the wire is of no use any more."""
        ...

    def close(self) -> None:
        """Close it, without waiting for anything."""
        ...


class SocketWire:
    """A plain connection, of which nothing runs while there is nothing to read."""

    __slots__ = ("_answer_timeout_s", "_interrupted", "_poller", "_readiness", "_socket")

    def __init__(self, connection: socket.socket, answer_timeout_s: float, poller: Poller[Owner], owner: Owner) -> None:
        connection.settimeout(0)
        self._socket = connection
        self._answer_timeout_s = answer_timeout_s
        self._interrupted = False
        self._poller = poller
        self._readiness = poller.register(connection, owner)

    @property
    def ready(self) -> bool:
        """Whether there may be something to `take`; what comes later is told to the owner by the poller."""
        return self._readiness.ready

    def take(self) -> bytes | None:
        """What has come; b"" once nothing will come any more, None while nothing has."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._readiness.drained()
            return None
        except OSError:
            return b""
        if len(data) < RECEIVE_BYTES:  # Then it was all (epoll(7), questions and answers, 9).
            self._readiness.drained()
        return data

    async def receive(self) -> bytes:
        self._interrupted = False
        while True:
            if self._readiness.ready:
                await trio.lowlevel.checkpoint()
            else:
                await self._readiness.wait()
            data = self.take()
            if data is not None:
                return data
            if self._interrupted:
                return b""

    def interrupt(self) -> None:
        self._interrupted = True
        self._readiness.wake()

    async def send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise Gone from None
        if sent < len(data):
            await self._send_slowly(memoryview(data)[sent:])

    async def _send_slowly(self, rest: memoryview) -> None:
        """Send as the caller takes it; given up when he takes nothing for a while."""
        while rest:
            with trio.move_on_after(self._answer_timeout_s) as taking:
                await trio.lowlevel.wait_writable(self._socket)
            if taking.cancelled_caught:
                raise Gone
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Gone from None

    async def linger(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        await _drop_rest(self)

    def as_stream(self) -> trio.SocketStream:
        self._poller.forget(self._socket)
        return trio.SocketStream(trio.socket.from_stdlib_socket(self._socket))

    def close(self) -> None:
        self._poller.forget(self._socket)
        self._socket.close()


class StreamWire:
    """A connection over TLS, or any where there is no poller; a task waits for it."""

    def __init__(self, stream: Stream, answer_timeout_s: float) -> None:
        self._stream = stream
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._socket = plain.socket
        self._answer_timeout_s = answer_timeout_s

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def interrupt(self) -> None:
        trio.lowlevel.notify_closing(self._socket)

    async def send(self, data: bytes) -> None:
        with trio.move_on_after(self._answer_timeout_s) as taking:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Gone from None
        if taking.cancelled_caught:
            raise Gone

    async def linger(self) -> None:
        await _drop_rest(self)

    def as_stream(self) -> Stream:
        return self._stream

    def close(self) -> None:
        self._socket.close()


async def _drop_rest(wire: Wire) -> None:
    """Take what a caller still sends, for a moment."""
    left = LINGER_BYTES_MAX
    with trio.move_on_after(LINGER_S):
        while left > 0 and (data := await wire.receive()):
            left -= len(data)


class Begun:
    """A stream of which the first bytes were read already; everything else is the stream's own."""

    def __init__(self, stream: Any, first: bytes) -> None:
        self._stream = stream
        self._first = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The bytes read before, then what comes."""
        if self._first:
            await trio.lowlevel.checkpoint()
            data, self._first = self._first[:max_bytes], self._first[max_bytes:] if max_bytes else b""
            return data
        received: bytes = await self._stream.receive_some(max_bytes)
        return received
