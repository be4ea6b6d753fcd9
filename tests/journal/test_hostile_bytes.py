"""Whatever happens to the bytes of a journal: it reads the same, or the checker says what is wrong."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal import JournalError, LocalLog, verify
from tests.fuzzing import fuzz
from tests.journal.disk import FOLDER, Disk
from tests.journal.stories import held, open_on
from tests.journal.test_check import build

BUILT, COUNT = build()
NAMES = [*BUILT.segments(), "MANIFEST"]
WRITTEN = {name: len(BUILT.content(name).rstrip(b"\0")) for name in NAMES}

Change = tuple[str, int, int, bytes]
"""A kind, a file, a place in it, and the bytes that come there."""

CHANGES = st.tuples(
    st.sampled_from(["flip", "insert", "cut", "overwrite", "append"]),
    st.integers(0, len(NAMES) - 1),
    st.integers(0, 1 << 20),
    st.binary(min_size=1, max_size=600) | st.sampled_from([bytes(512), b"\xff" * 64, bytes(4096)]),
)


def changed(changes: list[Change]) -> Disk:
    disk = BUILT.copy()
    for kind, which, where, data in changes:
        name = NAMES[which]
        content = disk.content(name)
        at = where % (WRITTEN[name] + 64) % max(1, len(content))
        match kind:
            case "flip" if content:
                content[at] ^= data[0] or 1
            case "insert":
                content[at:at] = data
            case "cut":
                del content[at : at + len(data)]
            case "overwrite":
                content[at : at + len(data)] = data
            case _:
                content.extend(data)
    return disk.copy()


def read(disk: Disk) -> list[object] | None:
    """What a reader that changes nothing finds; None when it refuses."""
    try:
        return held(LocalLog.open_reader(FOLDER, storage=disk))
    except JournalError:
        return None


def opened(disk: Disk, *, salvage: bool = False) -> list[object] | None:
    """What an owner finds; None when it refuses."""
    try:
        with open_on(disk, salvage=salvage) as log:
            return held(log)
    except JournalError:
        return None


@fuzz(100)
@given(st.lists(CHANGES, min_size=1, max_size=3))
@example([("cut", 0, 0, b"x" * 600)])
@example([("cut", len(NAMES) - 1, 0, b"x" * 600)])
@example([("insert", len(NAMES) - 1, 3, b"\xff" * 64)])
@example([("append", 0, 0, bytes(4096))])
def test_any_damage_is_found_or_harms_nothing(changes: list[Change]) -> None:
    """Given any change of bytes, then what is read is what was written, or the checker has a fault; so has opening.

    Opening may cut a tail that looks torn: then it holds a beginning of what was written, never anything else.
    """
    whole = held(LocalLog.open_reader(FOLDER, storage=BUILT))
    assert len(whole) == COUNT
    disk = changed(changes)
    try:
        sound = verify(FOLDER, storage=disk.copy()).ok
    except JournalError:
        sound = False
    found = read(disk.copy())
    assert found is None or found == whole[: len(found)]
    if sound:
        assert found == whole
    kept = opened(disk)
    if kept is None:
        return
    assert kept == whole[: len(kept)]
    if len(kept) < len(whole):
        assert not sound, "what is lost without a word"


@fuzz(50)
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_salvage_of_any_damage_keeps_a_beginning_or_says_why_not(changes: list[Change]) -> None:
    """Given any change of bytes, when salvaged, then a beginning of what was written is kept, for good."""
    whole = held(LocalLog.open_reader(FOLDER, storage=BUILT))
    disk = changed(changes)
    kept = opened(disk, salvage=True)
    if kept is None:
        return
    assert kept == whole[: len(kept)]
    with open_on(disk) as log:
        assert held(log) == kept


def test_the_checker_of_a_folder_that_is_none_says_so() -> None:
    """Given a folder without a journal, then an error of ours."""
    with pytest.raises(JournalError):
        verify(FOLDER, storage=Disk())
