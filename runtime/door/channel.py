"""What the processes of one server say to each other over Unix sockets: messages on one, connections on another.

1. Many messages leave in one write, since a write for each would cost as much as the rest; but not all of a round of
   the loop, during which the other process would have nothing to do.
2. On the other end is a process that the server has started itself, so what comes is believed.
"""

import socket
from array import array
from collections.abc import AsyncIterator
from contextlib import suppress
from struct import Struct as Layout

import msgspec
import trio
from msgspec import Struct

from protocol.state import Reply
from runtime.door.http1 import Head

RECEIVE_BYTES = 1 << 20
SAID_AT_ONCE = 16  # Messages; the other process begins with them while this one goes on.
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
        connection.settimeout(0)
        self._socket = connection
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Message])
        self._said: list[bytes] = []
        self._unsent = b""
        self._wake = trio.Event()

    def say(self, message: Message) -> None:
        """Have a message sent; raises `UnicodeEncodeError` at text that is none."""
        self._said.append(self._encoder.encode(message))
        if len(self._said) >= SAID_AT_ONCE:
            self._send()
        else:
            self._wake.set()

    def _send(self) -> None:
        """Write what is said, as far as the socket takes it."""
        if self._said:
            said = b"".join(self._said)
            head = _LENGTH.pack(_LIST.size + len(said)) + _LIST.pack(_LIST_KIND, len(self._said))
            self._unsent += head + said
            self._said = []
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""  # The other end is gone, which `read` sees.
        if self._unsent:
            self._wake.set()

    async def write(self) -> None:
        """Send what is said in each round of the loop, until cancelled or the other end is gone."""
        with suppress(OSError, trio.ClosedResourceError):
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                if self._unsent:
                    await trio.lowlevel.wait_writable(self._socket)
                if self._said or self._unsent:
                    self._send()

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

    async def _receive(self) -> bytes:
        try:
            await trio.lowlevel.wait_readable(self._socket)
            return self._socket.recv(RECEIVE_BYTES)
        except (OSError, trio.ClosedResourceError):
            return b""

    def close(self) -> None:
        """Close this end, which the other one notices; what is said leaves first, as far as it can at once."""
        self._send()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


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
        while True:  # The system closes one that this process has no room for.
            data, rights, _, _ = await self._socket.recvmsg(PENDING_MAX, socket.CMSG_LEN(DESCRIPTOR.itemsize))
            if not data:
                return None
            if rights:
                (descriptor,) = array("i", rights[0][2])
                return socket.socket(fileno=descriptor), data[1:]

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
