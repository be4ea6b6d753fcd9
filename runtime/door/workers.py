"""The door in processes of its own (`workers`): they read and write HTTP, and this process has the engine.

1. A request has the same meaning whichever process reads it: both come to `webhook`.
2. A process that dies takes its connections with it, and nothing else; another one takes its place.
3. A process ends with this one: it sees its end of the channel closed, whatever has killed the server.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

import msgspec
import structlog
import trio

from protocol.answers import problem
from runtime.config import Settings
from runtime.door.answer import Answer, Fate
from runtime.door.binding import HttpConfig
from runtime.door.bounds import Bounds
from runtime.door.channel import Asked, Channel, Left, Message, Passage, Refused, Sent, Told
from runtime.door.desk import Http
from runtime.door.door import Door, Route
from runtime.door.http1 import Head
from runtime.door.listener import STOP_S, Gate, url_of
from runtime.door.own import OwnDesk
from runtime.door.webhook import Waiting
from runtime.door.wire import Begun

RESTART_S = 1.0  # Before a process that died is started again, so that one that can not run does not keep us busy.
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TZ")  # All others may be secrets.

UNSAID = problem(500, "Internal error", "the answer has a header that is no text")

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.door")


class Workers:
    """Starts the processes, answers what they ask, and serves the connections that they give away."""

    def __init__(self, settings: Settings, door: Door, http: Http) -> None:
        self._settings = settings
        self._config = HttpConfig.of(settings)
        self._config.tls()  # A certificate that is none is told here, once.
        self._door = door
        self._http = http
        self._gate = Gate(settings)

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[str]) -> None:
        """Serve until told to stop, then let answers leave for a moment; started with the URL."""
        async with trio.open_nursery() as connections:
            with ExitStack() as closing:
                sockets = [closing.enter_context(one) for one in await self._config.listening()]
                async with trio.open_nursery() as processes:
                    for _ in range(self._settings.workers):
                        processes.start_soon(self._keep, sockets, connections)
                    task_status.started(url_of(sockets[0], tls=bool(self._settings.tls_certificate)))
                    await stop.wait()
                    await self._http.stop()
                    processes.cancel_scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + STOP_S

    async def _keep(self, sockets: Sequence[socket.socket], connections: trio.Nursery) -> None:
        """Have one process, again and again."""
        while True:
            ended = await self._process(sockets, connections)
            log.error("a process of the door ended; another one takes its place", returncode=ended)
            await trio.sleep(RESTART_S)

    async def _process(self, sockets: Sequence[socket.socket], connections: trio.Nursery) -> int | None:
        """One process, to its end; returns its code."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        taken, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel, passage = Channel(ours), Passage(taken)
        process = None
        try:
            with theirs, given:
                process = await self._start([theirs, given, *sockets])
            await self._configure(process)
            async with trio.open_nursery() as nursery:
                session = Session(self._door, channel, nursery)
                nursery.start_soon(self._accept, passage, connections)
                await session.run()
                nursery.cancel_scope.cancel()
        except OSError as fault:
            log.error("a process of the door can not be started", reason=str(fault))  # noqa: TRY400 - The machine's fault.
        finally:
            channel.close()
            passage.close()
            if process is not None:
                await _end(process)
        return None if process is None else process.returncode

    async def _start(self, sockets: Sequence[socket.socket]) -> trio.Process:
        descriptors = [one.fileno() for one in sockets]
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "runtime.door.worker", *map(str, descriptors)],
            stdin=subprocess.PIPE,  # Arguments are seen by everybody on the machine, and settings may name secrets.
            pass_fds=descriptors,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        )

    async def _configure(self, process: trio.Process) -> None:
        share = max(1, self._settings.connections_max // self._settings.workers)
        settings = msgspec.structs.replace(self._settings, connections_max=share)
        assert process.stdin is not None, "it was asked for"
        with suppress(trio.BrokenResourceError):  # It died at once, which is seen next.
            async with process.stdin:
                await process.stdin.send_all(msgspec.json.encode(settings))

    async def _accept(self, passage: Passage, connections: trio.Nursery) -> None:
        while (given := await passage.take()) is not None:
            connection, pending = given
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
            connections.start_soon(self._gate.serve, stream, partial(self._begun, pending))

    async def _begun(self, pending: bytes, stream: trio.SocketStream) -> None:
        await self._http.serve(Begun(stream, pending))


async def _end(process: trio.Process) -> None:
    """Let a process send the answers that it has, which it does once its channel is closed; no longer than a moment."""
    with trio.CancelScope(shield=True):
        with trio.move_on_after(2 * STOP_S):
            await process.wait()
            return
        process.kill()
        await process.wait()


def _failed(fault: Exception) -> Answer:
    log.error("request failed", fault=type(fault).__name__, exc_info=fault)
    return Answer(problem(500, "Internal error", "the server failed; its log says how"))


class Session:
    """Answers the requests of one process."""

    def __init__(self, door: Door, channel: Channel, nursery: trio.Nursery) -> None:
        self._door = door
        self._desk = OwnDesk(door)
        self._channel = channel
        self._nursery = nursery
        self._asking: set[int] = set()  # Those that wait for a place, or for a script of the project.
        self._waiting: dict[int, Waiting] = {}
        self._noted: dict[int, Answer] = {}
        self._bounds = Bounds(self._late)

    async def run(self) -> None:
        """Answer until the process is gone, whose callers then are gone too."""
        self._nursery.start_soon(self._channel.write)
        self._nursery.start_soon(self._bounds.run)
        try:
            async for messages in self._channel.read():
                for message in messages:
                    self._hear(message)
        finally:
            for name in [*self._asking, *self._waiting, *self._noted]:
                self._left(name)

    def _hear(self, message: Message) -> None:
        match message:
            case Asked(name, head, body):
                found = self._desk.find(head.identifier)
                if isinstance(found, Answer):
                    self._tell(name, found)
                elif self._desk.is_full() or not self._asked_now(name, found, head, body):
                    self._asking.add(name)
                    self._nursery.start_soon(self._ask, found, message)
            case Left(name):
                self._left(name)
            case Sent(name, sent):
                self._settle(name, "sent" if sent else "gone")
            case Refused(status):
                self._door.count("", problem(status, "", ""))
            case Told():
                raise AssertionError("answers go the other way")

    def _asked_now(self, name: int, found: Route, head: Head, body: bytes) -> bool:
        """Whether that needed no wait."""
        try:
            given = self._desk.at_once(found, head, body)
        except Exception as fault:  # noqa: BLE001 - As in a connection of our own: it ends that request alone.
            given = _failed(fault)
        if given is not None:
            self._given(name, given)
        return given is not None

    async def _ask(self, found: Route, asked: Asked) -> None:
        try:
            if self._desk.is_full():
                await self._desk.place()
            given = await self._desk.take(found, asked.head, asked.body)
        except Exception as fault:  # noqa: BLE001 - As above.
            given = _failed(fault)
        if asked.name in self._asking:
            self._asking.discard(asked.name)
            self._given(asked.name, given)
        elif isinstance(given, Waiting):
            given.gone()  # Its caller has hung up meanwhile.

    def _given(self, name: int, given: Answer | Waiting) -> None:
        if isinstance(given, Answer):
            self._tell(name, given)
        else:
            self._waiting[name] = given
            given.when_told(partial(self._look, name))

    def _look(self, name: int) -> None:
        """A request is durable, or what its pass responds."""
        waiting = self._waiting.get(name)
        if waiting is None:
            return
        answer = waiting.answer()
        if answer is None:
            self._bounds.begin(name, waiting.within)
        else:
            self._done(name, waiting, answer)

    def _late(self, name: int) -> None:
        """Its caller has waited for long enough."""
        waiting = self._waiting[name]
        self._done(name, waiting, waiting.late())

    def _done(self, name: int, waiting: Waiting, answer: Answer) -> None:
        del self._waiting[name]
        self._bounds.end(name, waiting.within)
        self._tell(name, answer)

    def _tell(self, name: int, answer: Answer) -> None:
        if answer.fate is not None:
            self._noted[name] = answer
        try:
            self._channel.say(Told(name, answer.reply, answer.fate is not None))
        except UnicodeEncodeError:  # Called by the engine, which no fault of an answer may reach.
            self._channel.say(Told(name, UNSAID, answer.fate is not None))

    def _left(self, name: int) -> None:
        """A caller is gone, wherever his request or its answer is."""
        self._asking.discard(name)
        self._settle(name, "gone")
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            self._bounds.end(name, waiting.within)
            waiting.gone()

    def _settle(self, name: int, fate: Fate) -> None:
        answer = self._noted.pop(name, None)
        if answer is not None:
            answer.settle(fate)
