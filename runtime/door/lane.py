"""The lane: requests at webhook URLs over HTTP/1.1, from the socket to the answer, without a web framework.

1. What the lane does not know, it hands on at a request boundary with every byte it has read: h2, upgrades, other URLs.
2. One request of a connection is in progress at a time; what a sender pipelines behind it waits unread or in order.
3. Each wait for the caller has a bound: for a whole head, for a whole body, for taking the answer.
4. A caller who hangs up while he waits ends only his own wait.
5. A plain connection is parked until there is something to read: no task waits for it, and then it waits in the line.
   One over TLS has a task of its own, which waits in the same line.
"""

import math
import socket
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from typing import Literal

import structlog
import trio

from protocol.admission import Incoming
from protocol.answers import problem
from protocol.state import Reply
from runtime.door.door import Door
from runtime.door.http1 import CONTINUE, Foreign, Head, Malformed, Reader, encode_answer, parameters
from runtime.door.poller import AVAILABLE, Poller
from runtime.door.webhook import Answer, Fate, Waiting, find, receive, too_large, too_slow
from runtime.door.wire import Gone, SocketWire, Wire
from runtime.door.workers import Workers
from runtime.ticket import Ticket

READ_AHEAD_MAX = 64 << 10  # Bytes a waiting caller may send of what comes next; then the kernel holds them.
WATCH_S = 0.5  # Between looks at who lets us wait, so a bound of seconds is kept to half of one.

Phase = Literal["head", "line", "body", "work", "foreign", "over"]
End = Literal["closed", "foreign", "parked"]  # Parked: the line or the poller brings it back.

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.door")


@contextmanager
def alone() -> Generator[None]:
    """What a connection raises ends itself only."""
    try:
        yield
    except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # The other end is gone.
    except* Exception as faults:  # noqa: BLE001 - Hypercorn raises at some malformed requests; only they may end.
        log.warning("connection failed", faults=[type(one).__name__ for one in faults.exceptions])


class Lane:
    """Serves connections; `hand_on` takes one that has become foreign, with the bytes read from it."""

    def __init__(self, door: Door, hand_on: Callable[[Wire, bytes], Awaitable[None]]) -> None:
        self.door = door
        settings = door.settings
        self.header_bytes_max = settings.header_bytes_max
        self.body_bytes_max = settings.body_bytes_max
        self.idle_timeout_s = settings.idle_timeout_s  # Read here, since the settings parse it anew each time.
        self.body_timeout_s = settings.body_timeout_s
        self.answer_timeout_s = settings.answer_timeout_s
        self.line = door.line
        self._hand_on = hand_on
        self._connections: set[_Connection] = set()
        self._workers: Workers[_Connection] | None = None
        if AVAILABLE:
            self._workers = Workers(Poller(), _Connection.came, self._visit)
        self._empty = trio.Event()  # No connection is left, and none comes.
        self.stopping = False
        self._date = b""
        self._dated_at = 0

    async def run(self) -> None:
        """Serve the connections that were adopted, until the last has ended after a stop, or until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                if self._workers is not None:
                    nursery.start_soon(self._workers.run)
                await self._empty.wait()
                nursery.cancel_scope.cancel()
        finally:
            for connection in list(self._connections):
                if connection.polled is not None:
                    self._over(connection)
            if self._workers is not None:
                self._workers.poller.close()

    @property
    def adopts(self) -> bool:
        """Whether it takes plain connections, of which nothing runs while they wait for a request."""
        return self._workers is not None

    def adopt(self, stream: trio.SocketStream, closed: Callable[[], None]) -> None:
        """Take a plain connection over from Trio, and call `closed` when it is over."""
        assert self._workers is not None, "a lane that adopts has workers"
        connection = _Connection(self, closed)
        plain = socket.socket(fileno=stream.socket.detach())
        wire = SocketWire(plain, self.answer_timeout_s, self._workers.poller, connection)
        connection.wire = connection.polled = wire
        self._connections.add(connection)

    async def serve(self, wire: Wire) -> None:
        """One connection in a task of its own, until it is closed or handed on."""
        connection = _Connection(self, None)
        connection.wire = wire
        self._connections.add(connection)
        await self._visit(connection)

    def give(self, connection: "_Connection") -> None:
        """Have a connection served whose turn it is."""
        assert self._workers is not None, "a connection that waits in the line is a worker's"
        self._workers.give(connection)

    async def _visit(self, connection: "_Connection") -> None:
        """Do what there is to do for a connection: it is parked, or over, then."""
        end: End = "closed"
        try:
            end = await connection.requests()
            if end == "foreign":
                connection.phase = "foreign"
                await self._hand_on(connection.wire, bytes(connection.reader.pending))
        except Gone:
            pass
        except BaseException:  # Also groups that have a cancellation in them, which goes on.
            with alone():
                raise
        finally:
            if end != "parked":
                self._over(connection, close=end != "foreign")

    def _over(self, connection: "_Connection", *, close: bool = True) -> None:
        self._connections.discard(connection)
        connection.phase = "over"
        if close:
            connection.wire.close()
        if connection.closed is not None:
            connection.closed()
        if self.stopping and not self._connections:
            self._empty.set()

    def stop(self) -> None:
        """End connections that wait for a request; each other one ends after its answer."""
        self.stopping = True
        if not self._connections:
            self._empty.set()
        for connection in list(self._connections):
            if connection.phase == "head":
                self._interrupt(connection)

    def _interrupt(self, connection: "_Connection") -> None:
        if connection.polled is not None and connection.phase == "head":
            self._over(connection)
        else:
            connection.wire.interrupt()

    async def _watch(self) -> None:
        """End connections that let us wait too long, until cancelled.

        One look at all of them now and then, instead of a deadline for each wait: setting two a request would cost as
        much as reading its head.
        """
        bounds = {"head": self.idle_timeout_s, "body": self.body_timeout_s}
        while True:
            await trio.sleep(min(WATCH_S, min(bounds.values()) / 4))
            now = trio.current_time()
            for connection in list(self._connections):
                if now - connection.since > bounds.get(connection.phase, math.inf):
                    connection.overdue = True
                    self._interrupt(connection)

    def date(self) -> bytes:
        """The Date header of this second (RFC 9110, 6.6.1)."""
        now = int(time.time())
        if now != self._dated_at:
            self._date = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
            self._dated_at = now
        return self._date


class _Connection:
    """The state of one connection: what it waits for, and since when."""

    __slots__ = ("closed", "lane", "overdue", "phase", "polled", "reader", "since", "wire")

    wire: Wire
    polled: SocketWire | None  # The wire, when a worker comes for each request; None where a task waits for them.

    def __init__(self, lane: Lane, closed: Callable[[], None] | None) -> None:
        self.lane = lane
        self.phase: Phase = "head"
        self.closed = closed
        self.polled = None
        self.reader = Reader(lane.header_bytes_max, lane.body_bytes_max)
        self._enter("head")

    def came(self) -> bool:
        """There is something to read; whether to read it at once."""
        if self.phase != "head":
            return False  # Who serves it finds it.
        at_once = self.lane.line.enter()
        self.phase = "work" if at_once else "line"
        if not at_once:
            self.lane.line.join(self)
        return at_once

    def enter(self) -> bool:
        """It has waited in the line, and it is its turn."""
        if self.phase == "over":  # The server has stopped meanwhile.
            return False
        self.phase = "work"
        self.lane.give(self)
        return True

    async def requests(self) -> End:
        """Answer request after request, until there is none to answer at once."""
        polled = self.polled
        try:
            while True:
                if polled is not None:
                    self.lane.line.arrived()
                head = await self._head()
                if not isinstance(head, Head):
                    return head
                if not await self._request(head):
                    return "closed"
                self._enter("head")
                if polled is not None and not ((self.reader.pending or polled.ready) and self.came()):
                    return "parked"  # Until more comes, or behind who came meanwhile.
        except Malformed as fault:
            malformed = problem(fault.status, "Malformed request", str(fault))
            await self.refuse(too_large(self.lane.door) if fault.status == 413 else malformed)
            return "closed"

    async def _head(self) -> Head | End:
        """The next head, or why there is none."""
        reader, read = self.reader, False
        while not reader.pending or (head := reader.head()) is None:
            if self.polled is None:
                data: bytes | None = await self.wire.receive()
            elif not self.polled.ready:
                self.phase = "head"
                return "parked"
            else:
                if read:  # By who sends as fast as we read; the others have their turn.
                    await trio.lowlevel.checkpoint()
                data, read = self.polled.take(), True
            if data == b"":
                return "closed"
            reader.pending += data or b""
        if isinstance(head, Foreign):
            return "foreign"
        if self.polled is None:
            await self.lane.line.turn()
        return head

    async def _request(self, head: Head) -> bool:
        """Answer one request; whether the connection goes on."""
        lane = self.lane
        found = find(lane.door, head.identifier)
        if isinstance(found, Answer):
            if self.reader.body(head) is None:  # What is still to come of it is not waited for.
                await self.refuse(found.reply, head)
                return False
            await self.say(found.reply, keep=head.keep, head=head)
            return head.keep
        body = await self._body(head)
        self._enter("work")
        engine = lane.door.engine
        assert engine is not None, "a door that finds its webhooks is ready"
        request = Incoming(
            method=head.method,
            headers=head.headers,
            query=parameters(head.query),
            body=body,
            at=engine.clock(),
        )
        answer = await receive(lane.door, found, request)
        if isinstance(answer, Waiting):
            answer = await answer.answered(partial(self._watch, answer.ticket))
        keep = head.keep and not lane.stopping
        fate: Fate = "gone"
        try:
            await self.say(answer.reply, keep=keep, head=head)
            fate = "sent"
        finally:
            answer.settle(fate)
        return keep

    async def _body(self, head: Head) -> bytes:
        body = self.reader.body(head)
        if body is not None:
            return body
        self._enter("body")
        if head.headers.get("expect", "").lower() == "100-continue":
            await self.wire.send(CONTINUE)
        while (body := self.reader.body(head)) is None:
            data = await self.wire.receive()
            if not data:
                if self.overdue:
                    await self.refuse(too_slow(self.lane.door))
                raise Gone
            self.reader.pending += data
        return body

    async def _watch(self, ticket: Ticket) -> None:
        """Read ahead until the answer is there, which interrupts that: a task less than to wait for each by itself."""
        pending = self.reader.pending
        ticket.tell = self.wire.interrupt
        while ticket.reply is None:
            if len(pending) >= READ_AHEAD_MAX:
                await ticket.answered()
                return
            data = await self.wire.receive()
            if not data and ticket.reply is None:
                raise Gone
            pending += data

    async def say(self, reply: Reply, *, keep: bool, head: Head | None = None) -> None:
        """Send one answer."""
        bodiless = head is not None and head.method == "HEAD"
        await self.wire.send(encode_answer(reply, self.lane.date(), keep=keep, bodiless=bodiless))

    async def refuse(self, reply: Reply, head: Head | None = None) -> None:
        """Send the last answer of a connection, whose sender may still be sending."""
        self._enter("work")
        await self.say(reply, keep=False, head=head)
        await self.wire.linger()

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since, self.overdue = phase, trio.current_time(), False
