"""The state seam: rows over SQLite are the rows in memory, wherever checkpoints fall (invariant 5)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.evolve import evolve
from protocol.inputs import Accepted
from protocol.memory import MemoryState
from protocol.state import IncidentRow, State, TransactionRow
from runtime.store import Database, StoredState, digest
from runtime.store.rows import TABLES
from tests.protocol.story import Story
from tests.protocol.test_cycle import ORDER
from tests.protocol.test_waits import LATER


def eventful() -> Story:
    """A story with passes, parking, a queue, repeats, a failure, an expiry, a stop, a restart, redrives, retention."""
    story = Story(ORDER)
    for job in range(3):
        story.hit("changed", {"job_id": job, "status": "Early"})
        asked = story.hit("placed", {"order": f"A{job}"}, headers={"idempotency-key": f"k{job}"})
        story.hit("placed", {"order": f"A{job}"}, headers={"idempotency-key": f"k{job}"})
        assert isinstance(asked, Accepted)
        story.answer({"job_id": job}, transaction=asked.transaction)
    story.hit("changed", {"job_id": 1, "status": "Despatched"})
    story.hit("changed", {"job_id": 1, "status": "Late"})
    story.answer(None, 500, transaction=max(row.id for row in story.state.transactions.values() if row.call))
    story.hit("placed", {"order": "open"})
    story.restart()
    story.later(700)
    story.stop()
    story.start()
    ended = [row.id for row in story.state.transactions.values() if row.status in ("failed", "stopped")]
    for item in ended:
        story.redrive("resume", item)
        story.redrive("rerun", item, "o2", again=True)
    story.redrive("redeliver", story.state.transaction(ended[0]).trigger, "o3", again=True)
    story.later(4 * 86_400)
    story.retain(completed=1, failed=1, bodies=1)
    story.hit("placed", {"order": "after"})
    return story


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_a_stored_state_gives_the_digest_of_memory_wherever_checkpoints_fall(tmp_path: Path, every: int) -> None:
    """Given one journal, when it is folded with a checkpoint every so many events, then the digest is the same."""
    story = eventful()
    database = Database(tmp_path / "store.sqlite")
    stored = StoredState(database)
    for seq, event in enumerate(story.journal):
        evolve(stored, event, seq)
        if seq % every == 0 or seq == len(story.journal) - 1:
            taken = stored.checkpoint(seq)
            taken.write(database)
            stored.written(taken)
    assert digest(database) == digest(story.state)
    assert database.meta("applied") == len(story.journal) - 1
    database.close()


def test_a_store_opened_again_goes_on_with_the_tail(tmp_path: Path) -> None:
    """Given a checkpoint half way, when a new process folds the rest, then nothing differs."""
    story = eventful()
    half = len(story.journal) // 2
    for part in (range(half), range(half, len(story.journal))):
        database = Database(tmp_path / "store.sqlite")
        stored = StoredState(database)
        assert database.meta("applied") == part.start - 1
        for seq in part:
            evolve(stored, story.journal[seq], seq)
        stored.checkpoint(part.stop - 1).write(database)
        database.close()
    database = Database(tmp_path / "store.sqlite")
    assert digest(database) == digest(story.state)
    database.close()


@pytest.fixture(params=["memory", "stored"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """Each backend of the seam."""
    if request.param == "memory":
        yield MemoryState()
        return
    database = Database(tmp_path / "store.sqlite")
    yield StoredState(database)
    database.close()


def test_a_row_that_was_dropped_is_gone_whether_the_file_had_it_or_not(state: State) -> None:
    """Retention's drop: for good, before the checkpoint that tells the file and after it, and only that row."""
    rows = [IncidentRow(one, "c", 1, 0, "s", "filtered", "message", "info") for one in (1, 2, 3)]
    for row in rows:
        state.save(row)
    state.drop(IncidentRow, 1)
    _checkpoint(state, 1)
    state.drop(IncidentRow, 2)
    state.drop(IncidentRow, 77)
    for seq in (2, 3, 4):
        for one in (1, 2, 77):
            with pytest.raises(KeyError):
                state.incident(one)
        assert state.incident(3) == rows[2]
        _checkpoint(state, seq)


def test_a_row_dropped_while_a_checkpoint_with_it_is_written_stays_gone(tmp_path: Path) -> None:
    """The file gets it, a moment after it was dropped; nobody finds it there, and the next checkpoint removes it."""
    database = Database(tmp_path / "store.sqlite")
    stored = StoredState(database)
    stored.save(IncidentRow(1, "c", 1, 0, "s", "filtered", "message", "info"))
    taken = stored.checkpoint(1)
    stored.drop(IncidentRow, 1)
    taken.write(database)
    stored.written(taken)
    with pytest.raises(KeyError):
        stored.incident(1)
    _checkpoint(stored, 2)
    assert not list(database.rows(TABLES[IncidentRow]))
    database.close()


def _checkpoint(state: State, seq: int) -> None:
    if isinstance(state, StoredState):
        taken = state.checkpoint(seq)
        taken.write(state.database)
        state.written(taken)


def test_ids_are_found_under_their_key_first_and_last(state: State) -> None:
    """The index is ordered by id, bounded, and forgets what is unfiled."""
    for one in (5, 1, 9, 3, 9):
        state.file("reached", ("c", "step", "42"), one)
    state.file("reached", ("c", "step", "43"), 7)
    assert state.find("reached", ("c", "step", "42"), 3) == [1, 3, 5]
    assert state.find_latest("reached", ("c", "step", "42"), 2) == [9, 5]
    state.unfile("reached", ("c", "step", "42"), 9)
    state.unfile("reached", ("c", "step", "42"), 77)
    assert state.find_latest("reached", ("c", "step", "42"), 2) == [5, 3]
    assert state.find("parked", ("c", "step", "42"), 3) == []
    with pytest.raises(KeyError):
        state.transaction(1)


def test_9_a_pass_that_waits_is_in_progress_but_not_in_memory(tmp_path: Path) -> None:
    """Section 9: a million delays cost rows, not memory, and a stop still finds every one of them."""
    story = Story(LATER)
    story.hit("asked", {"at": 0})
    story.hit("asked", {"at": 0})
    database = Database(tmp_path / "store.sqlite")
    stored = StoredState(database)
    for seq, event in enumerate(story.journal):
        evolve(stored, event, seq)
    assert stored.running_count == 0
    taken = stored.checkpoint(len(story.journal) - 1)
    assert stored.running("later") == story.state.running("later"), "before the file has them"
    taken.write(database)
    stored.written(taken)
    assert stored.changed_rows(TransactionRow) == []
    assert stored.running("later") == story.state.running("later")
    assert len(stored.running("later")) == 2
    database.close()
