"""What a journal still holds and why, segment by segment and cycle by cycle, read from the store beside it."""

from collections.abc import Iterable

from msgspec import Struct

from journal import SegmentInfo
from protocol.ages import Ages, Retention, ages_of
from protocol.loading import decode_definition
from protocol.state import CycleRow, DefinitionRow, transaction_name
from runtime.clock import instant
from runtime.store import Look
from runtime.store.rows import TABLES

DAY_NS = 86_400_000_000_000
_TRANSACTIONS = (
    "SELECT cycle, status, count(*), min(id) FROM transactions "
    "WHERE purged = 0 AND id >= ? AND id < ? GROUP BY cycle, status ORDER BY cycle, status"
)
_HITS = (
    "SELECT hits.cycle, CASE WHEN hits.status IN ('parked', 'collected') THEN 'parked' "
    "WHEN hits.txn = 0 THEN 'expired' ELSE 'remembered' END AS kind, count(*) FROM hits "
    "LEFT JOIN transactions AS owner ON owner.id = hits.txn "
    "WHERE hits.purged = 0 AND hits.id >= ? AND hits.id < ? AND (owner.id IS NULL OR owner.purged = 1) "
    "GROUP BY hits.cycle, kind ORDER BY hits.cycle, kind"
)
WORDS = {
    "parked": "parked requests",
    "expired": "requests that expired",
    "remembered": "requests whose delivery keys are remembered",
}


class KeptSegment(Struct, frozen=True):
    """A segment, and why it is there."""

    name: str
    base_seq: int
    next_seq: int
    bytes: int
    first: str | None
    last: str | None
    why: list[str]


class KeptCycle(Struct, frozen=True):
    """A cycle: its ages as people write them, and how many of its transactions are kept."""

    cycle: str
    ages: dict[str, str]
    counts: dict[str, int]
    purged: int
    oldest_held: str = ""


def kept_segments(infos: Iterable[SegmentInfo], store: Look | None) -> list[KeptSegment]:
    """Why each segment is there; without a store nobody can say."""
    found: list[KeptSegment] = []
    pinned = False
    for info in infos:
        why = ["no store says what is in it"] if store is None else _reasons(store, info)
        if not why:
            why = ["follows what is kept" if pinned else "nothing in it is kept: goes once a snapshot has its state"]
        pinned = pinned or not why[0].startswith("nothing")
        if not info.sealed:
            why.append("is being written")
        times = instant(info.first_at), instant(info.last_at)
        found.append(KeptSegment(info.name, info.base_seq, info.next_seq, info.bytes_used, *times, why))
    return found


def _reasons(store: Look, info: SegmentInfo) -> list[str]:
    span = info.base_seq, info.next_seq
    why = [
        f"{cycle}: {count} {status}, from {transaction_name(cycle, first)} on"
        for cycle, status, count, first in store.select(_TRANSACTIONS, span)
    ]
    return why + [f"{cycle}: {count} {WORDS[kind]}" for cycle, kind, count in store.select(_HITS, span)]


def kept_cycles(store: Look, server: Retention) -> list[KeptCycle]:
    """What is kept of each cycle, and for how long.

    Args:
        store: what to look at.
        server: the ages of the server.
    """
    definitions = {row.hash: row.definition for row in store.rows(TABLES[DefinitionRow])}
    return [_cycle(store, row, definitions[row.definition_hash], server) for row in store.rows(TABLES[CycleRow])]


def _cycle(store: Look, row: CycleRow, definition: bytes, server: Retention) -> KeptCycle:
    ages = ages_of(decode_definition(definition).settings.retention, server)
    names = ("running", "held", "completed", "failed", "stopped", "parked")
    ((purged,),) = store.select("SELECT count(*) FROM transactions WHERE cycle = ? AND purged = 1", (row.name,))
    held = store.select(
        "SELECT id, idle FROM transactions WHERE idle > 0 AND cycle = ? AND status = 'held' AND purged = 0 "
        "ORDER BY idle LIMIT 1",
        (row.name,),
    )
    oldest = "".join(f"{transaction_name(row.name, one)}, since {instant(idle)}" for one, idle in held)
    return KeptCycle(row.name, _ages(ages), {name: getattr(row, name) for name in names}, purged, oldest)


def _ages(ages: Ages) -> dict[str, str]:
    return {name: _days(getattr(ages, name)) for name in Ages.__struct_fields__}


def _days(age: int) -> str:
    return f"{age / DAY_NS:g} days" if age else "forever"


def cycle_line(one: KeptCycle) -> str:
    """A cycle in words."""
    counts = ", ".join(f"{count} {status}" for status, count in one.counts.items() if count) or "nothing"
    oldest = f" (the oldest hold: {one.oldest_held})" if one.oldest_held else ""
    purged = f", {one.purged} without their data" if one.purged else ""
    ages = ", ".join(f"{name} {age}" for name, age in one.ages.items())
    return f"{one.cycle}: {counts}{purged}{oldest}; kept: {ages}"
