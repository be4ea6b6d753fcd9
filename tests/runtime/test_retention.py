"""Retention over a real journal and store: rows go when they are old, segments when nothing needs them (section 11)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog.testing
import trio
import trio.testing

from journal import JournalFull, LocalLog, verify
from protocol.ages import Retention as Said
from protocol.inputs import Accepted, Input, Retain
from protocol.state import HitRow, IncidentRow, TransactionRow
from runtime.blocking import on_the_spot
from runtime.deployed import read_known
from runtime.replay import fold_journal
from runtime.retention import BATCH, ROUND_S_MAX, Retention
from runtime.snapshots import HistoryDropped
from runtime.store import Database, digest
from runtime.store.rows import TABLES
from runtime.ticket import Ticket
from tests.runtime.rig import Rig, running

DAY = 86_400
NOTES = """
cycle: notes
connectors: {shop: {}}
steps:
  noted: {webhook: shop, fields: {n: integer, text: text}}
  told: {respond: {body: {n: "{{ noted.n }}"}}}
"""
HOLDS = """
cycle: holds
connectors: {shop: {}}
settings: {retention: {held: 40 days, failed: 50 days}}
steps:
  asked: {webhook: shop, fields: {job: integer}}
  back: {webhook: shop, fields: {job: integer}, match: {job: asked.job}}
  done: {decide: "true"}
"""
SMALL: dict[str, Any] = {"segment_bytes": 64 << 10}
TEXT = "x" * 2000


def retaining(rig: Rig, **said: str) -> Retention:
    """Retention without threads: their time is no time of the test's clock, which would run ahead."""
    keeping = Retention(rig.engine, rig.log, Said(**said))
    keeping.blocking, keeping.pause = on_the_spot, lambda: None
    return keeping


async def until(told: Callable[[], bool]) -> None:
    """Wait for something that happens within an hour."""
    with trio.fail_after(60 * ROUND_S_MAX):
        while not told():  # noqa: ASYNC110 - Of a log and a journal, which wake nobody.
            await trio.sleep(1)


async def note(rig: Rig, count: int, **headers: str) -> None:
    """Requests that run to their end, and are answered."""
    for number in range(count):
        ticket = rig.hit("notes", "noted", {"n": number, "text": TEXT}, **headers)
        outcome = await ticket.decided()
        rig.engine.settle("notes", outcome.waits, "sent")
    await rig.engine.checkpointed()


def rows(rig: Rig) -> tuple[int, int, int]:
    """How many transactions, hits and incidents the store has."""
    kinds = (TransactionRow, HitRow, IncidentRow)
    found = [sum(1 for _ in rig.engine.state.database.rows(TABLES[kind])) for kind in kinds]
    return found[0], found[1], found[2]


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "journal").glob("*.seg"))


def forget_store(folder: Path) -> None:
    for path in folder.glob("store.sqlite*"):
        path.unlink()


async def later(clock: trio.testing.MockClock, seconds: float) -> None:
    """Let time go by at once; second by second the store alone would look around twenty times in each."""
    clock.jump(seconds)
    await trio.sleep(1)


async def test_11_what_is_over_goes_by_age_and_what_is_held_stays(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """By default completed ones are kept for 30 days; more than one batch goes, and the counts of the cycle follow."""
    async with running(tmp_path, NOTES, HOLDS) as rig:
        rig.hit("holds", "asked", {"job": 1})
        await note(rig, BATCH + 20)
        await later(autojump_clock, 29 * DAY)
        keeping = retaining(rig)
        await keeping.round()
        assert rows(rig) == (BATCH + 21, BATCH + 21, 0)
        await later(autojump_clock, 2 * DAY)
        await keeping.round()
        await rig.engine.checkpointed()
        assert rows(rig) == (1, 1, 0)
        assert rig.engine.state.cycle("notes").completed == 0
        assert rig.engine.state.cycle("holds").held == 1
        before = digest(rig.engine.state.database)
        assert digest(fold_journal(LocalLog.open_reader(tmp_path / "journal")).state) == before


async def test_11_a_hold_expires_by_the_age_of_its_cycle(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """With an incident in the log and in the store; and by and by nothing is left of it."""
    async with running(tmp_path, HOLDS) as rig:
        outcome = await rig.hit("holds", "asked", {"job": 1}).decided()
        assert isinstance(outcome.verdict, Accepted)
        keeping = retaining(rig, held="1 day", failed="1 day")
        await later(autojump_clock, 39 * DAY)
        await keeping.round()
        assert rig.engine.state.transaction(outcome.verdict.transaction).status == "held"
        await later(autojump_clock, 2 * DAY)
        with structlog.testing.capture_logs() as logs:
            await keeping.round()
        assert [one["kind"] for one in logs if one["event"] == "incident"] == ["retention_expired"]
        assert rig.engine.state.transaction(outcome.verdict.transaction).status == "failed"
        await later(autojump_clock, 51 * DAY)
        await keeping.round()
        await rig.engine.checkpointed()
        assert rows(rig) == (0, 0, 0)


async def test_11_a_turn_of_retention_is_bounded_and_the_loop_rests_after_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One input at a time, of at most a batch; a request that comes meanwhile waits for one of them at most."""
    sizes: list[int] = []
    async with running(tmp_path, NOTES) as rig:
        await note(rig, 2 * BATCH + 7)
        await later(autojump_clock, 31 * DAY)
        order = rig.engine.order
        latest: Ticket | None = None

        def ordered(given: Input) -> Ticket:
            nonlocal latest
            assert latest is None or latest.outcome is not None, "one at a time"
            assert isinstance(given, Retain)
            sizes.append(len(given.transactions) + len(given.hits) + len(given.incidents))
            latest = order(given)
            return latest

        monkeypatch.setattr(rig.engine, "order", ordered)
        await retaining(rig).round()
        monkeypatch.undo()
    assert sizes == [BATCH, BATCH, 7] * 2


async def test_4_a_delivery_is_known_for_its_window_though_all_else_is_gone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Section 4, over a store that was lost and a journal that was cut: the first answer, byte for byte."""
    said = NOTES.replace("fields:", "dedupe: {header: x-id, window: 100 days}, fields:")
    async with running(tmp_path, said, **SMALL) as rig:
        first = await rig.ask("notes", "noted", {"n": 7, "text": "t"}, **{"x-id": "d1"})
        await note(rig, 100)
        for hit in list(rig.engine.state.database.rows(TABLES[HitRow], "waiting = 1")):
            rig.engine.settle("notes", hit.id, "sent")
        await later(autojump_clock, 31 * DAY)
        await retaining(rig).round()
        await rig.engine.checkpointed()
        assert rows(rig) == (0, 1, 0)
        again = await rig.ask("notes", "noted", {"n": 7, "text": "t"}, **{"x-id": "d1"})
        assert again == first


async def test_11_segments_go_with_what_they_held_and_a_lost_store_comes_back_from_the_snapshot(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The journal then begins late: the disk shrinks, and the snapshot and the tail give the same digest."""
    async with running(tmp_path, NOTES, HOLDS, **SMALL) as rig:
        await note(rig, 200)
        keeping = retaining(rig)
        await keeping.round()
        assert rig.log.first_seq == 0
        assert rig.log.snapshots("local") == ()
        await later(autojump_clock, 31 * DAY)
        before = disk(tmp_path)
        await keeping.round()
        first = rig.log.first_seq
        assert first > 1000
        assert disk(tmp_path) < before / 4
        rig.hit("holds", "asked", {"job": 5})
        await note(rig, 3)
        kept = rows(rig)
    live = store_digest(tmp_path)
    reader = LocalLog.open_reader(tmp_path / "journal")
    assert reader.first_seq == first
    assert digest(fold_journal(reader).state) == live
    assert verify(tmp_path / "journal").faults == ()
    with pytest.raises(HistoryDropped, match="the earliest moment that can be shown is event"):
        fold_journal(reader, 5)
    forget_store(tmp_path)
    known = read_known(reader, tmp_path / "store.sqlite")
    assert sorted(known.cycles) == ["holds", "notes"]
    async with running(tmp_path, NOTES, HOLDS, **SMALL) as rig:
        assert rows(rig) == kept
        assert rig.engine.state.cycle("holds").held == 1
        outcome = await rig.hit("holds", "back", {"job": 5}).decided()
        assert outcome.reply is not None
        assert msgspec.json.decode(outcome.reply.body)["status"] == "resumed"
    assert digest(fold_journal(LocalLog.open_reader(tmp_path / "journal")).state) == store_digest(tmp_path)


def store_digest(folder: Path) -> str:
    """That of a stopped server."""
    database = Database(folder / "store.sqlite")
    try:
        return digest(database)
    finally:
        database.close()


async def test_11_what_is_held_keeps_its_history(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Its events are there to be looked at until it is over and its age is; then they go."""
    async with running(tmp_path, NOTES, HOLDS, **SMALL) as rig:
        await rig.hit("holds", "asked", {"job": 1}).decided()
        await note(rig, 100)
        keeping = retaining(rig)
        await later(autojump_clock, 35 * DAY)
        await keeping.round()
        assert rig.log.first_seq == 0, "the hold began in the first segment"
        await later(autojump_clock, 10 * DAY)
        await keeping.round()
        await later(autojump_clock, 60 * DAY)
        await keeping.round()
        assert rig.log.first_seq > 0
        assert rig.engine.state.cycle("holds").failed == 0


async def test_11_data_goes_from_the_disk_before_its_skeleton_goes_from_the_store(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """`bodies`: a week after, nothing of what was sent is in any file; who and when is still shown."""
    async with running(tmp_path, NOTES, **SMALL) as rig:
        ticket = rig.hit("notes", "noted", {"n": 1, "text": "PERSONAL" * 10})
        rig.engine.settle("notes", (await ticket.decided()).waits, "sent")
        await note(rig, 100)
        await later(autojump_clock, 8 * DAY)
        keeping = retaining(rig, bodies="7 days", completed="30 days")
        await keeping.round()
        await rig.engine.checkpointed()
        assert rows(rig) == (101, 101, 0)
        row = next(iter(rig.engine.state.database.rows(TABLES[TransactionRow], "1 ORDER BY id")))
        assert (row.status, row.data) == ("completed", {})
    files = [path for path in (tmp_path / "journal").iterdir() if path.is_file()]
    assert not [path.name for path in files if b"PERSONAL" in path.read_bytes()]


async def test_11_a_full_disk_drops_nothing_and_is_tried_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for a snapshot the segments stay; requests are not refused for it."""
    async with running(tmp_path, NOTES, **SMALL) as rig:
        await note(rig, 100)
        full = True
        save = rig.log.save_snapshot

        def saving(*arguments: Any, **more: Any) -> None:
            if full:
                raise JournalFull("no space for a snapshot")
            save(*arguments, **more)

        monkeypatch.setattr(rig.log, "save_snapshot", saving)
        keeping = retaining(rig, completed="1 day")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeping.run)
            with structlog.testing.capture_logs() as logs:
                await later(autojump_clock, 2 * DAY)
                await until(lambda: any(one["event"] == "retention waits for room" for one in logs))
            assert rig.log.first_seq == 0
            full = False
            await until(lambda: rig.log.first_seq > 0)
            nursery.cancel_scope.cancel()


async def test_11_a_store_is_not_given_up_while_nothing_could_replace_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Given a cut journal whose snapshots are lost, when the store is of no use, then it is left where it is."""
    async with running(tmp_path, NOTES, **SMALL) as rig:
        await note(rig, 100)
        await later(autojump_clock, 31 * DAY)
        await retaining(rig).round()
    for path in (tmp_path / "journal").glob("*.snap"):
        path.unlink()
    async with running(tmp_path, NOTES, **SMALL) as rig:
        assert rows(rig) == (0, 0, 0)
    (tmp_path / "store.sqlite").write_bytes(b"no database, and yet somebody may know how to read it")
    with pytest.raises(HistoryDropped, match=r"put store\.sqlite or a \.snap file of this journal back"):
        async with running(tmp_path, NOTES, **SMALL):
            pass
    assert (tmp_path / "store.sqlite").exists()


async def test_11_nothing_old_means_no_snapshot_and_no_event(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A round over what is young, or kept for ever, leaves no trace."""
    async with running(tmp_path, NOTES) as rig:
        await note(rig, 10)
        await later(autojump_clock, 400 * DAY)
        before = rig.engine.next_seq
        await retaining(rig, completed="forever").round()
        assert rig.engine.next_seq == before
        assert rig.log.snapshots("local") == ()


async def test_11_a_snapshot_is_not_written_again_while_nothing_happens(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments go up to the older of two; where that holds one back, the same state once more would not help."""
    saved: list[int] = []
    async with running(tmp_path, NOTES, **SMALL) as rig:
        save = rig.log.save_snapshot

        def saving(partition: str, seq: int, *state: Any, **more: Any) -> None:
            saved.append(seq)
            save(partition, seq, *state, **more)

        monkeypatch.setattr(rig.log, "save_snapshot", saving)
        keeping = retaining(rig)
        for _ in range(2):
            await note(rig, 100)
            await later(autojump_clock, 31 * DAY)
            for _ in range(3):
                await keeping.round()
                await later(autojump_clock, DAY)
        assert len(saved) == len(set(saved)) == 2
        assert rig.log.snapshots("local") == (saved[1], saved[0])
        assert rig.log.first_seq <= saved[0] + 1
