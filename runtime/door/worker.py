"""A process of the door: it reads requests at webhook URLs and sends their answers, for the process of the engine.

1. It knows the settings, and nothing else: no secret, no file of the server's, no state. So it may die at any time.
2. What is no plain request at a webhook URL goes to the process of the engine with its connection.
"""

import math
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from protocol.state import Reply
from runtime import garbage
from runtime.config import Settings
from runtime.door.answer import Answer, Fate
from runtime.door.channel import Asked, Channel, Left, Passage, Refused, Sent, Told
from runtime.door.http1 import Head
from runtime.door.listener import Listener
from runtime.door.refusals import too_large, too_slow
from runtime.door.wire import Begun
from runtime.logs import configure_logs

RELAY_BYTES = 64 << 10


class RemoteDesk:
    """Takes requests to the engine of another process."""

    def __init__(self, settings: Settings, channel: Channel) -> None:
        self._settings = settings
        self._channel = channel
        self._awaited: dict[int, Remote] = {}
        self._asked = 0

    def find(self, identifier: str) -> str:
        """Only the other process knows where it leads."""
        return identifier

    async def take(self, found: str, head: Head, body: bytes) -> "Remote":
        """Not needed: whatever waits, waits in the other process."""
        return self.at_once(found, head, body)

    def is_full(self) -> bool:
        """Only the other process knows, and has the line."""
        return False

    async def place(self) -> None:
        """Nobody waits here."""

    def at_once(self, found: str, head: Head, body: bytes) -> "Remote":  # noqa: ARG002 - It is in the head.
        """Ask the other process."""
        self._asked += 1
        self._channel.say(Asked(self._asked, head, body))
        asked = self._awaited[self._asked] = Remote(self._asked, self._channel, self._awaited)
        return asked

    def too_large(self) -> Reply:
        """What a body past its bound is told."""
        return self._refused(too_large(self._settings))

    def too_slow(self) -> Reply:
        """What a body that does not come is told."""
        return self._refused(too_slow(self._settings))

    def _refused(self, reply: Reply) -> Reply:
        self._channel.say(Refused(reply.status))
        return reply

    async def listen(self) -> None:
        """Tell each answer to who waits for it, until the other process is gone."""
        async for messages in self._channel.read():
            for message in messages:
                assert isinstance(message, Told), "the process of the engine only answers"
                asked = self._awaited.pop(message.name, None)
                if asked is not None:
                    asked.arrived(message)


class Remote:
    """A request whose answer comes from the other process, which also bounds the wait for it."""

    within = math.inf

    def __init__(self, name: int, channel: Channel, awaited: "dict[int, Remote]") -> None:
        self._name = name
        self._channel = channel
        self._awaited = awaited
        self._answer: Answer | None = None
        self._tell: Callable[[], None] = lambda: None

    async def decided(self) -> None:
        """Nobody knows here."""

    @property
    def is_answered(self) -> bool:
        """Whether the answer has come."""
        return self._answer is not None

    def arrived(self, message: Told) -> None:
        """The answer has come."""
        self._answer = Answer(message.reply, self._settle if message.noted else None)
        self._tell()

    def when_answered(self, tell: Callable[[], None]) -> None:
        """Have something called when it comes."""
        self._tell = tell

    def answer(self) -> Answer | None:
        """The answer, once it has come."""
        return self._answer

    def late(self) -> Answer:
        """The other process answers who has waited for long enough."""
        raise AssertionError("a wait without end is never over")

    def gone(self) -> None:
        """Tell that the caller has hung up."""
        if self._awaited.pop(self._name, None) is not None:
            self._channel.say(Left(self._name))

    def _settle(self, fate: Fate) -> None:
        self._channel.say(Sent(self._name, fate == "sent"))


class RemoteHttp:
    """Gives connections to the process that has the API."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    async def serve(self, stream: trio.abc.HalfCloseableStream | trio.SSLStream[trio.SocketStream] | Begun) -> None:
        """Give one away; over TLS, whose state is in this process, the other one gets what it says decrypted."""
        plain, pending = stream.taken() if isinstance(stream, Begun) else (stream, b"")
        if isinstance(plain, trio.SocketStream):
            await self._give(plain.socket.detach(), pending)
            return
        ours, theirs = socket.socketpair()
        await self._give(theirs.detach(), pending)
        other = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        async with plain, other, trio.open_nursery() as nursery:
            nursery.start_soon(_relay, plain, other, nursery.cancel_scope)
            await _relay(other, plain, nursery.cancel_scope)

    async def _give(self, descriptor: int, pending: bytes) -> None:
        with socket.socket(fileno=descriptor):
            await self._passage.give(descriptor, pending)

    async def stop(self) -> None:
        """Those that were given away are none of ours any more."""
        await trio.lowlevel.checkpoint()


async def _relay(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, both: trio.CancelScope) -> None:
    """Carry bytes one way; the end of one way ends both, as it does for the server behind."""
    try:
        while data := await source.receive_some(RELAY_BYTES):
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


async def work(settings: Settings, messages: int, connections: int, listening: list[int]) -> None:
    """Serve until the process of the engine closes its end, or dies."""
    channel = Channel(socket.socket(fileno=messages))
    desk = RemoteDesk(settings, channel)
    listener = Listener(settings, desk, RemoteHttp(Passage(socket.socket(fileno=connections))))
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.write)
        async with trio.open_nursery() as listeners:
            await listeners.start(partial(listener.run, stop, [socket.socket(fileno=one) for one in listening]))
            garbage.settle()
            await desk.listen()
            stop.set()
        nursery.cancel_scope.cancel()


def main() -> None:
    """As `workers` starts it: descriptors as arguments, the settings from standard input."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # They are the server's, which closes its end when it has drained.
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    configure_logs()
    messages, connections, *listening = map(int, sys.argv[1:])
    trio.run(work, settings, messages, connections, listening)


if __name__ == "__main__":
    main()
