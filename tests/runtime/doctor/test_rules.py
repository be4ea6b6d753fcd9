"""The invariants asked of a store: each break made by hand is found and named, and a good store has none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from journal import LOCAL_PARTITION, LocalLog
from protocol.events import decode_events
from protocol.inputs import Continue, Recover
from protocol.state import HitRow, TransactionRow
from runtime.doctor.live import Doctor, Scrub, ahead_of
from runtime.doctor.rest import caught_up, invariant_checks
from runtime.doctor.rules import Looked, Looking, look_through
from tests.runtime.doctor.patients import change, execute, lived, settled, transaction_id

FOREVER = 1e9


def looked_at(folder: Path, seconds: float = FOREVER) -> Looked:
    """What a look at a stopped project comes to."""
    reader = LocalLog.open_reader(folder / "journal")
    with caught_up(folder / "store.sqlite", reader) as look:
        return look_through(Looking(look), seconds=seconds)


async def made(folder: Path) -> Path:
    """A stopped project; returns its store."""
    async with lived(folder):
        pass
    return folder / "store.sqlite"


async def test_given_a_store_that_turns_made_then_nothing_is_broken_and_all_was_looked_at(tmp_path: Path) -> None:
    """Three transactions and their hits, of every status."""
    await made(tmp_path)
    looked = looked_at(tmp_path)
    assert not looked.broken
    assert looked.whole
    assert looked.rows["transactions"] == 3
    assert looked.rows["hits"] == 5
    assert {check.level for check in invariant_checks(looked)} == {"ok"}


def _stuck(row: TransactionRow) -> None:
    row.step = "nowhere"


def _owns(row: TransactionRow) -> None:
    row.until = 5


def _body(row: HitRow) -> None:
    row.body = b"{}"


def _endless(row: HitRow) -> None:
    row.until = 0


ROWS: list[tuple[type[TransactionRow | HitRow], str, Callable[[Any], None], int, str]] = [
    (TransactionRow, "held", _stuck, 3, "jobs-{}"),
    (TransactionRow, "completed", _owns, 6, "jobs-{}"),
    (HitRow, "done", _body, 6, "hit {}"),
    (HitRow, "parked", _endless, 8, "hit {}"),
]


@pytest.mark.parametrize(
    ("kind", "status", "edit", "rule", "name"), ROWS, ids=[edit.__name__ for *_, edit, _, _ in ROWS]
)
async def test_given_a_row_changed_by_hand_then_it_is_named(
    tmp_path: Path, kind: Any, status: str, edit: Callable[[Any], None], rule: int, name: str
) -> None:
    """The rule by its number, the row by its name."""
    store = await made(tmp_path)
    one = change(store, kind, status, edit)
    found = looked_at(tmp_path)
    assert any(broken.rule == rule and name.format(one) in broken.said for broken in found.broken), found.broken


STATEMENTS = [
    ("DELETE FROM entries WHERE name = 'reached'", 5, "lacks"),
    ("UPDATE transactions SET status = 'failed' WHERE status = 'held'", 5, "columns"),
    ("UPDATE transactions SET row = x'c1' WHERE status = 'held'", 5, "can not be read"),
    ("DELETE FROM transactions WHERE status = 'failed'", 5, "it counts 1 failed, and there are 0"),
    ("DELETE FROM hits WHERE status = 'parked'", 5, "the index parked of jobs/back"),
    ("UPDATE entries SET key = x'c1' WHERE name = 'parked'", 5, "can not be read"),
]


@pytest.mark.parametrize(("statement", "rule", "words"), STATEMENTS)
async def test_given_a_table_changed_by_hand_then_it_is_told(
    tmp_path: Path, statement: str, rule: int, words: str
) -> None:
    """Indexes, counts and columns are beside the rows; each is held against them."""
    execute(await made(tmp_path), statement)
    found = looked_at(tmp_path)
    assert any(broken.rule == rule and words in broken.said for broken in found.broken), found.broken


async def test_given_a_request_parked_under_what_is_reached_then_4_is_broken_and_no_value_is_told(
    tmp_path: Path,
) -> None:
    """What requests match by may be somebody's secret."""
    store = await made(tmp_path)
    (reached,) = {row.reached["back"][0] for row in [_row(store, "held")]}
    execute(store, "DELETE FROM entries WHERE name = 'parked'")
    change(store, HitRow, "parked", lambda row: setattr(row, "key", [reached]))
    found = looked_at(tmp_path)
    assert any("5: the index lacks it" in one.said for one in found.broken)
    assert not any("'2'" in one.said or "'9'" in one.said for one in found.broken)


def _row(store: Path, status: str) -> TransactionRow:
    with caught_up(store, LocalLog.open_reader(store.parent / "journal")) as look:
        found = Looking(look).transaction(transaction_id(store, status))
    assert found is not None
    return found


async def test_given_a_store_behind_its_journal_then_it_is_caught_up_in_a_copy(tmp_path: Path) -> None:
    """As a crash leaves it: what is looked at is what the next start has, and nothing in the folder changes."""
    async with lived(tmp_path) as rig:
        (tmp_path / "older").write_bytes((tmp_path / "store.sqlite").read_bytes())
        await rig.hit("jobs", "asked", {"job": 4}).decided()
        await settled(rig)
    store = tmp_path / "store.sqlite"
    async with lived(tmp_path / "other"):
        pass
    reader = LocalLog.open_reader(tmp_path / "journal")
    execute(store, "UPDATE meta SET value = value WHERE name = 'applied'")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "journal").iterdir())
    with caught_up(store, reader) as look:
        assert look.meta("applied") == reader.next_seq - 1
    _rewind(store, tmp_path)
    with caught_up(store, reader) as look:
        assert look.meta("applied") == reader.next_seq - 1
        assert not look_through(Looking(look), seconds=FOREVER).broken
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "journal").iterdir())


def _rewind(store: Path, folder: Path) -> None:
    """Make a store that has the first event only."""
    from protocol.evolve import evolve
    from runtime.store import Database, StoredState

    store.unlink()
    database = Database(store)
    state = StoredState(database)
    frame = next(iter(LocalLog.open_reader(folder / "journal").read(LOCAL_PARTITION)))
    for seq, event in enumerate(decode_events(frame.payload), frame.base_seq):
        evolve(state, event, seq)
    state.checkpoint(frame.base_seq + frame.count - 1).write(database)
    database.close()


async def test_given_little_time_then_the_look_ends_and_says_so(tmp_path: Path) -> None:
    """A look of a large store is bounded."""
    store = await made(tmp_path)
    for number in range(1000, 1300):
        execute(store, "INSERT INTO entries VALUES ('ordered', x'91a161', ?)", number)
    looked = looked_at(tmp_path, seconds=0)
    assert not looked.whole
    assert looked.rows.total() == 200


# -- of a running server


async def test_given_a_running_server_then_only_what_two_looks_see_is_told(
    tmp_path: Path, virtual_time: object
) -> None:
    """A row that is broken for good is counted once, however often it is seen; one between two turns is not."""
    del virtual_time
    async with lived(tmp_path) as rig:
        doctor = Doctor(rig.engine)
        assert not (await doctor.look(10)).broken
        change(tmp_path / "store.sqlite", TransactionRow, "completed", _owns)
        await doctor.look(10)
        looked = await doctor.look(10)
        assert looked.counts == {6: 1}
        assert rig.engine.counters.broken == {6: 1}
        found = looked.broken
        change(tmp_path / "store.sqlite", TransactionRow, "completed", lambda row: setattr(row, "until", 0))
        assert not await doctor.confirm(found)


def test_given_inputs_in_the_mailbox_then_their_transactions_are_not_stuck() -> None:
    """A pass that one turn left over, and what a restart owes."""
    assert ahead_of([Continue("c", 1, 5), Recover("c", 1, (9,), (6, 7))]) == {5, 6, 7}


async def test_given_the_scrub_then_it_comes_by_every_row_and_counts_what_is_broken(
    tmp_path: Path, virtual_time: object
) -> None:
    """Rules of rows, of entries and of counts; it rests when nothing has changed since it looked at all."""
    del virtual_time
    async with lived(tmp_path) as rig:
        scrub = Scrub(Doctor(rig.engine))
        for _ in range(2):
            await scrub.round()
        assert not rig.engine.counters.broken
        assert scrub.done == rig.engine.next_seq - 1
        change(tmp_path / "store.sqlite", TransactionRow, "completed", _owns)
        execute(tmp_path / "store.sqlite", "DELETE FROM entries WHERE name = 'parked'")
        await scrub.round()
        assert rig.engine.counters.broken == {6: 1, 5: 1}
