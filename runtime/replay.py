"""Replay: the journal folded into memory, without a socket, up to any sequence number."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Struct

from journal import LOCAL_PARTITION, Frame, LogReader
from protocol.events import SCHEMA, AnyEvent, decode_events
from protocol.evolve import evolve
from protocol.memory import MemoryState
from protocol.state import TransactionRow
from runtime.masking import Hidden
from runtime.snapshots import beginning
from runtime.views import transaction_view

HARMLESS = frozenset({"socket.gethostname", "socket.sethostname"})  # Of the events of sockets: these reach nobody.


class SocketRefused(RuntimeError):
    """Something tried to reach the network during a replay: a defect, since replay needs none."""


class EventsNewer(Exception):
    """The journal holds events that this build does not know; nothing is wrong with them."""

    def __init__(self, seq: int, found: str) -> None:
        super().__init__(
            f"this build knows events up to schema {SCHEMA}, and the journal holds others from number {seq} on "
            f"({found}): it is older than the journal, use the newer build"
        )
        self.seq = seq


class Replayed(Struct):
    """What a replay brought: the state, and the last event folded into it with its number and instant, -1 for none."""

    state: MemoryState
    seq: int
    at: int
    event: AnyEvent | None = None


class _Guard:
    """How many replays are going on; an audit hook can not be taken back, so it is made once and looks here."""

    depth = 0
    hooked = False


@contextmanager
def forbid_sockets() -> Generator[None]:
    """Make sure of it: within this block the process opens no socket and asks no resolver, in any thread.

    Raises:
        SocketRefused: where something tries to.
    """
    if not _Guard.hooked:
        sys.addaudithook(_refuse)
        _Guard.hooked = True
    _Guard.depth += 1
    try:
        yield
    finally:
        _Guard.depth -= 1


def _refuse(event: str, _arguments: Any) -> None:
    if _Guard.depth and event.startswith("socket.") and event not in HARMLESS:
        raise SocketRefused(f"a replay opens no socket, and something asked for {event}")


def events_of(frame: Frame) -> Iterator[tuple[int, AnyEvent]]:
    """The events of a frame with their sequence numbers.

    Raises:
        EventsNewer: a newer build wrote them.
    """
    try:
        events = decode_events(frame.payload)
    except msgspec.ValidationError as fault:
        raise EventsNewer(frame.base_seq, str(fault)) from None
    return enumerate(events, frame.base_seq)


def fold_journal(
    reader: LogReader,
    until: int | None = None,
    progress: Callable[[int], None] | None = None,
    until_at: int | None = None,
) -> Replayed:
    """Fold a journal from its beginning, or from a snapshot when retention has dropped that.

    Raises:
        HistoryDropped: it does not reach back to `until` any more.
    """
    state, seq = beginning(reader, until)
    return fold(reader.read(LOCAL_PARTITION, seq, until), until, progress, until_at, Replayed(state, seq, 0))


def fold(
    frames: Iterable[Frame],
    until: int | None = None,
    progress: Callable[[int], None] | None = None,
    until_at: int | None = None,
    start: Replayed | None = None,
) -> Replayed:
    """Fold frames into a state.

    Args:
        frames: from where the state is on, in order; numbers before that are left out.
        until: the last sequence number to fold; None for all.
        progress: called with the sequence number reached, once a frame.
        until_at: the last instant to fold; None for all.
        start: what is folded already; None for nothing.
    """
    found = start or Replayed(MemoryState(), -1, 0)
    for frame in frames:
        for seq, event in events_of(frame):
            if (until is not None and seq > until) or (until_at is not None and event.at > until_at):
                return found
            if seq <= found.seq:
                continue
            evolve(found.state, event, seq)
            found.seq, found.at, found.event = seq, event.at, event
        if progress is not None:
            progress(found.seq)
    return found


def transaction_at(state: MemoryState, row: TransactionRow, hidden: Hidden) -> dict[str, Any]:
    """A transaction as it was: where it stood, the data of each step, its passes and what became of their answers."""
    hits = [hit for hit in state.hits.values() if hit.transaction == row.id]
    incidents = [one for one in state.incidents.values() if one.transaction == row.id]
    later = [state.hits[one] for hit in hits for one in hit.redriven if one in state.hits]
    return transaction_view(row, hits, incidents, hidden, later)
