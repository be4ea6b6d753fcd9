"""Pages of transactions, newest first, by any combination of filters, at a cost that history does not raise.

1. A page walks ids downwards from where the last one ended, along the narrowest index there is: the values of match
   keys, or the places (cycle, status, step) that fit, merged; of places there are as many as definitions make.
2. Each candidate is looked at as a row before it is shown, so that every filter holds exactly.
3. A page looks at `EXAMINED_MAX` candidates at most; then it ends early, and says where to go on.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from typing import Any

from msgspec import Struct

from protocol.state import HitRow, TransactionRow
from runtime.store.database import Database
from runtime.store.rows import TABLES

EXAMINED_MAX = 2000  # Rows of one page, at 10 µs each: a look holds up the turns of all cycles.
RUN_MIN, RUN_MAX = 8, 512  # Ids read at once along one index: few at first, since most merged places give none.
SLACK_NS = 1_000_000_000  # A transaction is as old as its request, which waits for its turn less than this.
ID_MAX = 2**62
BEHIND = "\x01"  # Added to a name: behind it, before any other. With `>` SQLite would walk all that are at the place.
AT_PLACE = "transactions INDEXED BY transactions_by_place"  # Left alone, SQLite walks ids instead: all of history.

Place = tuple[str, str, str]


class Filter(Struct, frozen=True, kw_only=True):
    """Which transactions; what is empty does not matter."""

    cycle: str = ""
    status: str = ""
    step: str = ""
    values: frozenset[str] = frozenset()  # Canonical texts, of which a match key holds one.
    since: int = 0  # Created at this instant or after it.
    until: int = ID_MAX  # Created before this instant.


class Page(Struct, frozen=True):
    """Transactions, and the id to go on after; None at the end."""

    rows: list[TransactionRow]
    next: int | None


def find_transactions(
    database: Database, wanted: Filter, after: int, limit: int, fits: Callable[[TransactionRow], bool] = lambda _: True
) -> Page:
    """One page.

    Args:
        database: the store, which has all that is to be found.
        wanted: the filters.
        after: the id that ended the page before, -1 for the first page.
        limit: the most rows to give.
        fits: one more filter, on rows that fit all others.
    """
    table = TABLES[TransactionRow]
    lowest = _id_at(database, wanted.since - SLACK_NS) if wanted.since else 0
    below = _id_at(database, wanted.until + SLACK_NS) if wanted.until < ID_MAX else ID_MAX
    below = min(below, after) if after >= 0 else below
    rows: list[TransactionRow] = []
    latest = -1
    for examined, found in enumerate(_candidates(database, wanted, lowest, below)):
        if len(rows) == limit or examined == EXAMINED_MAX:
            return Page(rows, latest)
        latest = found
        row = database.row(table, found)
        if row is not None and _fits(row, wanted) and fits(row):
            rows.append(row)
    return Page(rows, None)


def find_expired(database: Database, wanted: Filter, after: int, limit: int) -> tuple[list[HitRow], int | None]:
    """A page of the hits that came in vain, newest first, and the id to go on after; `status` is not looked at."""
    below = after if after >= 0 else ID_MAX
    newest = "status = 'expired' AND id < ? ORDER BY id DESC LIMIT ?"
    examined = list(database.rows(TABLES[HitRow], newest, (below, EXAMINED_MAX)))
    rows: list[HitRow] = []
    for place, row in enumerate(examined):
        if len(rows) == limit:
            return rows, examined[place - 1].id
        if _expired_fits(row, wanted):
            rows.append(row)
    return rows, examined[-1].id if len(examined) == EXAMINED_MAX else None


def _expired_fits(row: HitRow, wanted: Filter) -> bool:
    return (
        wanted.cycle in ("", row.cycle)
        and wanted.step in ("", row.step)
        and wanted.since <= row.at < wanted.until
        and (not wanted.values or not wanted.values.isdisjoint(row.key))
    )


def _fits(row: TransactionRow, wanted: Filter) -> bool:
    return (
        wanted.cycle in ("", row.cycle)
        and wanted.status in ("", row.status)
        and wanted.step in ("", row.step)
        and wanted.since <= row.created < wanted.until
    )


def _candidates(database: Database, wanted: Filter, lowest: int, below: int) -> Iterator[int]:
    """Ids that may fit, each once, in descending order."""
    sources: list[tuple[str, tuple[str, ...]]]
    if wanted.values:
        sources = [("matched WHERE value = ?", (value,)) for value in wanted.values]
    elif wanted.cycle or wanted.status or wanted.step:
        places = _places(database, wanted)
        sources = [(f"{AT_PLACE} WHERE cycle = ? AND status = ? AND step = ?", place) for place in places]
    else:
        sources = [("transactions WHERE 1", ())]
    runs = [_descending(database, source, values, lowest, below) for source, values in sources]
    latest = -1
    for found in merge(*runs, reverse=True):
        if found != latest:
            latest = found
            yield found


def _descending(database: Database, source: str, values: tuple[Any, ...], lowest: int, below: int) -> Iterator[int]:
    size = RUN_MIN
    statement = f"SELECT id FROM {source} AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608 - One of three literals.
    while True:
        found = database.select(statement, (*values, lowest, below, size))
        for (one,) in found:
            yield one
        if len(found) < size:
            return
        below = found[-1][0]
        size = min(2 * size, RUN_MAX)


def _places(database: Database, wanted: Filter) -> Iterator[Place]:
    """The places that transactions are at and that fit, found by leaping from one to the next along the index."""
    statement = (
        f"SELECT cycle, status, step FROM {AT_PLACE} "  # noqa: S608 - A constant of ours.
        "WHERE (cycle, status, step) >= (?, ?, ?) ORDER BY cycle, status, step LIMIT 1"
    )
    at: Place = (wanted.cycle, "", "")
    while found := database.select(statement, (*at[:2], at[2] + BEHIND)):
        at = found[0]
        if wanted.cycle and at[0] != wanted.cycle:
            return
        if wanted.status in ("", at[1]) and wanted.step in ("", at[2]):
            yield at


def _id_at(database: Database, instant: int) -> int:
    """The lowest id that was created at an instant or after it: ids ascend with time."""
    ends = "SELECT (SELECT min(id) FROM transactions), (SELECT max(id) FROM transactions)"
    first, last = database.select(ends)[0]
    low, high = (0, 0) if first is None else (int(first), int(last) + 1)
    while low < high:
        middle = (low + high) // 2
        found = database.select("SELECT id, created FROM transactions WHERE id >= ? ORDER BY id LIMIT 1", (middle,))
        if found[0][1] >= instant:
            high = middle
        else:
            low = found[0][0] + 1
    return low
