"""Pages of transactions (section 15): every filter exact, every page bounded, whatever the history."""

import itertools
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.evolve import evolve
from protocol.state import HitRow, TransactionRow
from runtime.door.matching import canonical_texts, matches_by
from runtime.store import Database, StoredState
from runtime.store.search import EXAMINED_MAX, Filter, Page, find_expired, find_transactions
from tests.protocol.story import NOON, SECOND, Story

STATUSES = ("running", "held", "completed", "failed", "stopped")
ORDER = """
cycle: order
connectors: {shop: {}}
steps:
  placed: {webhook: shop, fields: {id: {type: text, required: true}, total: decimal}}
  back: {webhook: shop, fields: {id: text, total: decimal}, match: {id: placed.id, total: placed.total}, next: end}
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def row(number: int, *, cycle: str = "a", status: Any = "held", step: str = "back", key: str = "") -> TransactionRow:
    """A transaction, created `number` seconds after noon."""
    made = TransactionRow(number, cycle, "", NOON + number * SECOND, 0, 0, None, status=status, step=step)
    made.reached = {step: [key]} if key else {}
    return made


def keep(database: Database, rows: list[TransactionRow]) -> None:
    """Put rows into the store, with the index entries that reaching a webhook makes."""
    state = StoredState(database)
    for one in rows:
        state.save(one)
        for step, key in one.reached.items():
            state.file("reached", (one.cycle, step, *key), one.id)
    state.checkpoint(0).write(database)


def ids(page: Page) -> list[int]:
    """The transactions of a page."""
    return [one.id for one in page.rows]


def all_pages(database: Database, wanted: Filter, limit: int) -> list[int]:
    """The transactions of all pages, one after the other."""
    found, after = list[int](), -1
    while True:
        page = find_transactions(database, wanted, after, limit)
        found += ids(page)
        assert len(page.rows) <= limit
        if page.next is None:
            return found
        after = page.next


def test_15_every_combination_of_filters_is_exact_whatever_the_page(database: Database) -> None:
    """Given many transactions, when they are listed page by page, then the list is what a plain scan finds."""
    chance = random.Random(15)
    rows = [
        row(
            number,
            cycle=chance.choice("ab"),
            status=chance.choice(STATUSES),
            step=chance.choice(("back", "end")),
            key=chance.choice(("", "7", "8")),
        )
        for number in sorted(chance.sample(range(2000), 200))
    ]
    keep(database, rows)
    for cycle, status, step, value in itertools.product(("", "a"), ("", "held"), ("", "end"), ("", "7")):
        for since, until in ((0, 10**9), (500, 10**9), (300, 1500)):
            wanted = Filter(
                cycle=cycle,
                status=status,
                step=step,
                values=frozenset([value]) if value else frozenset(),
                since=NOON + since * SECOND,
                until=NOON + until * SECOND,
            )
            expected = [
                one.id
                for one in reversed(rows)
                if cycle in ("", one.cycle)
                and status in ("", one.status)
                and step in ("", one.step)
                and (not value or [value] in one.reached.values())
                and since <= one.id < until
            ]
            for limit in (1, 7, 500):
                assert all_pages(database, wanted, limit) == expected


def test_given_a_filter_that_fits_little_when_listed_then_a_page_ends_early_and_says_where_to_go_on(
    database: Database,
) -> None:
    """The work of one page is bounded, so a look never holds up the server for long."""
    keep(database, [row(number, key="7", status="held" if number else "failed") for number in range(EXAMINED_MAX + 1)])
    wanted = Filter(values=frozenset(["7"]), status="failed")
    first = find_transactions(database, wanted, -1, 50)
    assert (ids(first), first.next) == ([], 1)
    assert find_transactions(database, wanted, 1, 50) == Page([row(0, key="7", status="failed")], None)


def test_given_a_long_history_when_one_value_is_looked_for_then_few_instructions_are_spent(database: Database) -> None:
    """The index makes it so; a scan would take a hundred times as many."""
    keep(database, [row(number, key=str(number), status=STATUSES[number % 5]) for number in range(20_000)])
    reader: sqlite3.Connection = vars(database)["_reader"]
    looks = (
        Filter(values=frozenset(["19"])),
        Filter(cycle="a", status="held", until=NOON + 100 * SECOND),
        Filter(step="back", since=NOON + 19_990 * SECOND),
        Filter(cycle="b"),
        Filter(until=NOON + 100 * SECOND),
    )
    for wanted in looks:
        spent = 0

        def count() -> int:
            nonlocal spent
            spent += 1
            return 0

        reader.set_progress_handler(count, 100)
        find_transactions(database, wanted, -1, 10)
        reader.set_progress_handler(None, 0)
        assert spent * 100 < 10_000, wanted


def test_given_a_clock_that_jitters_when_listed_by_time_then_nothing_is_missed(database: Database) -> None:
    """A request waits for its turn, so a later number can have an earlier time."""
    rows = [row(number) for number in range(0, 100, 10)]
    for late, one in enumerate(rows):
        one.created = NOON + late * SECOND // 100 - (late % 2) * SECOND // 2
    keep(database, rows)
    for since in range(-60, 60, 7):
        bound = NOON + since * SECOND // 100
        found = all_pages(database, Filter(since=bound), 3)
        assert sorted(found) == [one.id for one in rows if one.created >= bound]
        found = all_pages(database, Filter(until=bound), 3)
        assert sorted(found) == [one.id for one in rows if one.created < bound]


def test_a_value_finds_what_reached_its_webhook_and_no_longer_what_left_it(tmp_path: Path) -> None:
    """Given two keys of two values, when a pass drops one, then neither of its values finds the transaction."""
    story = Story(ORDER)
    for one in ("A1", "A2"):
        story.hit("placed", {"id": one, "total": "4.20"})
    database = Database(tmp_path / "store.sqlite")
    stored = StoredState(database)
    for seq, event in enumerate(story.journal):
        evolve(stored, event, seq)
        stored.checkpoint(seq).write(database)
    first, second = sorted(story.state.transactions)

    def found(value: str) -> list[int]:
        wanted = Filter(values=canonical_texts(value))
        return ids(find_transactions(database, wanted, -1, 10, lambda row: matches_by(stored, row, value=value)))

    assert found("A1") == [first]
    assert found("4.2") == found("4.200") == [second, first]
    assert found("order") == found("back") == found("") == []
    stored.unfile("reached", ("order", "back", "A1", "4.2"), first)
    stored.checkpoint(len(story.journal)).write(database)
    assert found("A1") == []
    assert found("4.2") == [second]
    database.close()


def test_a_value_is_compared_by_the_type_declared_where_it_matches() -> None:
    """`007` is `7` as an integer, and is not as text."""
    story = Story(ORDER, ORDER.replace("order", "numbers", 1).replace("text", "integer"))
    story.hit("placed", {"id": "7", "total": 1})
    story.hit("placed", {"id": 7, "total": 1}, cycle="numbers")
    text, number = (story.state.transactions[one] for one in sorted(story.state.transactions))
    assert (matches_by(story.state, text, value="7"), matches_by(story.state, text, value="007")) == (True, False)
    assert (matches_by(story.state, number, value="7"), matches_by(story.state, number, value="007")) == (True, True)


def expired(number: int, *, cycle: str = "a", step: str = "back", key: str = "") -> HitRow:
    """A hit that came `number` seconds after noon, and was parked in vain."""
    hit = HitRow(number, cycle, step, NOON + number * SECOND, "POST", {}, {}, b"", "", "", "", False, 0)  # noqa: FBT003 - As the row has it.
    hit.status, hit.key = "expired", [key]
    return hit


@pytest.mark.parametrize("limit", [1, 3, 500])
def test_13_expired_hits_are_found_page_by_page_by_any_filter(
    database: Database, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 13: newest first, each once, also when a page ends early because it has looked at enough."""
    monkeypatch.setattr("runtime.store.search.EXAMINED_MAX", 4)
    state = StoredState(database)
    for number in range(1, 21):
        state.save(expired(number, cycle="ab"[number % 2], step="xy"[number % 3 == 0], key=str(number % 5)))
    kept = expired(21)
    kept.status = "done"
    state.save(kept)
    state.checkpoint(0).write(database)

    def found(**wanted: Any) -> list[int]:
        pages: list[int] = []
        after: int | None = -1
        while after is not None:
            rows, after = find_expired(database, Filter(**wanted), after, limit)
            assert len(rows) <= limit
            pages += [one.id for one in rows]
        return pages

    assert found() == list(range(20, 0, -1))
    assert found(cycle="a") == list(range(20, 0, -2))
    assert found(step="y") == list(range(18, 0, -3))
    assert found(values=frozenset({"2"})) == [17, 12, 7, 2]
    assert found(since=NOON + 5 * SECOND, until=NOON + 8 * SECOND) == [7, 6, 5]
