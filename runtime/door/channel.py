"""What the processes of one server say to each other over Unix sockets: messages on one, connections on another.

1. What is said in one round of the loop leaves in one write: a write for each message would cost as much as the rest.
2. On the other end is a process that the server has started itself, so what comes is believed.
"""

import socket
from array import array
from collections.abc import AsyncIterator
from struct import Struct as Layout

import msgspec
import trio
from msgspec import Struct

from protocol.state import Reply
from runtime.door.http1 import Head

RECEIVE_BYTES = 1 << 20
PENDING_MAX = 1 << 20  # Bytes read from a connection before it is given away: what is read ahead, so far less.
DESCRIPTOR = array("i")
_LENGTH = Layout(">I")
_LIST = Layout(">BI")  # How a list of MessagePack begins: its kind, and its length in 32 bits.
_LIST_KIND = 0xDD


class Asked(Struct, tag=1, array_like=True, gc=False):
    """A whole request at a webhook URL, named by the process that read it."""

    name: int
    head: Head
    body: bytes


class Left(Struct, tag=2, array_like=True, gc=False):
    """The caller of a request has hung up before his answer came."""

    name: int


class Sent(Struct, tag=3, array_like=True, gc=False):
    """What became of an answer whose fate is noted."""

    name: int
    sent: bool


class Refused(Struct, tag=4, array_like=True, gc=False):
    """A request was refused while it was read, with such a status."""

    status: int


class Told(Struct, tag=5, array_like=True, gc=False):
    """The answer to a request; `noted` asks for its fate."""

    name: int
    reply: Reply
    noted: bool


Message = Asked | Left | Sent | Refused | Told


class Channel:
    """Messages both ways. What waits to be written is bounded by the connections, each of which has one request."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Message])
        self._out: list[bytes] = []
        self._wake = trio.Event()

    def say(self, message: Message) -> None:
        """Have a message sent; raises `UnicodeEncodeError` at text that is none."""
        self._out.append(self._encoder.encode(message))
        self._wake.set()

    async def write(self) -> None:
        """Send what is said, until cancelled or the other end is gone."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._stream.send_all(self._taken())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def _taken(self) -> bytes:
        out, self._out = self._out, []
        said = b"".join(out)
        return _LENGTH.pack(_LIST.size + len(said)) + _LIST.pack(_LIST_KIND, len(out)) + said

    async def read(self) -> AsyncIterator[list[Message]]:
        """What the other end says, until it is gone."""
        pending = bytearray()
        while data := await self._receive():
            pending += data
            while len(pending) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(pending)[0]
                if len(pending) < end:
                    break
                messages = self._decoder.decode(pending[_LENGTH.size : end])
                del pending[:end]
                yield messages

    async def _receive(self) -> bytes | bytearray:
        try:
            return await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def close(self) -> None:
        """Close this end, which the other one notices."""
        self._stream.socket.close()


class Passage:
    """Connections one way, each with the bytes that were read from it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PENDING_MAX)
        self._socket = trio.socket.from_stdlib_socket(connection)

    async def give(self, descriptor: int, pending: bytes) -> None:
        """Give a connection away, whose own descriptor this process closes; raises `OSError` when nobody takes it."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))
        await self._socket.sendmsg([b"\0", pending], [rights])  # A message is not empty, whatever is pending.

    async def take(self) -> tuple[socket.socket, bytes] | None:
        """The next one; None when the other end is gone."""
        data, rights, _, _ = await self._socket.recvmsg(PENDING_MAX, socket.CMSG_LEN(DESCRIPTOR.itemsize))
        if not data:
            return None
        (descriptor,) = array("i", rights[0][2])
        return socket.socket(fileno=descriptor), data[1:]

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
