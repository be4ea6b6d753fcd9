"""A state as bytes and back: what retention drops segments on the word of."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from protocol.evolve import evolve
from runtime.store import Database, StoredState, StoreError, digest
from runtime.store.dump import dump, fill, load
from tests.protocol.story import Story
from tests.runtime.test_state import eventful


def stored(path: Path, story: Story) -> Database:
    """A store that has folded a story."""
    database = Database(path)
    state = StoredState(database)
    for seq, event in enumerate(story.journal):
        evolve(state, event, seq)
    state.checkpoint(len(story.journal) - 1).write(database)
    return database


def cut(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of another size."""
    whole = b"".join(pieces)
    return (whole[at : at + size] for at in range(0, len(whole), size))


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_dump_gives_the_state_back_in_memory_and_on_disk(tmp_path: Path, size: int) -> None:
    """By digest, however the bytes are cut on the way."""
    story = eventful()
    database = stored(tmp_path / "store.sqlite", story)
    with database.aside() as look:
        pieces = list(dump(look))
    state, applied = load(cut(pieces, size))
    assert (digest(state), applied) == (digest(story.state), len(story.journal) - 1)
    again = Database(tmp_path / "again.sqlite")
    fill(again, cut(pieces, size), same_schema=True)
    assert digest(again) == digest(story.state)
    assert again.meta("applied") == len(story.journal) - 1
    found = again.select("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (table,) in found:
        ours, theirs = (one.select(f"SELECT * FROM {table} ORDER BY 1, 2") for one in (again, database))  # noqa: S608 - Names of the schema's.
        assert ours == theirs, f"the columns of {table} are derived alike"
    database.close()
    again.close()


def test_a_dump_is_of_one_moment_though_the_store_goes_on(tmp_path: Path) -> None:
    """Checkpoints are written meanwhile, and wait for nothing."""
    story = eventful()
    database = stored(tmp_path / "store.sqlite", story)
    before = digest(database)
    with database.aside() as look:
        blocks = dump(look)
        first = next(blocks)
        state = StoredState(database)
        state.cycle("orders").status = "stopping"
        state.save(state.cycle("orders"))
        state.checkpoint(10_000).write(database)
        found, applied = load([first, *blocks])
    assert (digest(found), applied) == (before, len(story.journal) - 1)
    assert digest(database) != before
    database.close()


def test_what_is_no_whole_dump_leaves_the_store_empty(tmp_path: Path) -> None:
    """All or nothing: half a state would be taken for a whole one."""
    database = stored(tmp_path / "store.sqlite", eventful())
    with database.aside() as look:
        whole = b"".join(dump(look))
    database.close()
    again = Database(tmp_path / "again.sqlite")
    empty = digest(again)
    for size in range(0, len(whole) - 1, 101):
        with pytest.raises(StoreError):
            fill(again, [whole[:size]], same_schema=True)
        assert (digest(again), again.meta("applied")) == (empty, -1)
    with pytest.raises(StoreError, match="format 9"):
        load([whole[:5] + b"\x09" + whole[6:]])
    again.close()


def test_a_state_that_does_not_give_its_digest_is_refused(tmp_path: Path) -> None:
    """The bytes are whole, and yet a row was not read as it was written."""
    database = stored(tmp_path / "store.sqlite", eventful())
    with database.aside() as look:
        *blocks, foot = dump(look)
    database.close()
    again = Database(tmp_path / "again.sqlite")
    forged = foot[:-1] + (b"0" if foot[-1:] != b"0" else b"1")
    with pytest.raises(StoreError, match="digest"):
        fill(again, [*blocks, forged], same_schema=True)
    assert again.meta("applied") == -1
    fill(again, [*blocks, forged], same_schema=False)  # Of another build, whose rows have other fields.
    assert again.meta("applied") > 0
    again.close()
