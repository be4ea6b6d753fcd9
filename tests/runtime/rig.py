"""The whole runtime but its door, in one Trio run: a real journal and store on disk, remotes that a test scripts."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from journal import LOCAL_PARTITION, JournalOptions, LocalLog
from protocol.admission import Incoming, admit
from protocol.chain import read_chain
from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure, Hit
from protocol.loading import Source, load_project
from protocol.state import Reply
from runtime.blocking import on_the_spot
from runtime.clock import Clock, trio_clock
from runtime.committer import InlineAppender
from runtime.config import Settings
from runtime.deploying import deploy
from runtime.egress import OwnAddress
from runtime.engine import Engine
from runtime.server import open_store
from runtime.store import StoredState
from runtime.ticket import Ticket

NOON = 1_767_268_800 * 1_000_000_000
Remote = Callable[[CallIntended], Awaitable[CallAnswer | CallFailure]]


async def unreachable(_: CallIntended) -> CallAnswer | CallFailure:
    """A network on which nothing answers."""
    return CallFailure("connect", "connection refused")


def answer(body: Any, status: int = 200) -> CallAnswer:
    """What a remote says."""
    return CallAnswer(status, {"content-type": "application/json"}, msgspec.json.encode(body))


class Wire:
    """Outbound calls, each answered by the test's own remote."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def listen_at(self, own: OwnAddress | None) -> None:
        """Nobody listens."""

    async def perform(
        self, call: CallIntended, connector: Connector, *, safe_to_repeat: bool | None = None
    ) -> CallAnswer | CallFailure:
        """Ask the remote."""
        del connector, safe_to_repeat
        return await self.remote(call)

    async def aclose(self) -> None:
        """Nothing is open."""


class Rig:
    """A running engine, and the requests that a test sends it."""

    def __init__(self, engine: Engine, folder: Path, log: LocalLog) -> None:
        self.engine = engine
        self.folder = folder
        self.log = log

    def hit(self, cycle: str, step: str, body: Any, **headers: str) -> Ticket:
        """A request that is admitted; its ticket tells what becomes of it."""
        program = self.engine.state.program(self.engine.state.cycle(cycle).definition_hash)
        chain, depth = read_chain(headers, self.engine.chain_key)
        request = Incoming(
            method="POST",
            headers={"content-type": "application/json", **headers},
            query={},
            body=body if isinstance(body, bytes) else msgspec.json.encode(body),
            at=self.engine.clock(),
            depth=depth,
            chain=chain,
        )
        admitted = admit(program, step, request)
        assert isinstance(admitted, Hit), admitted
        return self.engine.accept(admitted)

    async def ask(self, cycle: str, step: str, body: Any, **headers: str) -> Reply:
        """A request whose caller waits for the answer, at most a minute."""
        ticket = self.hit(cycle, step, body, **headers)
        with trio.fail_after(60):
            outcome = await ticket.decided()
            return outcome.reply if outcome.reply is not None else await ticket.answered()


@asynccontextmanager
async def running(
    folder: Path,
    *files: str,
    remote: Remote = unreachable,
    start: int = NOON,
    prepare: Callable[[Engine], None] = lambda _: None,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncGenerator[Rig]:
    """An engine over the journal and store of a folder, which it continues.

    Args:
        folder: where they are.
        files: the cycles.
        remote: answers calls.
        start: when Trio's time begins, which is the engine's.
        prepare: gets the engine before it runs.
        clock: the engine's, instead.
        settings: of the server.
    """
    definitions, faults = load_project([Source(f"{at}.cycle.yaml", text) for at, text in enumerate(files)])
    assert not faults, [str(fault) for fault in faults]
    said = Settings(**settings)
    log = LocalLog.open(folder / "journal", JournalOptions(segment_bytes=said.segment_bytes))
    ownership = log.own(LOCAL_PARTITION)
    database = open_store(folder / "store.sqlite", log)
    try:
        appender = InlineAppender(ownership)
        clock = clock or trio_clock(start)
        engine = Engine(log, appender, StoredState(database), said, clock, ownership.epoch)
        engine.outbound = Wire(remote)
        engine.checkpoints.blocking = on_the_spot  # A thread's time is none of a test clock's.
        prepare(engine)
        engine.replay_tail()
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            await deploy(engine, definitions)
            yield Rig(engine, folder, log)
            await engine.checkpointed()
            nursery.cancel_scope.cancel()
    finally:
        ownership.close()
        log.close()
        database.close()
