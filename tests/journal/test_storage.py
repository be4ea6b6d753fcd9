"""The real disk behind the seam: durable writes and their fallback, short transfers, locks, replacing a file."""

import errno
import os
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest

from journal import LOCAL_PARTITION, LocalLog, RealStorage, verify
from journal.storage import IOV_MAX, read_fully, replace_file, write_fully
from tests.journal.stories import SMALL, group, held


class Calls:
    """What the system was asked for, with a `pwritev` that may not know its flag or may write short."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuse: int = 0, at_most: int = 1 << 30) -> None:
        self.flags: list[int] = []
        self.syncs = 0
        self._refuse = refuse
        self._at_most = at_most
        self._pwritev, self._sync = os.pwritev, os.fdatasync
        monkeypatch.setattr("os.pwritev", self._write)
        monkeypatch.setattr("journal.storage._sync_data", self._count_sync)

    def _write(self, handle: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
        self.flags.append(flags)
        if flags and self._refuse:
            raise OSError(self._refuse, os.strerror(self._refuse))
        return self._pwritev(handle, [b"".join(buffers)[: self._at_most]], offset, flags)

    def _count_sync(self, handle: int) -> None:
        self.syncs += 1
        self._sync(handle)


def test_given_a_commit_when_appended_then_it_is_one_durable_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalLog.open(tmp_path, SMALL) as log:
        owner = log.own(LOCAL_PARTITION)
        calls = Calls(monkeypatch)
        owner.append([group(number) for number in range(100)], at=1)
        assert calls.flags == [os.RWF_DSYNC]
        assert calls.syncs == 0


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_given_a_system_without_durable_writes_when_writing_then_a_sync_follows_and_it_asks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls = Calls(monkeypatch, refuse=code)
    storage = RealStorage()
    handle = storage.create(tmp_path / "file")
    assert storage.write_durable(handle, [b"ab", b"c"], 0) == 3
    assert storage.write_durable(handle, [b"d"], 3) == 1
    assert calls.flags == [os.RWF_DSYNC, 0, 0]
    assert calls.syncs == 2
    assert read_fully(storage, handle, 100) == b"abcd"
    storage.close(handle)


def test_given_an_error_of_the_disk_when_writing_then_it_is_not_taken_for_a_missing_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, refuse=errno.EIO)
    storage = RealStorage()
    handle = storage.create(tmp_path / "file")
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            storage.write_durable(handle, [b"a"], 0)
    assert calls.flags == [os.RWF_DSYNC] * 2
    storage.close(handle)


@pytest.mark.parametrize("at_most", [5, 64, 512])
def test_given_short_writes_when_written_fully_then_every_byte_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_most: int
) -> None:
    Calls(monkeypatch, at_most=at_most)
    storage = RealStorage()
    handle = storage.create(tmp_path / "file")
    buffers = [bytes([number]) * number for number in range(30)]
    write_fully(storage, handle, buffers, 3, durable=True)
    assert read_fully(storage, handle, 10_000) == bytes(3) + b"".join(buffers)
    storage.close(handle)


def test_given_a_disk_that_takes_nothing_when_written_then_it_is_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Calls(monkeypatch, at_most=0)
    storage = RealStorage()
    handle = storage.create(tmp_path / "file")
    with pytest.raises(OSError, match="takes no more bytes"):
        write_fully(storage, handle, [b"a"], 0, durable=False)
    storage.close(handle)


def test_given_more_buffers_than_one_call_takes_when_written_then_they_are_joined(tmp_path: Path) -> None:
    storage = RealStorage()
    handle = storage.create(tmp_path / "file")
    write_fully(storage, handle, [b"ab"] * (IOV_MAX + 1), 0, durable=True)
    assert storage.size(handle) == 2 * (IOV_MAX + 1)
    storage.close(handle)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_given_a_file_system_that_cannot_allocate_when_a_segment_is_made_then_its_zeros_are_written_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_handle: int, _offset: int, _size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.posix_fallocate", refuse)
    with LocalLog.open(tmp_path, SMALL) as log:
        log.own(LOCAL_PARTITION).append([group("a")], at=1)
        assert [path.stat().st_size for path in tmp_path.glob("*.seg")] == [SMALL.segment_bytes]
        assert held(log) == ["a"]
    assert verify(tmp_path).faults == ()


def test_given_a_new_segment_when_made_then_its_blocks_are_really_taken(tmp_path: Path) -> None:
    """A sparse file would meet a full disk in the middle of a commit."""
    with LocalLog.open(tmp_path, SMALL) as log:
        log.prepare_spare()
        for path in tmp_path.glob("*.seg"):
            assert path.stat().st_blocks * 512 >= SMALL.segment_bytes


def test_given_a_file_when_replaced_then_its_identity_changes_even_if_its_bytes_do_not(tmp_path: Path) -> None:
    storage, path = RealStorage(), tmp_path / "file"
    assert storage.identity(path) is None
    replace_file(storage, path, b"same")
    before = storage.identity(path)
    assert storage.identity(path) == before
    replace_file(storage, path, b"same")
    assert storage.identity(path) != before
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_given_a_held_lock_when_taken_again_then_there_is_none_until_it_is_closed(tmp_path: Path) -> None:
    storage, path = RealStorage(), tmp_path / "LOCK"
    handle = storage.lock(path, b"1\n")
    assert handle is not None
    assert not os.get_inheritable(handle)
    assert storage.lock(path, b"2\n") is None
    assert path.read_bytes() == b"1\n"
    storage.close(handle)
    again = storage.lock(path, b"3\n")
    assert again is not None
    storage.close(again)


def test_given_a_process_without_a_free_handle_when_the_journal_needs_the_next_segment_then_it_has_one(
    tmp_path: Path,
) -> None:
    """Who opened too many sockets is not the journal, so it is not the journal that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        with LocalLog.open(tmp_path, SMALL) as log:
            owner = log.own(LOCAL_PARTITION)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            for number in range(200):
                owner.append([group(number, "x" * 900)], at=number)
                log.prepare_spare()
            assert log.stats().rotations > 3
            for handle in taken:
                os.close(handle)
            taken.clear()
            assert held(log)[::2] == list(range(200))
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_given_a_closed_journal_then_every_handle_is_given_back(tmp_path: Path) -> None:
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir()))
    with LocalLog.open(tmp_path, SMALL) as log:
        log.own(LOCAL_PARTITION).append([group(1)], at=1)
    assert len(list(handles.iterdir())) == before
