"""A remote system on a real socket, whose every answer a test scripts byte by byte."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from msgspec import Struct


class Received(Struct):
    """One request as it came over the wire; header names in lower case, repeated ones under their name."""

    method: str
    target: str
    headers: dict[str, list[str]]
    body: bytes
    connection: int

    def header(self, name: str) -> str:
        """The one value of a header; fails when it was sent twice."""
        (value,) = self.headers[name]
        return value


Script = Callable[[Received, trio.SocketStream], Awaitable[bool | None]]
"""Answers one request; False closes the connection."""


class Remote:
    """What a remote saw, and what it does next."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[Received] = []
        self.connections: list[trio.SocketStream] = []
        self.seen = trio.Event()  # Set at the next request; a test puts a new one to wait again.

    def close_connections(self) -> None:
        """End every connection, kept ones too, as a remote that grows tired does."""
        for stream in self.connections:
            stream.socket.close()


def answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """An answer as it goes on the wire; underscores in names of headers stand for hyphens."""
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(packed: bytes) -> Script:
    """A script that gives every request the same answer."""

    async def script(_request: Received, stream: trio.SocketStream) -> None:
        await stream.send_all(packed)

    return script


async def _receive(stream: trio.SocketStream, buffer: bytearray, connection: int) -> Received | None:
    while b"\r\n\r\n" not in buffer:
        part = await stream.receive_some()
        if not part:
            return None
        buffer += part
    head, _, _ = bytes(buffer).partition(b"\r\n\r\n")
    del buffer[: len(head) + 4]
    first, *rest = head.decode("utf-8").split("\r\n")
    method, target, _ = first.split(" ")
    headers: dict[str, list[str]] = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    size = int(headers.get("content-length", ["0"])[0])
    while len(buffer) < size:
        buffer += await stream.receive_some()
    body = bytes(buffer[:size])
    del buffer[:size]
    return Received(method, target, headers, body, connection)


@asynccontextmanager
async def serving(script: Script) -> AsyncGenerator[Remote]:
    """A remote on a free port of 127.0.0.1 for as long as the block lasts."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    remote = Remote(listener.socket.getsockname()[1])

    async def connected(stream: trio.SocketStream) -> None:
        remote.connections.append(stream)
        number = len(remote.connections)
        buffer = bytearray()
        try:
            while (request := await _receive(stream, buffer, number)) is not None:
                remote.requests.append(request)
                remote.seen.set()
                if await script(request, stream) is False:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The client under test hung up, or the test closed the connection.
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, connected, [listener])
        yield remote
        nursery.cancel_scope.cancel()
