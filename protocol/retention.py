"""What is dropped because it is over and old enough: a decision like any other, by events that name every row.

1. First goes what transactions and requests carried, then what is left of them; each after its own age.
2. What is in progress is never dropped. A hold without an end of its own fails past its age, with an incident, and is
   then kept as long as anything that failed.
3. A completed transaction can be run again by a request that matches until its data is dropped, and no longer.
4. A request is known by its delivery key for the whole window that its step says, whatever becomes of its transaction;
   one that came over a link, as long as the call of the parent is open, which may be made again.
5. Rows refer to others that may be gone: a child to its parent, a part of a split to the request that began it.
"""

from collections.abc import Callable
from typing import TypeVar

from protocol.ages import Ages
from protocol.events_retention import BodiesPurged, RetentionApplied
from protocol.failures import fail
from protocol.fold_retention import is_gone
from protocol.incidents import Kind
from protocol.inputs import (
    CallEnded,
    CallLeaves,
    Continue,
    HoldDue,
    Input,
    ParkDue,
    Receipt,
    ReplySettled,
    Retain,
    Settle,
)
from protocol.state import HitRow, IncidentRow, State, TransactionRow
from protocol.transaction import run
from protocol.turn import Turn

EXPIRED: Kind = "retention_expired"
_Found = TypeVar("_Found", TransactionRow, HitRow, IncidentRow)


def about_gone(state: State, given: Input) -> bool:
    """Whether an input is about a row that retention removed."""
    match given:
        case CallEnded() | CallLeaves() | HoldDue() | Continue() | Settle():
            return is_gone(state, given.cycle, transaction=given.transaction)
        case ParkDue() | ReplySettled():
            return is_gone(state, given.cycle, hit=given.hit)
        case _:
            return False


def retain(turn: Turn, given: Retain) -> Receipt:
    """Drop what is old enough among what is named; the rest of it stays as it is. The receipt counts what was cut."""
    state, ages = turn.state, given.ages
    purged: list[int] = []
    removed: list[int] = []
    for one in given.transactions:
        row = _row(state.transaction, one)
        if row is None or turn.exhausted:
            continue
        if row.status == "held":
            _expire(turn, row, ages)
        elif is_over(row) and _is_past(turn.at, row.updated, kept_for(row, ages)):
            removed.append(row.id)
        elif is_over(row) and not row.purged and _is_past(turn.at, row.updated, ages.bodies):
            purged.append(row.id)
    hits = [hit for one in given.hits if (hit := _row(state.hit, one)) is not None and _is_past_hit(turn, hit, ages)]
    bare = [hit.id for hit in hits if hit.transaction and not hit.purged and _is_purged(state, hit.transaction)]
    gone = [hit.id for hit in hits if not hit.transaction or _row(state.transaction, hit.transaction) is None]
    told = [one for one in given.incidents if _is_past_incident(turn, one, ages)]
    if purged or bare:
        turn.emit(BodiesPurged(turn.cycle, turn.at, purged, bare))
    if removed or gone or told:
        turn.emit(RetentionApplied(turn.cycle, turn.at, removed, gone, told))
    cut = sum(map(len, (purged, removed, bare, gone, told)))
    return Receipt(state.cycle(turn.cycle).status, cut=cut)


def is_over(row: TransactionRow) -> bool:
    """Whether nothing of a transaction is in progress, nor waits behind it."""
    return row.status in ("completed", "failed", "stopped") and row.call is None and not row.queue


def kept_for(row: TransactionRow, ages: Ages) -> int:
    """How long a transaction that is over is kept; 0 is for ever."""
    return ages.completed if row.status == "completed" else ages.failed


def _is_past(at: int, since: int, age: int) -> bool:
    return 0 < age <= at - since


def _expire(turn: Turn, row: TransactionRow, ages: Ages) -> None:
    """End a hold that nothing else ends: without `hold_for`, in a stopped cycle, or at a call that awaits a person."""
    waits = row.until > turn.at or (row.until and turn.state.cycle(row.cycle).status == "running")
    if waits or not _is_past(turn.at, row.updated, ages.held):
        return
    days = (turn.at - row.updated) / 86_400e9
    message = f"it was held for {days:.1f} days, longer than retention keeps what is held"
    turn.incident(row.id, row.step, EXPIRED, message)
    fail(turn, row, f"{EXPIRED}: {message}")
    run(turn, row)


def _is_past_hit(turn: Turn, hit: HitRow, ages: Ages) -> bool:
    """Whether nobody asks for a request any more: it is over, and no longer known by its delivery key."""
    if hit.status not in ("done", "expired", "ignored") or hit.branches:
        return False
    if not hit.transaction and not _is_past(turn.at, hit.at, ages.failed):
        return False
    if hit.origin is not None:  # Its answer went to the parent with the turn that built it; nobody notes its fate.
        return not _is_call_open(turn.state, hit)
    if hit.fate == "waiting":
        return False
    return not hit.delivery or _is_past(turn.at, hit.at, _window(turn.state, hit, ages))


def _window(state: State, hit: HitRow, ages: Ages) -> int:
    """How long a delivery is remembered; nothing comes to a step that is gone, but it may be written again."""
    try:
        return state.program(state.cycle(hit.cycle).definition_hash).webhook(hit.step).window + 1
    except KeyError:
        return ages.failed


def _is_call_open(state: State, hit: HitRow) -> bool:
    origin = hit.origin
    assert origin is not None, "a request over a link says where it came from"
    parent = _row(state.transaction, origin.transaction)
    return (
        parent is not None
        and parent.call is not None
        and (parent.call.step, parent.number) == (origin.step, origin.number)
    )


def _is_purged(state: State, transaction: int) -> bool:
    row = _row(state.transaction, transaction)
    return row is not None and bool(row.purged)


def _is_past_incident(turn: Turn, incident: int, ages: Ages) -> bool:
    """Whether an incident goes: with its transaction, or by its own age when it is about none."""
    row = _row(turn.state.incident, incident)
    if row is None:
        return False
    if row.transaction:
        return _row(turn.state.transaction, row.transaction) is None
    return _is_past(turn.at, row.at, ages.failed)


def _row(find: Callable[[int], _Found], row_id: int) -> _Found | None:
    try:
        return find(row_id)
    except KeyError:
        return None
