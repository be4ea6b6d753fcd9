"""The offline checker: every fault with its place, and nothing else."""

import pytest

from journal import LOCAL_PARTITION, JournalUnreadable, VerifyFault, verify
from journal.segment import HEADER_SIZE
from tests.journal.disk import FOLDER, Disk
from tests.journal.stories import group, held, open_on


def build() -> tuple[Disk, int]:
    """A journal of three segments, closed; and how many records it holds."""
    disk = Disk()
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        number = 0
        while len(log.segments()) < 3:
            owner.append([group(number, "x" * (number % 5 * 150))], at=number)
            number += 1
        owner.append([group("end")], at=number)
        count = len(held(log))
    return disk.copy(), count


def faults(disk: Disk) -> list[tuple[str, int]]:
    return [(fault.segment, fault.offset) for fault in verify(FOLDER, storage=disk).faults]


def test_given_a_good_journal_when_verified_then_everything_is_counted_and_nothing_changed() -> None:
    disk, count = build()
    before = disk.state()
    report = verify(FOLDER, storage=disk)
    assert report.ok
    assert (report.segments, report.records, report.next_seq, report.notes) == (3, count, count, ())
    assert report.bytes == sum(len(disk.content(name)) for name in disk.segments())
    assert disk.state() == before


@pytest.mark.parametrize("which", [0, 2], ids=["sealed", "active"])
def test_given_any_byte_flipped_when_verified_then_the_segment_is_named(which: int) -> None:
    """Stricter than opening: padding is checked too, and so is every byte of a sealed segment by its digest."""
    disk, _ = build()
    name = disk.segments()[which]
    end = len(disk.content(name).rstrip(b"\0"))
    for at in [*range(0, HEADER_SIZE, 61), *range(HEADER_SIZE, end, 7)]:
        damaged = disk.copy()
        damaged.content(name)[at] ^= 1 << at % 8
        found = faults(damaged)
        assert found, at
        assert {segment for segment, _ in found} == {name}
        assert min(offset for _, offset in found) <= at


def test_given_two_faults_in_one_segment_when_verified_then_both_are_listed() -> None:
    disk, count = build()
    name = disk.segments()[0]
    for at in (HEADER_SIZE + 66, HEADER_SIZE + 6 * 512 + 66):
        disk.content(name)[at] ^= 1
    report = verify(FOLDER, storage=disk)
    places = [fault.offset for fault in report.faults if fault.segment == name]
    assert HEADER_SIZE in places
    assert sum(1 for place in places if HEADER_SIZE < place < HEADER_SIZE + 7 * 512) >= 1
    assert count - 6 <= report.records < count


def test_given_a_missing_segment_when_verified_then_the_rest_is_still_checked() -> None:
    disk, _ = build()
    first, second, third = disk.segments()
    del disk.names[str(FOLDER / first)]
    disk.content(second)[HEADER_SIZE + 66] ^= 1
    disk.content(third)[HEADER_SIZE + 66] ^= 1
    assert {segment for segment, _ in faults(disk)} == {first, second, third}


def test_given_a_bad_manifest_when_verified_then_that_is_the_fault() -> None:
    disk, _ = build()
    disk.content("MANIFEST")[30] ^= 1
    assert [fault.segment for fault in verify(FOLDER, storage=disk).faults] == ["MANIFEST"]


def test_given_records_that_are_no_msgpack_when_verified_then_the_frame_is_named() -> None:
    """The journal takes records as they come; a caller's bug shows here, not as damage on opening."""
    disk = Disk()
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        owner.append([group("good")], at=1)
        owner.append([[b"\xc1"]], at=2)
        owner.append([[b"\x01\x02"]], at=3)
    assert faults(disk) == [(disk.segments()[0], HEADER_SIZE + 512), (disk.segments()[0], HEADER_SIZE + 1024)]


def test_given_a_torn_tail_when_verified_then_it_is_a_note_and_no_fault() -> None:
    disk = Disk()
    with open_on(disk) as log:
        log.own(LOCAL_PARTITION).append([group("a")], at=1)
        name = disk.segments()[0]
        disk.content(name)[HEADER_SIZE + 2 * 512] = 1
        report = verify(FOLDER, storage=disk)
    assert report.ok
    assert report.notes == (f"{name} at byte {HEADER_SIZE + 512}: the last commit was torn by a crash",)


def test_given_no_journal_when_verified_then_that_is_said() -> None:
    with pytest.raises(JournalUnreadable):
        verify(FOLDER, storage=Disk())


def test_given_a_fault_when_shown_then_it_reads_as_a_sentence() -> None:
    disk, _ = build()
    name = disk.segments()[0]
    disk.content(name)[HEADER_SIZE + 66] ^= 1
    assert verify(FOLDER, storage=disk).faults[0] == VerifyFault(
        name, HEADER_SIZE, "a good header, but the payload does not match its checksum"
    )
