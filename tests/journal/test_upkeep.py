"""Upkeep beside an owner: making the spare never disturbs a commit that another thread is writing."""

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from journal import LOCAL_PARTITION, JournalOptions, LocalLog
from journal.storage import RealStorage


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
