"""Dropping what a snapshot has: not before it was read back, and at every crash one of the two is there."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import LOCAL_PARTITION, JournalDamaged, JournalFailed, JournalTrimmed, LocalLog, verify
from journal.snapshot import HEADER_SIZE, PIECE_BYTES, snapshot_name
from tests.journal.disk import FOLDER, Disk, PowerLossError
from tests.journal.stories import SMALL, group, held, open_on


def written(disk: Disk, count: int = 100) -> LocalLog:
    """A journal of several small segments, with two records a commit."""
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    for number in range(count):
        owner.append([group(number, "x" * 300)], at=number)
    return log


def snapshots(disk: Disk) -> list[str]:
    return sorted(name for name in disk.list_folder(FOLDER) if ".snap" in name)


def test_given_a_state_in_pieces_when_saved_then_it_is_read_in_pieces_of_one_size() -> None:
    disk = Disk()
    with written(disk) as log:
        parts = [bytes([number]) * 700_000 for number in range(5)]
        log.save_snapshot(LOCAL_PARTITION, 150, iter(parts), schema="v1")
        info, pieces = log.read_snapshot(LOCAL_PARTITION, 150)
        found = list(pieces)
    assert b"".join(found) == b"".join(parts)
    assert max(map(len, found)) == PIECE_BYTES
    assert info.state_bytes == 3_500_000
    reader = LocalLog.open_reader(FOLDER, storage=disk)
    assert reader.snapshots(LOCAL_PARTITION) == (150,)
    assert b"".join(reader.read_snapshot(LOCAL_PARTITION, 150)[1]) == b"".join(parts)


def test_given_a_state_that_can_not_be_read_when_saving_then_nothing_is_left_and_the_journal_goes_on() -> None:
    """Whoever gives the pieces may break off: a server that ends, a store that fails."""
    disk = Disk()

    def broken() -> Iterator[bytes]:
        yield b"x" * 1000
        raise RuntimeError("the server ends")

    with written(disk) as log:
        log.save_snapshot(LOCAL_PARTITION, 10, b"old", schema="v1")
        with pytest.raises(RuntimeError, match="the server ends"):
            log.save_snapshot(LOCAL_PARTITION, 150, broken(), schema="v1")
        assert snapshots(disk) == [snapshot_name(10)]
        log.own(LOCAL_PARTITION).append([group("after")], at=999)


def test_given_a_disk_that_gives_back_other_bytes_when_saving_then_the_file_gets_no_name() -> None:
    """It is read before it counts; a disk that lies about one file is trusted with no other."""

    class Lying(Disk):
        lies = False

        def read(self, handle: int, into: memoryview, offset: int) -> int:
            got = super().read(handle, into, offset)
            if self.lies and offset >= HEADER_SIZE and got:
                into[0] ^= 1
            return got

    disk = Lying()
    log = written(disk)
    disk.lies = True
    with pytest.raises(JournalFailed, match="gives back other bytes"):
        log.save_snapshot(LOCAL_PARTITION, 150, b"state", schema="v1")
    assert snapshots(disk) == []


@pytest.mark.parametrize("damaged", [80, 150])
def test_given_a_kept_snapshot_that_rotted_when_trimming_then_nothing_is_dropped(damaged: int) -> None:
    """Also the older one: the newer might rot tomorrow."""
    disk = Disk()
    with written(disk) as log:
        log.save_snapshot(LOCAL_PARTITION, 80, b"older", schema="v1")
        log.save_snapshot(LOCAL_PARTITION, 150, b"newer", schema="v1")
        disk.content(snapshot_name(damaged))[-1] ^= 1
        with pytest.raises(JournalDamaged, match=snapshot_name(damaged)):
            log.trim(LOCAL_PARTITION, 70)
        assert log.first_seq == 0
        disk.content(snapshot_name(damaged))[-1] ^= 1
        assert log.trim(LOCAL_PARTITION, 70) > 0


def test_given_a_snapshot_that_is_being_written_when_appending_then_commits_go_on(tmp_path: Path) -> None:
    """A state of gigabytes takes minutes; no request waits for it."""
    log = LocalLog.open(tmp_path / "journal", SMALL)
    owner = log.own(LOCAL_PARTITION)
    owner.append([group("before")], at=1)
    asked, answered = threading.Event(), threading.Event()

    def state() -> Iterator[bytes]:
        asked.set()
        assert answered.wait(10), "the append waits for the snapshot"
        yield b"state"

    saving = threading.Thread(target=lambda: log.save_snapshot(LOCAL_PARTITION, 0, state(), schema="v1"))
    saving.start()
    assert asked.wait(10)
    owner.append([group("meanwhile")], at=2)
    assert log.stats().failed is False
    answered.set()
    saving.join()
    assert log.snapshots(LOCAL_PARTITION) == (0,)
    log.close()


@pytest.mark.parametrize("fate", [False, True])
def test_given_a_power_loss_at_any_step_when_opened_then_the_journal_or_a_snapshot_has_everything(
    *, fate: bool
) -> None:
    """At each step of saving and trimming: what the journal lacks at its beginning, a whole snapshot has."""
    clean = Disk()
    with written(clean) as log:
        log.save_snapshot(LOCAL_PARTITION, 90, b"state 90", schema="v1")
    clean = clean.copy()
    step = 0
    begins: set[int] = set()
    while True:
        disk = clean.copy()
        log = open_on(disk)
        disk.plan[len(disk.log) + step] = "power"
        try:
            log.save_snapshot(LOCAL_PARTITION, 190, b"state 190", schema="v1")
            log.trim(LOCAL_PARTITION, 85)
        except PowerLossError:
            left = disk.power_loss(lambda: fate)
            with open_on(left) as again:
                found = again.load_snapshot(LOCAL_PARTITION)
                assert found is not None
                assert found.state == b"state %d" % found.seq
                assert again.first_seq <= found.seq + 1
                assert held(again, again.first_seq - 1)[-2:] == [99, "x" * 300]
                begins.add(again.first_seq)
                assert again.trim(LOCAL_PARTITION, 85) >= 0, "what was cut short is done again"
                assert again.first_seq > 0
            assert verify(FOLDER, storage=left).faults == ()
            step += 1
        else:
            break
    assert step > 10
    assert len(begins) == 2, "both before and after the drop"


def test_given_a_journal_that_begins_late_when_looked_at_then_all_of_it_is_understood() -> None:
    """Listings, figures, the checker and readers begin where retention left it."""
    disk = Disk()
    with written(disk) as log:
        log.save_snapshot(LOCAL_PARTITION, 190, b"state", schema="v1")
        dropped = log.trim(LOCAL_PARTITION, 100)
    assert dropped > 0
    disk = disk.copy()
    reader = LocalLog.open_reader(FOLDER, storage=disk)
    first = reader.first_seq
    assert 0 < first <= 101
    assert (reader.segments()[0].base_seq, reader.stats().first_seq, reader.next_seq) == (first, first, 200)
    assert held(reader, first - 1)[-2:] == [99, "x" * 300]
    with pytest.raises(JournalTrimmed):
        reader.read(LOCAL_PARTITION)
    report = verify(FOLDER, storage=disk)
    assert (report.faults, report.records, report.next_seq) == ((), 200 - first, 200)
    with open_on(disk) as again:
        assert again.own(LOCAL_PARTITION).append([group("more")], at=300) == 201


def test_given_a_journal_that_begins_late_when_its_snapshots_are_lost_then_the_checker_says_so() -> None:
    """Opening goes on, since a store beside the journal may have it all; whoever checks should know."""
    disk = Disk()
    with written(disk) as log:
        log.save_snapshot(LOCAL_PARTITION, 190, b"state", schema="v1")
        log.trim(LOCAL_PARTITION, 100)
    disk = disk.copy()
    disk.content(snapshot_name(190))[-1] ^= 1
    messages = [fault.message for fault in verify(FOLDER, storage=disk).faults]
    assert len(messages) == 2
    assert "there is none" in messages[-1]
    disk.unlink(FOLDER / snapshot_name(190))
    assert len(verify(FOLDER, storage=disk).faults) == 1
    with open_on(disk) as log:
        assert log.next_seq == 200
