"""The local backend: the conformance suite, and what is its own: the lock, fencing by files, options, permissions."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from journal import (
    LOCAL_PARTITION,
    BadAppend,
    Fenced,
    JournalClosed,
    JournalFailed,
    JournalLocked,
    JournalOptions,
    JournalUnreadable,
    LocalLog,
    Log,
    LogReader,
    TooLarge,
    verify,
)
from tests.journal.conformance import Backend, LogConformance
from tests.journal.disk import FOLDER, Disk
from tests.journal.stories import SMALL, group, held, open_on, owned


class LocalBackend(Backend):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: LocalLog | None = None

    def open(self) -> Log:
        self.finish()
        self._log = LocalLog.open(self._path, SMALL)
        return self._log

    def finish(self) -> None:
        if self._log is not None:
            self._log.close()
            report = verify(self._path)
            assert report.faults == ()
            assert report.notes == ()
            self._log = None


class TestLocalLog(LogConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._path = tmp_path / "journal"

    def make_backend(self) -> Backend:
        return LocalBackend(self._path)


class SimulatedBackend(LocalBackend):
    """The same on a simulated disk, which shows that nothing goes around the storage seam."""

    def __init__(self) -> None:
        super().__init__(FOLDER)
        self._disk = Disk()

    def open(self) -> Log:
        self.finish()
        self._log = open_on(self._disk)
        return self._log

    def finish(self) -> None:
        if self._log is not None:
            self._log.close()
            assert verify(FOLDER, storage=self._disk).faults == ()
            self._log = None


class TestLocalLogOnASimulatedDisk(LogConformance):
    def make_backend(self) -> Backend:
        return SimulatedBackend()

    def test_given_an_owner_that_appends_when_read_in_another_thread_then_only_whole_prefixes_are_seen(
        self, backend: Backend
    ) -> None:
        del backend
        pytest.skip("the simulated disk has one thread")


def test_given_an_open_journal_when_opened_again_then_the_refusal_names_the_holder(tmp_path: Path) -> None:
    with LocalLog.open(tmp_path, SMALL), pytest.raises(JournalLocked, match=f"process {os.getpid()} owns") as caught:
        LocalLog.open(tmp_path, SMALL)
    assert caught.value.pid == os.getpid()
    LocalLog.open(tmp_path, SMALL).close()


def test_given_a_new_journal_when_made_then_only_its_owner_may_look_at_it(tmp_path: Path) -> None:
    """Files are 0600 and the folder is 0700, whatever the umask is."""
    folder = tmp_path / "deep" / "journal"
    before = os.umask(0)
    try:
        with LocalLog.open(folder, SMALL) as log:
            log.own(LOCAL_PARTITION).append([group(1)], at=1)
            log.save_snapshot(LOCAL_PARTITION, 0, b"", schema="")
            log.prepare_spare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 5
    assert set(modes.values()) == {0o600}


def test_given_a_broken_lock_when_another_process_takes_over_then_the_first_is_fenced(tmp_path: Path) -> None:
    """Deleting LOCK lets a second opener in; the epoch in the manifest stops the first before it writes."""
    first = LocalLog.open(tmp_path, SMALL)
    owner = first.own(LOCAL_PARTITION)
    owner.append([group("a")], at=1)
    (tmp_path / "LOCK").unlink()
    with LocalLog.open(tmp_path, SMALL) as second:
        with pytest.raises(Fenced):
            owner.append([group("stale")], at=2)
        with pytest.raises(Fenced):
            owner.confirm()
        with pytest.raises(Fenced):
            first.own(LOCAL_PARTITION)
        owner.close()
        first.close()
        second.own(LOCAL_PARTITION).append([group("b")], at=3)
        assert held(second) == ["a", "b"]
    assert verify(tmp_path).faults == ()


@pytest.mark.parametrize("how", ["removed", "garbage"])
def test_given_a_manifest_taken_away_when_appended_then_the_journal_fails(tmp_path: Path, how: str) -> None:
    log = LocalLog.open(tmp_path, SMALL)
    owner = log.own(LOCAL_PARTITION)
    (tmp_path / "MANIFEST").unlink()
    if how == "garbage":
        (tmp_path / "MANIFEST").write_bytes(b"?")
    with pytest.raises(JournalFailed, match="manifest"):
        owner.append([group("a")], at=1)
    with pytest.raises(JournalFailed, match="failed before"):
        owner.append([group("a")], at=1)
    log.close()


def test_given_a_closed_journal_when_used_then_it_says_so(tmp_path: Path) -> None:
    log = LocalLog.open(tmp_path, SMALL)
    owner = log.own(LOCAL_PARTITION)
    log.close()
    log.close()
    owner.close()
    with pytest.raises(JournalClosed):
        owner.append([group("a")], at=1)
    with pytest.raises(JournalClosed):
        log.own(LOCAL_PARTITION)
    with pytest.raises(JournalClosed):
        log.prepare_spare()


def _use_in_a_child(log: LocalLog, outcome: "multiprocessing.Queue[str]") -> None:
    try:
        log.own(LOCAL_PARTITION)
    except JournalClosed:
        outcome.put("refused")
    log.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Forking beside threads: no thread runs here.
def test_given_a_fork_when_the_child_uses_the_journal_then_it_is_refused_and_the_parent_goes_on(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("fork")
    outcome: multiprocessing.Queue[str] = context.Queue()
    with LocalLog.open(tmp_path, SMALL) as log:
        owner = log.own(LOCAL_PARTITION)
        child = context.Process(target=_use_in_a_child, args=(log, outcome))
        child.start()
        assert outcome.get(timeout=30) == "refused"
        child.join()
        assert owner.append([group("a")], at=1) == 1
        with pytest.raises(JournalLocked):
            LocalLog.open(tmp_path, SMALL)
    assert verify(tmp_path).faults == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segment_bytes": 8192}, r"segment_bytes must be in \[16384"),
        ({"segment_bytes": 16 * 1024 + 512}, "multiple of 4096"),
        ({"segment_bytes": 1 << 40}, "segment_bytes must be in"),
        ({"segment_bytes": 64 * 1024, "align_bytes": 4096}, r"segment_bytes must be in \[131072"),
        ({"soft_frame_bytes": 0}, "soft_frame_bytes must be in"),
        ({"align_bytes": 1024}, "align_bytes must be 512 or 4096, not 1024"),
    ],
)
def test_given_options_out_of_range_when_made_then_the_error_says_the_range(
    options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        JournalOptions(**options)


def test_given_a_commit_above_the_soft_size_when_appended_then_it_is_several_frames_of_one_write() -> None:
    disk = Disk()
    with owned(disk, JournalOptions(segment_bytes=64 * 1024, soft_frame_bytes=2000)) as owner:
        before = len(disk.log)
        owner.append([group(number, "x" * 300) for number in range(20)], at=1)
        assert disk.log[before:].count("write_durable") == 1
    reader = LocalLog.open_reader(FOLDER, storage=disk)
    frames = list(reader.read(LOCAL_PARTITION))
    assert len(frames) == 4
    assert all(len(frame.payload) <= 2000 for frame in frames)
    assert all(frame.count % 2 == 0 for frame in frames)


def test_given_a_commit_above_half_a_segment_when_appended_then_it_is_refused_with_the_limit() -> None:
    with owned(Disk()) as owner, pytest.raises(TooLarge, match="at most 8192 bytes"):
        owner.append([[b"\xc4\xff" + bytes(255)] * 40], at=1)


@pytest.mark.parametrize("align", [512, 4096])
def test_given_an_alignment_when_written_then_every_frame_starts_at_it(align: int) -> None:
    disk = Disk()
    options = JournalOptions(segment_bytes=128 * 1024, align_bytes=align)
    with owned(disk, options) as owner:
        for number in range(60):
            owner.append([group("x" * 40 * number)], at=number)
            owner.confirm()
    reader = LocalLog.open_reader(FOLDER, storage=disk)
    assert {frame.offset % align for frame in reader.read(LOCAL_PARTITION)} == {0}
    assert verify(FOLDER, storage=disk).faults == ()


def test_given_other_options_when_reopened_then_the_active_segment_keeps_its_layout() -> None:
    disk = Disk()
    with owned(disk) as owner:
        owner.append([group("a")], at=1)
    with open_on(disk, JournalOptions(segment_bytes=128 * 1024, align_bytes=4096)) as log:
        owner = log.own(LOCAL_PARTITION)
        for number in range(60):
            owner.append([group(number, "x" * 200)], at=number)
        assert [info.bytes_allotted for info in log.segments()][-1] == 128 * 1024
    assert verify(FOLDER, storage=disk).faults == ()


def test_given_a_spare_when_rotating_then_it_is_used_and_none_is_made_inline() -> None:
    disk = Disk()
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        assert log.prepare_spare() is True
        assert log.prepare_spare() is False
        assert log.stats().spare_ready
        before = len(disk.log)
        number = 0
        while log.stats().rotations == 0:
            owner.append([group(number, "x" * 200)], at=number)
            number += 1
        assert "allocate" not in disk.log[before:]
        assert not log.stats().spare_ready


def test_given_confirm_frames_when_idle_then_only_the_first_is_written() -> None:
    disk = Disk()
    with owned(disk) as owner:
        assert owner.confirm() is False
        owner.append([group("a")], at=1)
        assert owner.confirm() is True
        before = len(disk.log)
        assert owner.confirm() is False
        assert len(disk.log) == before


def test_given_many_short_lives_when_the_segment_is_full_of_confirms_then_opening_rotates() -> None:
    """Each open and close writes a confirm frame; the room kept for the footer is never taken."""
    disk = Disk()
    for number in range(40):
        with owned(disk) as owner:
            assert owner.append([group(number)], at=number) == number + 1
    assert len(disk.segments()) > 1
    assert verify(FOLDER, storage=disk).faults == ()
    for _ in range(60):
        with owned(disk):
            pass
    assert verify(FOLDER, storage=disk).faults == ()
    with open_on(disk) as log:
        assert held(log) == list(range(40))


def test_given_no_journal_when_opened_to_read_then_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(JournalUnreadable):
        LocalLog.open_reader(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_given_a_live_journal_when_read_from_outside_then_nothing_is_locked_or_changed(tmp_path: Path) -> None:
    with LocalLog.open(tmp_path, SMALL) as log:
        owner = log.own(LOCAL_PARTITION)
        owner.append([group("a")], at=1)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        reader: LogReader = LocalLog.open_reader(tmp_path)
        assert held(reader) == ["a"]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        for number in range(100):
            owner.append([group(number, "x" * 300)], at=2)
        assert reader.next_seq == 201
        assert len(held(reader)) == 201
        assert [info.name for info in reader.segments()] == [info.name for info in log.segments()]
        assert reader.stats().next_seq == 201
        assert reader.load_snapshot(LOCAL_PARTITION) is None
        reader.close()
        with pytest.raises(JournalClosed):
            held(reader)


def test_given_progress_when_opening_then_it_counts_bytes_of_the_active_segment(tmp_path: Path) -> None:
    options = JournalOptions(segment_bytes=8 * 1024 * 1024)
    with LocalLog.open(tmp_path, options) as log:
        owner = log.own(LOCAL_PARTITION)
        for number in range(8):
            owner.append([[b"\xc6\x00\x08\x00\x00" + bytes(512 * 1024)]], at=number)
    seen: list[tuple[int, int]] = []
    LocalLog.open(tmp_path, options, progress=lambda done, total: seen.append((done, total))).close()
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {options.segment_bytes}


def test_given_a_snapshot_of_nothing_when_saved_then_it_is_refused() -> None:
    with open_on(Disk()) as log, pytest.raises(BadAppend):
        log.save_snapshot(LOCAL_PARTITION, -1, b"", schema="")
