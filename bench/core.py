"""What the core and the journal cost, without HTTP."""

import gc
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from bench.table import percentiles, row
from journal import LOCAL_PARTITION, JournalOptions, LocalLog
from protocol.admission import Incoming, admit
from protocol.cycle import decide
from protocol.events import AnyEvent, decode_events, encode_event
from protocol.inputs import Deploy, Hit, Start
from protocol.loading import Source, encode_definition, load_project
from protocol.memory import MemoryState
from runtime.clock import wall_clock
from runtime.committer import Committer, ThreadAppender
from runtime.replay import fold
from runtime.server import COLLECT_AT

CYCLE = """
cycle: bench
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: bench-asked
    fields: {order: {type: text, required: true}, amount: {type: integer, required: true}}
  large:
    decide: {left: asked.amount, is: greater, right: 100}
    else: small
  big: {decide: {left: asked.order, is: exists}, else: end, next: end}
  small: {decide: {left: asked.order, is: exists}, else: end, next: end}
"""
BODY = b'{"order": "A-1000", "amount": 42, "note": "' + b"x" * 250 + b'"}'
TURNS = 20_000


def _running() -> tuple[MemoryState, list[AnyEvent]]:
    """The cycle, deployed and started, and the events that made it so."""
    definitions, faults = load_project([Source("bench.cycle.yaml", CYCLE)])
    assert not faults, faults
    state = MemoryState()
    deployed = decide(state, Deploy("bench", 1, encode_definition(definitions["bench"]), "h", {}), 0).events
    started = decide(state, Start("bench", 1), len(deployed)).events
    return state, [*deployed, *started]


def _hit(state: MemoryState) -> Hit:
    headers = {"content-type": "application/json"}
    admitted = admit(state.program("h"), "asked", Incoming(method="POST", headers=headers, query={}, body=BODY, at=2))
    assert isinstance(admitted, Hit), admitted
    return admitted


def decisions() -> list[AnyEvent]:
    """Turns a second, and their events, from the deploy on, for the other questions."""
    state, events = _running()
    began = time.perf_counter()
    for _ in range(TURNS):
        _hit(state)
    row("admit (read, check a 300-byte body)", f"{TURNS / (time.perf_counter() - began):,.0f}/s")
    hit = _hit(state)
    seq = before = len(events)
    began = time.perf_counter()
    for _ in range(TURNS):
        decided = decide(state, hit, seq).events
        seq += len(decided)
        events += decided
    elapsed = time.perf_counter() - began
    row(
        "decide and fold (2 logic steps)",
        f"{TURNS / elapsed:,.0f}/s",
        note=f"{(seq - before) / TURNS:.0f} events a turn",
    )
    return events


def codec(events: list[AnyEvent]) -> None:
    """Events encoded and decoded a second."""
    began = time.perf_counter()
    packed = [encode_event(event) for event in events]
    row("encode", f"{len(events) / (time.perf_counter() - began):,.0f} ev/s")
    frame = b"\xdd" + len(packed).to_bytes(4, "big") + b"".join(packed)
    began = time.perf_counter()
    decode_events(frame)
    row("decode", f"{len(events) / (time.perf_counter() - began):,.0f} ev/s")


def disk(folder: Path) -> None:
    """Synced commits of one record, one after the other: what the disk allows."""
    log = LocalLog.open(folder / "disk", JournalOptions(segment_bytes=16 << 20))
    owner = log.own(LOCAL_PARTITION)
    times: list[float] = []
    for _ in range(1000):
        began = time.perf_counter()
        owner.append([[b"\xc4\x40" + b"x" * 64]], at=time.time_ns())
        times.append(time.perf_counter() - began)
    row("disk: one synced commit at a time", f"{1000 / sum(times):,.0f}/s", *percentiles(times))
    owner.close()
    log.close()


def append(folder: Path, writers: int) -> None:
    """Durable groups a second with so many tasks that each wait for theirs."""
    log = LocalLog.open(folder / f"append{writers}", JournalOptions(segment_bytes=16 << 20))
    owner = log.own(LOCAL_PARTITION)
    times: list[float] = []

    async def main() -> None:
        appender = ThreadAppender(owner)
        appender.start()
        committer = Committer(appender, wall_clock())
        record = b"\xc5\x01\x5e" + b"x" * 350

        async def writer() -> None:
            while trio.current_time() < ends:
                began = time.perf_counter()
                done = trio.Event()
                committer.submit([record], done.set)
                await done.wait()
                times.append(time.perf_counter() - began)

        ends = trio.current_time() + 1.5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(committer.run)
            async with trio.open_nursery() as inner:
                for _ in range(writers):
                    inner.start_soon(writer)
            nursery.cancel_scope.cancel()
        appender.stop()

    trio.run(main)
    row(f"append, group commit, {writers} writers", f"{len(times) / 1.5:,.0f}/s", *percentiles(times))
    owner.close()
    log.close()


def replay(folder: Path, events: list[AnyEvent]) -> None:
    """Events folded from a journal on disk, a second."""
    log = LocalLog.open(folder / "replay", JournalOptions(segment_bytes=64 << 20))
    owner = log.own(LOCAL_PARTITION)
    packed = [encode_event(event) for event in events]
    for start in range(0, len(packed), 500):
        owner.append([packed[start : start + 500]], at=1)
    began = time.perf_counter()
    found = fold(log.read(LOCAL_PARTITION))
    elapsed = time.perf_counter() - began
    row("replay (read, decode, fold)", f"{found.seq / elapsed:,.0f} ev/s", note=f"{found.seq:,} events")
    owner.close()
    log.close()


def run() -> None:
    """Every question of this file, with garbage collected as rarely as a server has it."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)
    events = decisions()
    codec(events)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions: list[Callable[[], None]] = [lambda: disk(folder)]
        questions += [partial(append, folder, writers) for writers in (1, 64, 256)]
        questions.append(lambda: replay(folder, events))
        for question in questions:
            question()
