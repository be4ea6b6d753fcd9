"""Replay: the journal folded into memory, without a socket, up to any sequence number."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from journal import Frame
from protocol.events import decode_events
from protocol.evolve import evolve
from protocol.memory import MemoryState
from protocol.state import TransactionRow, transaction_name


class SocketRefused(RuntimeError):
    """Something tried to open a socket during a replay: a defect, since replay needs no network."""


class Replayed(Struct):
    """What a replay brought: the state, and the sequence number of the last event folded into it, -1 for none."""

    state: MemoryState
    seq: int


def forbid_sockets() -> None:
    """Make sure of it: from now on this process can open no socket. An audit hook can not be taken back."""

    def refuse(event: str, _arguments: Any) -> None:
        if event == "socket.__new__":
            raise SocketRefused("a replay opens no socket")

    sys.addaudithook(refuse)


def fold(frames: Iterable[Frame], until: int | None = None, progress: Callable[[int], None] | None = None) -> Replayed:
    """Fold frames into a fresh state.

    Args:
        frames: from the beginning of the journal, in order.
        until: the last sequence number to fold; None for all.
        progress: called with the sequence number reached, once a frame.
    """
    found = Replayed(MemoryState(), -1)
    for frame in frames:
        for seq, event in enumerate(decode_events(frame.payload), frame.base_seq):
            if until is not None and seq > until:
                return found
            evolve(found.state, event, seq)
            found.seq = seq
        if progress is not None:
            progress(found.seq)
    return found


def transaction_at(state: MemoryState, row: TransactionRow) -> dict[str, Any]:
    """A transaction as it was: where it stood, the data of each step, its passes and what became of their answers."""
    passes = [hit for hit in state.hits.values() if hit.transaction == row.id]
    return {
        "transaction": transaction_name(row.cycle, row.id),
        "status": row.status,
        "step": row.step,
        "pass": row.number,
        "reason": row.reason or None,
        "steps": row.data,
        "matches_by": row.reached,
        "call": None if row.call is None else row.call.step,
        "queue": row.queue,
        "children": row.children,
        "passes": [
            {
                "pass": hit.number,
                "hit": hit.id,
                "step": hit.step,
                "status": hit.status,
                "candidates": hit.candidates,
                "reply": None if hit.reply is None else hit.reply.status,
                "fate": hit.fate,
            }
            for hit in passes
        ],
    }
