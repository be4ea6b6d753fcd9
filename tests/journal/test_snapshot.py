"""Snapshots: two are kept, a damaged one costs replay time and nothing else."""

import errno
import struct
import zlib

import pytest

from journal import LOCAL_PARTITION, JournalDamaged, JournalFailed, JournalFull, JournalNewer, LocalLog, verify
from tests.journal.disk import FOLDER, Disk, PowerLossError
from tests.journal.stories import group, open_on

NEWEST = f"{5:020d}.snap"


def disk_with_snapshots(*seqs: int) -> Disk:
    disk = Disk()
    with open_on(disk) as log:
        log.own(LOCAL_PARTITION).append([group(*range(10))], at=1)
        for seq in seqs:
            log.save_snapshot(LOCAL_PARTITION, seq, b"state %d" % seq, schema="v1")
    return disk.copy()


def test_given_many_snapshots_when_saved_then_the_two_newest_are_kept() -> None:
    disk = disk_with_snapshots(1, 2, 3, 5)
    names = sorted(name for name in disk.list_folder(FOLDER) if name.endswith(".snap"))
    assert names == [f"{3:020d}.snap", NEWEST]


def test_given_a_snapshot_when_any_byte_flips_then_the_older_one_is_loaded_and_it_is_said() -> None:
    disk = disk_with_snapshots(3, 5)
    for at in range(len(disk.content(NEWEST))):
        damaged = disk.copy()
        damaged.content(NEWEST)[at] ^= 1 << at % 8
        reader = LocalLog.open_reader(FOLDER, storage=damaged)
        found = reader.load_snapshot(LOCAL_PARTITION)
        assert found is not None
        assert (found.seq, found.state) == (3, b"state 3")
        assert len(found.skipped) == 1
        assert NEWEST in found.skipped[0]
        [fault] = verify(FOLDER, storage=damaged).faults
        assert fault.segment == NEWEST


def test_given_a_snapshot_when_cut_at_any_byte_then_the_older_one_is_loaded() -> None:
    disk = disk_with_snapshots(3, 5)
    for size in range(len(disk.content(NEWEST))):
        damaged = disk.copy()
        del damaged.content(NEWEST)[size:]
        with open_on(damaged) as log:
            found = log.load_snapshot(LOCAL_PARTITION)
        assert found is not None
        assert found.seq == 3


def test_given_only_damaged_snapshots_when_loaded_then_there_is_none() -> None:
    disk = disk_with_snapshots(5)
    disk.content(NEWEST)[-1] ^= 1
    with open_on(disk) as log:
        assert log.load_snapshot(LOCAL_PARTITION) is None


def test_given_a_renamed_snapshot_when_loaded_then_it_is_not_taken() -> None:
    """Its name says another sequence number than its header."""
    disk = disk_with_snapshots(3, 5)
    disk.names[str(FOLDER / f"{9:020d}.snap")] = disk.names.pop(str(FOLDER / NEWEST))
    with open_on(disk) as log:
        found = log.load_snapshot(LOCAL_PARTITION)
    assert found is not None
    assert found.seq == 3


def test_given_a_snapshot_of_a_newer_build_when_loaded_then_no_older_one_is_taken_instead() -> None:
    disk = disk_with_snapshots(3, 5)
    content = disk.content(NEWEST)
    content[8] = 2
    content[120:124] = struct.pack("<I", zlib.crc32(bytes(content[:120])))
    with open_on(disk) as log, pytest.raises(JournalNewer, match="found version 2"):
        log.load_snapshot(LOCAL_PARTITION)


def test_given_the_same_sequence_number_when_saved_again_then_the_later_state_counts() -> None:
    disk = disk_with_snapshots(5)
    with open_on(disk) as log:
        log.save_snapshot(LOCAL_PARTITION, 5, b"again", schema="v2")
        found = log.load_snapshot(LOCAL_PARTITION)
    assert found is not None
    assert found.state == b"again"


def test_given_a_full_disk_when_saving_then_the_older_ones_are_untouched_and_it_may_be_tried_again() -> None:
    disk = disk_with_snapshots(3)
    with open_on(disk) as log:
        disk.every["write"] = errno.ENOSPC
        with pytest.raises(JournalFull, match="no space for a snapshot"):
            log.save_snapshot(LOCAL_PARTITION, 5, b"x", schema="v1")
        disk.every.clear()
        found = log.load_snapshot(LOCAL_PARTITION)
        assert found is not None
        assert found.seq == 3
        log.save_snapshot(LOCAL_PARTITION, 5, b"x", schema="v1")
    assert [name for name in disk.list_folder(FOLDER) if name.endswith(".tmp")] == []


def test_given_a_broken_disk_when_saving_then_the_journal_fails() -> None:
    """The snapshot is on the disk of the log: what cannot be synced there is no reason to trust the next sync."""
    disk = disk_with_snapshots(3)
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        disk.every["sync"] = errno.EIO
        with pytest.raises(JournalFailed):
            log.save_snapshot(LOCAL_PARTITION, 5, b"x", schema="v1")
        with pytest.raises(JournalFailed):
            owner.append([group("a")], at=1)


def test_given_a_power_loss_while_saving_when_opened_then_a_whole_snapshot_is_there() -> None:
    clean = disk_with_snapshots(2, 3)
    step = 0
    while True:
        disk = clean.copy()
        log = open_on(disk)
        disk.plan[len(disk.log) + step] = "power"
        try:
            log.save_snapshot(LOCAL_PARTITION, 5, b"state 5", schema="v1")
        except PowerLossError:
            for fate in (False, True):
                with open_on(disk.power_loss(lambda fate=fate: fate)) as again:
                    found = again.load_snapshot(LOCAL_PARTITION)
                    assert found is not None
                    assert found.state == b"state %d" % found.seq
                    assert found.skipped == ()
            step += 1
        else:
            break
    assert step > 4


def test_given_a_snapshot_in_a_damaged_log_when_salvaged_then_one_that_is_ahead_is_set_apart() -> None:
    disk = disk_with_snapshots(5)
    disk.content(disk.segments()[0])[4096 + 70] ^= 1
    with pytest.raises(JournalDamaged):
        open_on(disk.copy())
    with open_on(disk, salvage=True) as log:
        loss = log.recovery.loss
        assert log.load_snapshot(LOCAL_PARTITION) is None
    assert loss is not None
    assert NEWEST in loss.files
