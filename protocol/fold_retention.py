"""How retention's events make the state; `protocol.evolve` is their front door.

1. A purge leaves a skeleton: who it was, where it stood and when. It can not run again, nor be found by what it
   carried.
2. A removal leaves nothing but the highest id that was removed, by which a later event about it is known as such.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from protocol.events_retention import BodiesPurged, RetentionApplied
from protocol.fold_hits import note_event
from protocol.state import HitRow, IncidentRow, State, TransactionRow

_Kept = TypeVar("_Kept", TransactionRow, HitRow)


def bodies_purged(state: State, event: BodiesPurged, seq: int) -> None:
    """Drop what transactions and hits carried."""
    for row in _kept(state, event.cycle, state.transaction, event.transactions):
        _unreach(state, row)
        note_event(row, seq)
        row.data, row.seen = {}, {}
        row.remains = row.pending = row.parting = None
        row.purged = event.at
        state.save(row)
    for hit in _kept(state, event.cycle, state.hit, event.hits):
        _forget_delivery(state, hit)
        hit.headers, hit.query, hit.body = {}, {}, b""
        hit.delivery, hit.digest, hit.key, hit.reply = "", "", [], None
        hit.purged = event.at
        state.save(hit)


def retention_applied(state: State, event: RetentionApplied, _seq: int) -> None:
    """Drop rows, and all by which they were found and counted."""
    cycle = state.cycle(event.cycle)
    for row in _kept(state, event.cycle, state.transaction, event.transactions):
        _unreach(state, row)
        setattr(cycle, row.status, getattr(cycle, row.status) - 1)
        state.drop(TransactionRow, row.id)
    for hit in _kept(state, event.cycle, state.hit, event.hits):
        _forget_delivery(state, hit)
        state.drop(HitRow, hit.id)
    for one in event.incidents:
        state.drop(IncidentRow, one)
    cycle.removed = max(cycle.removed, *event.transactions, *event.hits, *event.incidents)
    state.save(cycle)


def _unreach(state: State, row: TransactionRow) -> None:
    for step, key in row.reached.items():
        state.unfile("reached", (row.cycle, step, *key), row.id)
    row.reached = {}


def _forget_delivery(state: State, hit: HitRow) -> None:
    if hit.delivery:
        state.unfile("delivery", (hit.cycle, hit.step, hit.delivery), hit.id)


def is_gone(state: State, cycle: str, *, transaction: int = 0, hit: int = 0) -> bool:
    """Whether a row that something is about is one that retention removed, 0 for none.

    A row that never was is no such thing: then the journal and the state do not belong together.
    """
    removed = state.cycle(cycle).removed
    return (0 < transaction <= removed and not _exists(state.transaction, transaction)) or (
        0 < hit <= removed and not _exists(state.hit, hit)
    )


def _exists(find: Callable[[int], object], row_id: int) -> bool:
    try:
        find(row_id)
    except KeyError:
        return False
    return True


def _kept(state: State, cycle: str, find: Callable[[int], _Kept], ids: Iterable[int]) -> list[_Kept]:
    """The rows of ids, those aside that retention removed before."""
    removed = state.cycle(cycle).removed
    return [find(one) for one in ids if one > removed or _exists(find, one)]


RETENTION_HANDLERS: dict[type, Callable[[State, Any, int], None]] = {
    BodiesPurged: bodies_purged,
    RetentionApplied: retention_applied,
}
