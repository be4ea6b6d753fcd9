"""Defects put in on purpose, one at a time: a harness that does not find them would find no others either.

Each replaces one function of the runtime by one that forgets what the name says, now and then or always.
"""

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from journal import recovery
from journal import writer as journal_writer
from journal.appender import Appender
from journal.segment import HEADER_SIZE
from journal.storage import write_fully
from protocol import cycle, fold_hits, transaction
from protocol import evolve as folding
from protocol.calls import idempotency_key
from protocol.events import HitAccepted, HoldExpired
from runtime.committer import Committer
from runtime.engine import Engine
from runtime.links import Links
from runtime.timers import Timers
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import SimulatedDisk, SimulatedStore

Break = Callable[[], Any]


def _every(number: int) -> Callable[[], bool]:
    """True at each so many-th call."""
    counted = itertools.count(1)
    return lambda: next(counted) % number == 0


@contextmanager
def skipped_sync() -> Generator[None]:
    """One commit in five is written and not made durable."""
    now, write = _every(5), write_fully

    def written(storage: Any, handle: int, buffers: Any, offset: int, *, durable: bool) -> None:
        write(storage, handle, buffers, offset, durable=durable and not now())

    with mock.patch.object(journal_writer, "write_fully", written):
        yield


@contextmanager
def early_reply() -> Generator[None]:
    """One turn in ten is released before it is durable."""
    now, submit = _every(10), Committer.submit

    def submitted(self: Committer, records: Any, release: Any) -> None:
        if now():
            release()
            submit(self, records, lambda: None)
        else:
            submit(self, records, release)

    with mock.patch.object(Committer, "submit", submitted):
        yield


@contextmanager
def dropped_parked_hit() -> Generator[None]:
    """A hold does not look for hits that came before it."""
    with mock.patch.object(transaction, "take_parked", return_value=None):
        yield


@contextmanager
def forgotten_timer() -> Generator[None]:
    """Every other timer is not armed."""
    now, arm = _every(2), Timers.arm
    with mock.patch.object(Timers, "arm", lambda self, due: None if now() else arm(self, due)):
        yield


@contextmanager
def reused_key() -> Generator[None]:
    """The key of a call does not say which pass it is in."""

    def shorter(row: Any, step: str) -> str:
        return idempotency_key(row, step).rpartition(".")[0]

    with mock.patch.object(transaction, "idempotency_key", shorter):
        yield


@contextmanager
def stale_epoch() -> Generator[None]:
    """An owner does not look whether he still is."""
    with mock.patch.object(Appender, "_check_manifest", return_value=None):
        yield


@contextmanager
def cut_in_the_middle() -> Generator[None]:
    """Recovery takes the last quarter of the frames for torn."""
    examine = recovery.examine_active

    def cutting(storage: Any, handle: int, header: Any, *more: Any) -> Any:
        end = examine(storage, handle, header, *more).tally.offset
        start = HEADER_SIZE + (end - HEADER_SIZE) * 3 // 4 // header.align * header.align
        storage.write(handle, [bytes(end - start)], start)
        return examine(storage, handle, header, *more)

    with mock.patch.object(recovery, "examine_active", cutting):
        yield


@contextmanager
def skipped_folder_sync() -> Generator[None]:
    """Names of files are not made durable."""
    with mock.patch.object(SimulatedDisk, "sync_folder", return_value=None):
        yield


@contextmanager
def applied_twice() -> Generator[None]:
    """After a checkpoint, the last events before it are folded again."""
    meta = SimulatedStore.meta

    def earlier(self: SimulatedStore, name: str) -> int:
        found = meta(self, name)
        return found - 3 if name == "applied" and found > 3 else found

    with mock.patch.object(SimulatedStore, "meta", earlier):
        yield


@contextmanager
def lost_dedupe_entry() -> Generator[None]:
    """The delivery key of every fourth event is not filed."""
    accepted = fold_hits.hit_accepted

    def forgetful(state: Any, event: HitAccepted, seq: int) -> None:
        accepted(state, event, seq)
        if event.delivery and seq % 4 == 0:
            state.unfile("delivery", (event.cycle, event.step, event.delivery), seq)

    with mock.patch.dict(f"{folding.__name__}._HANDLERS", {HitAccepted: forgetful}):
        yield


@contextmanager
def early_checkpoint() -> Generator[None]:
    """The store does not wait for the journal."""

    async def at_once(_: Committer) -> None:
        return None

    with mock.patch.object(Committer, "flushed", at_once):
        yield


@contextmanager
def forgotten_recovery() -> Generator[None]:
    """A restart repeats no open call and detaches no caller."""
    with mock.patch.object(Engine, "_recover", return_value=None):
        yield


@contextmanager
def nameless_link() -> Generator[None]:
    """A hand-over does not carry the key of its call."""
    hand_over = Links.hand_over

    def nameless(self: Links, call: Any, *more: Any) -> None:
        hand_over(self, type(call)(**{**_fields(call), "idempotency_key": f"{id(call)}"}), *more)

    with mock.patch.object(Links, "hand_over", nameless):
        yield


@contextmanager
def share_kept() -> Generator[None]:
    """What goes on after an expired hold ends the request of its pass once more."""
    expired = folding._HANDLERS[HoldExpired]  # pyright: ignore[reportPrivateUsage] - One rule of the fold.

    def sharing(state: Any, event: HoldExpired, seq: int) -> None:
        expired(state, event, seq)
        state.transaction(event.transaction).alone = False

    with mock.patch.dict(f"{folding.__name__}._HANDLERS", {HoldExpired: sharing}):
        yield


@contextmanager
def undelivered() -> Generator[None]:
    """What was kept for a start is given no place."""
    with mock.patch.object(cycle, "deliver", return_value=None):
        yield


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


BREAKS: dict[str, tuple[Break, str]] = {
    "one sync in five is skipped": (skipped_sync, "random"),
    "a reply leaves before it is durable": (early_reply, "random"),
    "a parked hit is dropped": (dropped_parked_hit, "random"),
    "a timer is forgotten": (forgotten_timer, "random"),
    "an idempotency key is used again": (reused_key, "random"),
    "a stale epoch is accepted": (stale_epoch, "a rival"),
    "recovery cuts in the middle": (cut_in_the_middle, "random"),
    "the folder is not synced": (skipped_folder_sync, "random"),
    "events are applied twice after a checkpoint": (applied_twice, "random"),
    "a dedupe entry is lost": (lost_dedupe_entry, "random"),
    "a checkpoint does not wait for the journal": (early_checkpoint, "random"),
    "open calls are not repeated after a restart": (forgotten_recovery, "random"),
    "a hand-over is not named": (nameless_link, "link"),
    "an expired hold keeps its share of the request": (share_kept, "parts that hold"),
    "kept hits are not delivered": (undelivered, "kept before wait_all"),
}
"""What is broken, and where it is looked for: in random runs, or in a scenario crashed at one call after another."""


def attempts(where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Runs to look for a defect in: a seed, and what else `simulate` is given."""
    for seed in itertools.count(1):
        if where == "random":
            yield seed, {}
        else:
            yield seed, {"plan": SCENARIOS[where], "crash_at": (30 + seed,) if where == "link" else ()}


def caught(name: str, runs_max: int, simulate: Callable[..., Any]) -> tuple[int, int, str]:
    """Break it and look for it: the seed that found it, how many runs it took, and what was found.

    Raises:
        AssertionError: so many runs did not find it.
    """
    broken, where = BREAKS[name]
    with broken():
        for runs, (seed, more) in enumerate(itertools.islice(attempts(where), runs_max), 1):
            try:
                simulate(seed, **more)
            except Exception as fault:  # noqa: BLE001 - However it shows, it is found.
                return seed, runs, said(fault)
    raise AssertionError(f"{name}: {runs_max} runs did not find it")


def said(fault: BaseException) -> str:
    """The first words of what was found, out of the groups it came in."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return f"{type(fault).__name__}: {fault}"[:160]
