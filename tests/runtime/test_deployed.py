"""What a journal knows of its cycles, with a store beside it, half of one, or none that is of use."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from journal import LocalLog
from protocol.evolve import evolve
from protocol.inputs import Deploy
from protocol.loading import Source, encode_definition, load_project
from runtime.deployed import Known, read_known
from runtime.masking import MASK
from runtime.store import Database, StoredState
from tests.protocol.story import Story
from tests.runtime.journals import PAY, journaled, payments

OPEN = PAY.replace(", sensitive: true", "").replace("  answer:", "  later:")


def redeployed() -> Story:
    """Payments, and then a version that has nothing sensitive and another last step."""
    story = payments()
    definitions, _ = load_project([Source("pay.cycle.yaml", OPEN)])
    story.put(Deploy("pay", story.at, encode_definition(definitions["pay"]), "open", {"asked": "pay-asked"}))
    return story


def stored(path: Path, story: Story, until: int) -> None:
    """A store that covers a story up to a sequence number."""
    database = Database(path)
    state = StoredState(database)
    for seq, event in enumerate(story.journal[: until + 1]):
        evolve(state, event, seq)
    state.checkpoint(until).write(database)
    database.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def of_another_version(path: Path) -> None:
    stored(path, payments(), 3)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    connection.close()


def of_a_journal_that_was_longer(path: Path) -> None:
    story = Story(PAY.replace("pay", "gone"))
    stored(path, story, len(story.journal) - 1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = 10000 WHERE name = 'applied'")
    connection.close()


def assert_known(known: Known) -> None:
    """The newest version, every identifier, and what any version hid."""
    assert list(known.cycles) == ["pay"]
    cycle = known.cycles["pay"]
    assert list(cycle.definition.steps)[-1] == "later"
    assert cycle.webhooks == {"asked": "pay-asked", "settled": "pay-settled"}
    assert known.hidden("pay").data("asked", {"card": "x"}) == {"card": MASK}
    assert known.hidden("never").data("asked", {"card": "x"}) == {"card": "x"}


@pytest.mark.parametrize("until", [None, 0, 2, 20, -1])
def test_given_a_store_that_covers_some_of_the_journal_then_the_rest_is_read_from_it(
    tmp_path: Path, until: int | None
) -> None:
    """From nothing to all of it, the same is known."""
    story = redeployed()
    data = journaled(tmp_path, story)
    if until is not None:
        stored(tmp_path / "store.sqlite", story, len(story.journal) - 1 if until < 0 else until)
    reader = LocalLog.open_reader(data / "journal")
    assert_known(read_known(reader, tmp_path / "store.sqlite"))


@pytest.mark.parametrize("useless", [garbage, of_another_version, of_a_journal_that_was_longer])
def test_given_a_store_that_is_of_no_use_then_the_journal_alone_says_it(
    tmp_path: Path, useless: Callable[[Path], None]
) -> None:
    """And a look changes nothing: the next start decides what to do with the file."""
    data = journaled(tmp_path, redeployed())
    store = tmp_path / "store.sqlite"
    useless(store)
    before = store.read_bytes()
    told: list[int] = []
    reader = LocalLog.open_reader(data / "journal")
    assert_known(read_known(reader, store, told.append))
    assert told[-1] == reader.next_seq
    assert store.read_bytes() == before
