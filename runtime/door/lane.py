"""The lane: requests at webhook URLs over HTTP/1.1, from the socket to the answer, without a web framework.

1. What the lane does not know, it hands on at a request boundary with every byte it has read: h2, upgrades, other URLs.
2. One request of a connection is in progress at a time; what a sender pipelines behind it waits unread or in order.
3. Each wait for the caller has a bound: for a whole head, for a whole body, for taking the answer.
4. A caller who hangs up while he waits ends only his own wait.
"""

import math
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from typing import Literal

import trio

from protocol.admission import Incoming
from protocol.answers import problem
from protocol.state import Reply
from runtime.door.door import Door
from runtime.door.http1 import CONTINUE, Foreign, Head, Malformed, Reader, encode_answer, parameters
from runtime.door.webhook import Answer, Fate, Waiting, find, receive, too_large, too_slow
from runtime.door.wire import Gone, Wire
from runtime.ticket import Ticket

READ_AHEAD_MAX = 64 << 10  # Bytes a waiting caller may send of what comes next; then the kernel holds them.
WATCH_S = 0.5  # Between looks at who lets us wait, so a bound of seconds is kept to half of one.

Phase = Literal["head", "body", "work"]


class Lane:
    """Serves connections; `hand_on` takes one that has become foreign, with the bytes read from it."""

    def __init__(self, door: Door, hand_on: Callable[[Wire, bytes], Awaitable[None]]) -> None:
        self.door = door
        settings = door.settings
        self.header_bytes_max = settings.header_bytes_max
        self.body_bytes_max = settings.body_bytes_max
        self.idle_timeout_s = settings.idle_timeout_s  # Read here, since the settings parse it anew each time.
        self.body_timeout_s = settings.body_timeout_s
        self._hand_on = hand_on
        self._connections: set[_Connection] = set()
        self.stopping = False
        self._date = b""
        self._dated_at = 0

    def stop(self) -> None:
        """End connections that wait for a request; each other one ends after its answer."""
        self.stopping = True
        for connection in self._connections:
            if connection.phase == "head":
                connection.wire.interrupt()

    async def watch(self) -> None:
        """End connections that let us wait too long, until cancelled.

        One look at all of them now and then, instead of a deadline for each wait: setting two a request would cost as
        much as reading its head.
        """
        bounds = {"head": self.idle_timeout_s, "body": self.body_timeout_s}
        while True:
            await trio.sleep(min(WATCH_S, min(bounds.values()) / 4))
            now = trio.current_time()
            for connection in self._connections:
                if now - connection.since > bounds.get(connection.phase, math.inf):
                    connection.overdue = True
                    connection.wire.interrupt()

    async def serve(self, wire: Wire) -> None:
        """One connection, until it is closed or handed on."""
        connection = _Connection(self, wire)
        self._connections.add(connection)
        foreign = False
        try:
            foreign = await connection.requests()
        except Gone:
            pass
        finally:
            self._connections.discard(connection)
            if not foreign:
                wire.close()
        if foreign:
            await self._hand_on(wire, bytes(connection.reader.pending))

    def date(self) -> bytes:
        """The Date header of this second (RFC 9110, 6.6.1)."""
        now = int(time.time())
        if now != self._dated_at:
            self._date = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
            self._dated_at = now
        return self._date


class _Connection:
    """The state of one connection: what it waits for, and since when."""

    def __init__(self, lane: Lane, wire: Wire) -> None:
        self.lane = lane
        self.wire = wire
        self.reader = Reader(lane.header_bytes_max, lane.body_bytes_max)
        self.phase: Phase = "head"
        self.since = trio.current_time()
        self.overdue = False

    async def requests(self) -> bool:
        """Answer request after request; True when the next one is foreign, False when the connection ends."""
        try:
            while True:
                self._enter("head")
                head = await self._head()
                if head is None:
                    return False
                if isinstance(head, Foreign):
                    return True
                if not await self._request(head):
                    return False
        except Malformed as fault:
            malformed = problem(fault.status, "Malformed request", str(fault))
            await self.refuse(too_large(self.lane.door) if fault.status == 413 else malformed)
            return False

    async def _head(self) -> Head | Foreign | None:
        while (head := self.reader.head()) is None:
            data = await self.wire.receive()
            if not data:
                return None
            self.reader.pending += data
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
        await engine.line.wait(len(body))
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
