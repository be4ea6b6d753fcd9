"""One process of the simulated server: opened on what the world has, looked at after every turn, killed by its ports.

After each turn the events, read back from their bytes, are folded into a state in memory, whose rules are checked and
whose rows are compared with the live ones. What is released is checked against what the disk would keep.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from journal import LOCAL_PARTITION, JournalError, JournalOptions, LocalLog, LogReader
from protocol.ages import Retention as Ages
from protocol.alert_settings import Alerts
from protocol.definition import Definition
from protocol.events import AnyEvent, CallUnknown, ReplyDetached, decode_events
from protocol.evolve import evolve
from protocol.inputs import Continue, Deliver, Input, Recover
from protocol.invariants import Picture, broken
from protocol.loading import Source, load_project
from protocol.memory import MemoryState
from protocol.state import HitRow, TransactionRow
from runtime.blocking import Blocking, on_the_spot
from runtime.config import Quota, Settings
from runtime.deploying import deploy
from runtime.door.door import Door
from runtime.engine import Engine
from runtime.retention import Retention
from runtime.scripts import Scripts
from runtime.snapshots import beginning, restore, save_snapshot
from runtime.store import StoredState, digest
from runtime.ticket import Ticket
from tests.journal.disk import FOLDER
from tests.simulation.partner import ALERTS, Breach, Partner, SimulatedNetwork
from tests.simulation.programs import LOOK, SCRIPT, TIDY, Program
from tests.simulation.world import SimulatedAppender, SimulatedStore, World

SEGMENT = JournalOptions(segment_bytes=64 * 1024)
SETTINGS = Settings(mailbox_items_max=64, segment_bytes=SEGMENT.segment_bytes)
PROJECT = Path(__file__).parents[1] / "projects" / "simulation"
LOOKED_AT = 0.15  # The part of releases for which a power loss is tried at once.


@cache
def definitions_of(program: Program) -> dict[str, Definition]:
    """The cycles of a program, read from its files."""
    definitions, faults = load_project([Source(f"{at}.cycle.yaml", text) for at, text in enumerate(program.files)])
    assert not faults, [str(fault) for fault in faults]
    return definitions


def fold(log: LogReader) -> tuple[MemoryState, int]:
    """Fold everything that a journal has, from its beginning or a snapshot; sequence numbers must be dense.

    Returns:
        The state, and the next sequence number.
    """
    state, last = beginning(log)
    following = last + 1
    for frame in log.read(LOCAL_PARTITION, last):
        for seq, event in enumerate(decode_events(frame.payload), frame.base_seq):
            if seq <= last:
                continue
            if seq != following:
                raise Breach(f"7: after event {following - 1} comes {seq}")
            evolve(state, event, seq)
            following = seq + 1
    return state, following


def worst(world: World) -> int:
    """How many events would be there if the power failed now and nothing that is not durable was kept."""
    disk = world.disk.power_loss(lambda: False)
    calm, world.calm, world.down = world.calm, True, False
    try:
        with LocalLog.open(FOLDER, SEGMENT, storage=disk) as log:
            return log.next_seq
    finally:
        world.calm = calm


class WatchedEngine(Engine):
    """An engine that is checked after each turn and before each release."""

    def watch(self, world: World, shadow: MemoryState) -> None:
        """Begin to; `shadow` is the state by full replay, so far."""
        self._world = world
        self.shadow = shadow
        self._turned: deque[int] = deque()

    def _turn(self, given: Input, ticket: Ticket | None) -> None:
        first = self.next_seq
        super()._turn(given, ticket)
        self._turned.append(self.next_seq)
        if self.next_seq > first:
            records = self.committer._pending[-1][0]  # pyright: ignore[reportPrivateUsage] - As they will be written.
            self._note(first, b"\xdd" + len(records).to_bytes(4, "big") + b"".join(records))

    def _note(self, first: int, packed: bytes) -> None:
        world = self._world
        world.note("turn", first, packed)
        events = decode_events(packed)
        for seq, event in enumerate(events, first):
            world.past.note(self.shadow, event)
            evolve(self.shadow, event, seq)
            world.saw(f"event {type(event).__name__}")
            match event:
                case ReplyDetached(reason=reason):
                    world.saw(f"a caller was let go: {reason}")
                case CallUnknown(waits=waits):
                    world.saw(f"an unknown call {'waits for a person' if waits else 'is made again'}")
                case _:
                    pass
        self._check(events)

    def _check(self, events: Iterable[AnyEvent]) -> None:
        ahead: set[int] = set()
        delivered: set[str] = set()
        for given, _ in self._inbox:
            match given:
                case Continue(transaction=one):
                    ahead.add(one)
                case Recover(transactions=several):
                    ahead.update(several)
                case Deliver(cycle=name):
                    delivered.add(name)
                case _:
                    pass
        wrong = list(broken(Picture(self.shadow), ahead))
        for cycle in self.shadow.cycles.values():
            kept = cycle.status == "running" and self.shadow.find("collected", (cycle.name,), 1)
            if kept and cycle.name not in delivered:
                wrong.append(f"3: hits are kept, and nothing will give them their places [cycle {cycle.name}]")
        if wrong:
            raise Breach("; ".join(wrong))
        for event in events:
            for name, kind in (("transaction", TransactionRow), ("hit", HitRow)):
                self._compare(kind, getattr(event, name, 0))

    def _compare(self, kind: type[Any], one: int) -> None:
        live = self.state._rows[kind].get(one)  # pyright: ignore[reportPrivateUsage] - A look that loads nothing.
        folded = (self.shadow.transactions if kind is TransactionRow else self.shadow.hits).get(one)
        if live is not None and folded is not None and live != folded:
            raise Breach(f"5: the live row is {live}, and folding the bytes gives {folded}")

    def _release(  # pyright: ignore[reportIncompatibleMethodOverride] - Whatever it is given, it is given on.
        self, *arguments: Any
    ) -> None:
        upto = self._turned.popleft() if self._turned else self.next_seq  # It leaves in the turn itself.
        if upto > self.journal.next_seq:
            raise Breach(
                f"1: what event {upto - 1} caused leaves, and the journal is durable up to {self.journal.next_seq}"
            )
        if self._world.chance.random() < LOOKED_AT and upto > worst(self._world):
            raise Breach(f"1: what event {upto - 1} caused leaves, and a power loss now would undo it")
        super()._release(*arguments)


class Process:
    """One running server."""

    def __init__(self, engine: WatchedEngine) -> None:
        self.engine = engine
        self.door = Door(engine.settings, "token", "key")
        self.door.open(engine)
        self._connections: list[trio.CancelScope] = []

    @contextmanager
    def connection(self) -> Generator[trio.CancelScope]:
        """A caller's connection: what is inside ends when the process does."""
        with trio.CancelScope() as scope:
            self._connections.append(scope)
            try:
                yield scope
            finally:
                self._connections.remove(scope)

    def end(self) -> None:
        """Every connection breaks."""
        for scope in self._connections:
            scope.cancel()


@asynccontextmanager
async def process(world: World, program: Program, partner: Partner, struck: dict[str, int]) -> AsyncGenerator[Process]:
    """A server on what the world has, until the block or the machine ends.

    Raises:
        PowerLossError: a port stopped the machine.
        JournalError: the disk failed, so the process ends.
        Breach: a rule was broken.
    """
    log = LocalLog.open(FOLDER, SEGMENT, storage=world.disk)
    world.saw(f"recovery: {log.recovery.reason}")
    ownership = log.own(LOCAL_PARTITION)
    shadow, following = fold(log)
    store = open_store(world, log, following)
    settings = settings_of(program)
    engine = WatchedEngine(
        log, SimulatedAppender(ownership, world), StoredState(store), settings, world.clock, ownership.epoch
    )
    engine.outbound = SimulatedNetwork(world, partner, struck, window_s=program.limited)
    engine.scripts = Scripts(PROJECT)
    engine.scripts.load([SCRIPT, LOOK, TIDY])
    engine.checkpoints.blocking = engine.scripts.blocking = on_the_spot
    engine.replay_tail()
    compare(store, shadow, "checkpoint and tail")
    engine.watch(world, shadow)
    running: Process | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            world.saw("event WriterStarted")
            await deploy(engine, definitions_of(program), world.entropy)
            running = Process(engine)
            retention = Retention(engine, log, settings.retention)
            retention.blocking, retention.pause = _noting(world), lambda: None
            if program.keeps:  # Else there is nothing to look for within a run.
                nursery.start_soon(retention.run)
            nursery.start_soon(_spares, log)
            yield running
    finally:
        if running is not None:
            running.end()
        if not world.down:
            try:
                ownership.close()
                log.close()
            except JournalError:
                world.saw("a close failed")


def _noting(world: World) -> Blocking:
    """On the spot, and the world knows when that is a snapshot."""

    async def noting(work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Any:
        world.saving = work is save_snapshot
        try:
            return await on_the_spot(work, *arguments, **more)
        finally:
            world.saving = False

    return noting


def settings_of(program: Program) -> Settings:
    """The settings of a server that runs a program."""
    keeps = program.keeps
    return replace(
        SETTINGS,
        retention=Ages(completed=keeps, failed=keeps, bodies="2 minutes") if keeps else Ages(),
        alerts=Alerts(url=ALERTS) if program.alerts else Alerts(),
        quota=Quota(tasks_per_month=program.quota),
    )


def open_store(world: World, log: LogReader, following: int) -> SimulatedStore:
    """The store as the world kept it; it is never ahead of the journal, since it is written behind it."""
    store = SimulatedStore(world)
    if store.meta("applied") >= following:
        raise Breach(f"2: the store reaches event {store.meta('applied')}, and the journal ends before {following}")
    world.saw("store found" if world.images else "store built anew")
    if store.meta("applied") + 1 < log.first_seq:
        world.images.clear()
        store = SimulatedStore(world)
        restore(log, store)
        world.saw("store begun with a snapshot")
    return store


def compare(store: SimulatedStore, shadow: MemoryState, what: str) -> None:
    """The store and the fold of the whole journal are one state."""
    if digest(store) != digest(shadow):
        raise Breach(f"5: {what} differs from a full replay")


async def _spares(log: LocalLog) -> None:
    """As the server does, but without a thread."""
    while True:
        log.prepare_spare(lambda: None)
        await trio.sleep(60)
