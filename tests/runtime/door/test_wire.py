"""A socket that the poller watches: no byte and no end is missed, and whoever waits can be interrupted."""

import socket
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from runtime.door.poller import Poller
from runtime.door.wire import RECEIVE_BYTES, SocketWire


class Line:
    """Both ends of a connection, and what the poller says of ours."""

    def __init__(self) -> None:
        self.ours, self.caller = socket.socketpair()
        self.poller: Poller[str] = Poller()
        self.wire = SocketWire(self.ours, 1.0, self.poller, "ours")

    def close(self) -> None:
        """Leave nothing open."""
        self.wire.close()
        self.caller.close()
        self.poller.close()


@contextmanager
def connected() -> Generator[Line]:
    """A connection."""
    line = Line()
    try:
        yield line
    finally:
        line.close()


async def test_each_time_something_comes_its_owner_is_told_once() -> None:
    """Given bytes that come, then the owner is told once, and again after he has read them and more has come."""
    with connected() as line:
        assert line.poller.look() == []
        for _ in range(3):
            line.caller.send(b"abc")
            assert line.poller.look() == ["ours"]
            assert line.poller.look() == []
            assert line.wire.ready
            assert line.wire.take() == b"abc"
            assert not line.wire.ready
            assert line.wire.take() is None


async def test_an_end_that_came_with_the_last_bytes_is_not_missed() -> None:
    """Given bytes and the end before either was read, when the bytes are read, then the end is still there to read."""
    with connected() as line:
        line.caller.send(b"abc")
        line.caller.shutdown(socket.SHUT_WR)
        assert line.poller.look() == ["ours"]
        assert line.wire.take() == b"abc"
        assert line.wire.ready
        assert line.wire.take() == b""


async def test_more_than_is_read_at_once_stays_to_be_read() -> None:
    """Given more bytes than one reading takes, then there is still something to read after it."""
    with connected() as line:
        line.caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RECEIVE_BYTES)
        sent = line.caller.send(b"x" * (RECEIVE_BYTES + 1))
        assert sent == RECEIVE_BYTES + 1
        line.poller.look()
        assert len(line.wire.take() or b"") == RECEIVE_BYTES
        assert line.wire.ready
        assert line.wire.take() == b"x"


async def test_who_waits_for_bytes_gets_them_and_the_owner_is_not_told() -> None:
    """Given a task that waits to receive, when bytes come, then it has them."""
    with connected() as line:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await line.wire.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            line.caller.send(b"abc")
            await line.poller.wait()
            assert line.poller.look() == []
        assert got == [b"abc"]


@pytest.mark.parametrize("early", [False, True], ids=["while it waits", "before it looks"])
async def test_an_interrupt_ends_a_wait_without_bytes(*, early: bool) -> None:
    """Given a task that receives while nothing has come, when it is interrupted, then it has nothing and goes on."""
    with connected() as line:
        got, begun = list[bytes](), trio.Event()

        async def receive() -> None:
            begun.set()
            got.append(await line.wire.receive())

        if early:  # It was told of bytes that somebody has read since: it yields once before it finds none.
            line.caller.send(b"abc")
            line.poller.look()
            line.ours.recv(10)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await begun.wait()
                if not early:
                    await trio.testing.wait_all_tasks_blocked()
                line.wire.interrupt()
        assert got == [b""]


async def test_a_wait_that_is_cancelled_can_be_begun_again() -> None:
    """Given a task that waits, when it is cancelled, then the next one who waits gets what comes."""
    with connected() as line:
        with trio.move_on_after(0) as scope:
            await line.wire.receive()
        assert scope.cancelled_caught
        line.caller.send(b"abc")
        assert line.poller.look() == ["ours"]
        assert await line.wire.receive() == b"abc"


async def test_a_connection_that_is_handed_on_is_not_watched_any_more() -> None:
    """Given a connection that became Trio's, when bytes come, then Trio has them and its owner is not told."""
    with connected() as line:
        stream = line.wire.as_stream()
        line.caller.send(b"abc")
        assert line.poller.look() == []
        assert await stream.receive_some() == b"abc"
        await stream.aclose()
