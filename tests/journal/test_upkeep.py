"""Upkeep beside an owner: making the spare never disturbs a commit that another thread is writing."""

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from journal import LOCAL_PARTITION, Fenced, JournalOptions, LocalLog, verify
from journal.storage import RealStorage
from tests.journal.stories import group, held


class SlowDisk(RealStorage):
    """A disk whose durable writes wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def write_durable(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        self.writing.set()
        assert self.go_on.wait(10)
        return super().write_durable(handle, buffers, offset)


def test_upkeep_during_a_commit_waits_for_it(tmp_path: Path) -> None:
    """Given a commit that hangs in the disk, when the spare is made, then nothing fails."""
    disk = SlowDisk()
    log = LocalLog.open(tmp_path / "journal", JournalOptions(segment_bytes=64 * 1024), storage=disk)
    owner = log.own(LOCAL_PARTITION)
    failures: list[BaseException] = []

    def upkeep() -> None:
        try:
            log.prepare_spare()
        except BaseException as failure:  # noqa: BLE001 - Reported by the assertion below.
            failures.append(failure)

    disk.writing.clear()
    disk.go_on.clear()
    commit = threading.Thread(target=lambda: owner.append([[msgspec.msgpack.encode(1)]], at=1))
    commit.start()
    assert disk.writing.wait(10)
    assert not log.stats().failed
    spare = threading.Thread(target=upkeep)
    spare.start()
    spare.join(0.2)
    disk.go_on.set()
    commit.join()
    spare.join()
    assert not failures
    assert log.next_seq == 1
    owner.close()
    log.close()


def test_an_owner_that_was_replaced_while_it_made_its_spare_is_fenced(tmp_path: Path) -> None:
    """Given a lock that somebody broke, when the old owner goes on, then the new one has its journal to itself."""
    options = JournalOptions(segment_bytes=64 * 1024)
    old = LocalLog.open(tmp_path, options)
    before = old.own(LOCAL_PARTITION)
    new: list[LocalLog] = []

    def take_over() -> None:
        if not new:
            (tmp_path / "LOCK").unlink()
            new.append(LocalLog.open(tmp_path, options))
            assert new[0].prepare_spare()

    old.prepare_spare(take_over)
    owner = new[0].own(LOCAL_PARTITION)
    for number in range(20):
        owner.append([group(number, "x" * 9000)], at=number)
        with pytest.raises(Fenced):
            old.prepare_spare()
        new[0].prepare_spare()
    with pytest.raises(Fenced):
        before.append([group("late")], at=99)
    old.close()
    assert new[0].stats().rotations > 2
    new[0].close()
    assert verify(tmp_path).ok
    assert held(LocalLog.open_reader(tmp_path))[::2] == list(range(20))
