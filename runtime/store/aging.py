"""What of a store is old enough for retention to look at, and how far back what is kept reaches.

These are offers, page by page: whether a row goes is decided by the core, which looks at it again. Each page costs as
much as it is long, but for requests and incidents, whose pages walk over those that stay.
"""

from typing import Literal, NamedTuple

from protocol.ages import Ages
from runtime.store.look import Look

Place = tuple[int, int]
"""When a transaction last changed, and its id."""

Kind = Literal["hits", "incidents"]

START: Place = (0, 0)

_TRANSACTIONS = (
    "SELECT idle, id FROM transactions WHERE idle > 0 "  # As the index has it.
    "AND cycle = ? AND status = ? AND purged = ? AND (idle, id) > (?, ?) AND idle <= ? ORDER BY idle, id LIMIT ?"
)
_HITS = (
    "SELECT hits.id, hits.cycle FROM hits LEFT JOIN transactions AS owner ON owner.id = hits.txn "
    "WHERE hits.id > ? AND hits.status IN ('done', 'expired', 'ignored') "
    "AND (owner.id IS NULL OR owner.purged > hits.purged) ORDER BY hits.id LIMIT ?"
)
_INCIDENTS = (
    "SELECT incidents.id, incidents.cycle FROM incidents LEFT JOIN transactions AS owner ON owner.id = incidents.txn "
    "WHERE incidents.id > ? AND owner.id IS NULL ORDER BY incidents.id LIMIT ?"
)
_FLOOR = "SELECT id FROM {} WHERE id >= ? AND purged = 0 ORDER BY id LIMIT 1"


class Stage(NamedTuple):
    """Transactions of one status, with their data or without, and the age past which something is to be done."""

    status: str
    purged: int
    age: int


def stages(ages: Ages) -> list[Stage]:
    """What ages ask to look at."""
    found = [Stage("held", 0, ages.held)]
    for status, age in (("completed", ages.completed), ("failed", ages.failed), ("stopped", ages.failed)):
        found.append(Stage(status, 0, min((one for one in (age, ages.bodies) if one), default=0)))
        found.append(Stage(status, 1, age))
    return [stage for stage in found if stage.age]


def aged(look: Look, cycle: str, stage: Stage, at: int, after: Place, limit: int) -> list[Place]:
    """Transactions of a cycle past an age, the oldest first."""
    return look.select(_TRANSACTIONS, (cycle, stage.status, stage.purged, *after, at - stage.age, limit))


def ownerless(look: Look, kind: Kind, after: int, limit: int) -> list[tuple[int, str]]:
    """Requests that are over, and incidents, that have no transaction any more or never had: ids and cycles.

    Requests of a transaction that was purged are among them until they are purged too.
    """
    return look.select(_HITS if kind == "hits" else _INCIDENTS, (after, limit))


def floor(look: Look, known: int) -> int:
    """The first event of anything that is kept with what it carries; what is older only skeletons may refer to.

    Args:
        look: the store.
        known: a floor found before; it only ever rises, since what is purged stays so.
    """
    found = [int(one) for table in ("transactions", "hits") for (one,) in look.select(_FLOOR.format(table), (known,))]
    return min((*found, look.meta("applied") + 1))
