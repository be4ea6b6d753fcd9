"""Old journals replay to what they gave when they were written, and every kind of event is in one of them."""

import shutil
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from journal import verify
from protocol.events import AnyEvent
from tests.golden.expectation import FOLDER, expectation, journals, read_expectation, replayed


@pytest.fixture(params=journals())
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The name of a golden journal, and a copy that a reader may sync."""
    name = str(request.param)
    return name, Path(shutil.copytree(FOLDER / name / "journal", tmp_path / name))


def test_given_a_golden_journal_when_replayed_then_every_row_is_what_it_was(golden: tuple[str, Path]) -> None:
    """Rule of `protocol/events.py`: its bytes outlive the code. By the fields of its day, down to the digest."""
    name, folder = golden
    expected = read_expectation(name)
    found = expectation(*replayed(folder), like=expected)
    for row, was in expected.rows.items():
        assert found.rows.get(row) == was, row
    assert found.rows.keys() == expected.rows.keys()
    assert found.entries == expected.entries
    assert found.events == expected.events
    assert found.digest == expected.digest


def test_given_a_golden_journal_when_checked_then_no_byte_is_wrong(golden: tuple[str, Path]) -> None:
    """The frames and segments of its day are read today."""
    report = verify(golden[1])
    assert report.faults == ()
    assert report.records == sum(read_expectation(golden[0]).events.values())


def test_given_a_kind_of_event_then_a_golden_journal_has_it() -> None:
    """A new kind needs a new journal: write its story in `tests/golden/stories.py`, then run `tests.golden.make`."""
    kinds = {kind.__name__ for kind in get_args(AnyEvent)}
    golden = {kind for name in journals() for kind in read_expectation(name).events}
    assert kinds - golden == set(), "these are in no golden journal"


def test_given_a_field_that_came_later_when_compared_then_it_does_not_count() -> None:
    """What a row gained since is no difference; what it lost or changed is one."""
    (name, *_) = journals()
    expected = read_expectation(name)
    state, kinds = replayed(FOLDER / name / "journal")
    fewer = msgspec.structs.replace(expected, fields={**expected.fields, "CycleRow": ["name"]})
    shown = expectation(state, kinds, like=fewer)
    assert shown.rows["CycleRow orders"] == {"name": "orders"}
    state.cycles["orders"].held += 1
    assert expectation(state, kinds, like=expected).digest != expected.digest
