"""What the doctor says of a disk, its files, its room and the clock."""

import itertools
from pathlib import Path

import pytest

from runtime.config import Settings
from runtime.doctor import machine
from runtime.doctor.machine import (
    clock_check,
    disk_check,
    file_system_check,
    files_limit_check,
    flush_check,
    machine_checks,
    measure_flushes,
    modes_check,
    room_check,
)

SECOND = 1_000_000_000


def test_given_a_folder_then_flushes_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    """So many as are said, to a file that has no name."""
    assert len(measure_flushes(tmp_path)) == machine.FLUSHES
    assert not list(tmp_path.iterdir())


def test_given_a_disk_that_crawls_then_measuring_ends(tmp_path: Path) -> None:
    """Bounded in time as in number."""
    ticks = itertools.count()
    assert len(measure_flushes(tmp_path, lambda: float(next(ticks)))) == 4


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (2e-6, "warning", "has not left memory"),
        (30e-6, "note", "power-loss protection"),
        (100e-6, "ok", ""),
        (8e-3, "ok", ""),
        (0.08, "warning", "faster disk"),
        (1.5, "warning", "slowest flush"),
    ],
)
def test_given_a_latency_then_a_disk_that_lies_or_crawls_is_told(seconds: float, level: str, words: str) -> None:
    """From memory that says it is a disk to one that fails."""
    check = flush_check([seconds] * 8)
    assert check.level == level
    assert words in " ".join(check.found)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("/dev/vda1 / ext4 rw,relatime 0 0", "ok"),
        ("none / tmpfs rw 0 0", "broken"),
        ("host:/x / nfs4 rw 0 0", "broken"),
        ("/dev/vda1 / ext4 rw,nobarrier 0 0", "broken"),
    ],
)
def test_given_a_mount_then_what_keeps_nothing_is_told(tmp_path: Path, line: str, level: str) -> None:
    """Memory, the network, and a mount that drops flushes."""
    mounts = tmp_path / "mounts"
    mounts.write_text(line + "\n")
    assert file_system_check(tmp_path, mounts).level == level
    assert file_system_check(tmp_path, tmp_path / "none").level == "skipped"


def test_given_files_that_others_can_read_then_each_is_named_with_its_cure(tmp_path: Path) -> None:
    """Journal, store, token and keys."""
    (tmp_path / "journal").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    for name, mode in (("admin.token", 0o644), ("store.sqlite", 0o600), ("journal/a.seg", 0o640)):
        (tmp_path / name).touch(mode=mode)
        (tmp_path / name).chmod(mode)
    check = modes_check(tmp_path)
    assert check.level == "broken"
    assert [one.split()[0] for one in check.found] == ["admin.token", "a.seg"]
    assert f"chmod 600 {tmp_path / 'admin.token'}" in check.found[0]
    for name in ("admin.token", "journal/a.seg"):
        (tmp_path / name).chmod(0o600)
    assert modes_check(tmp_path).level == "ok"


def test_given_no_room_for_the_next_segments_then_it_is_told(tmp_path: Path) -> None:
    """Two segments: one that is written, one that is ready."""
    assert room_check(tmp_path, 1).level == "ok"
    assert room_check(tmp_path, 1 << 60).level == "warning"


def test_given_a_clock_behind_the_journal_then_it_is_told() -> None:
    """Within a second is what time synchronisation does."""
    assert clock_check(10 * SECOND, 0).level == "ok"
    assert clock_check(10 * SECOND, 11 * SECOND).level == "ok"
    check = clock_check(10 * SECOND, 70 * SECOND)
    assert check.level == "warning"
    assert "60 s behind" in check.found[0]


def test_given_more_connections_than_open_files_then_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server takes the hard limit."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    assert files_limit_check(Settings(connections_max=2000)).level == "ok"
    assert files_limit_check(Settings()).level == "warning"


def test_given_no_folder_then_what_can_not_be_looked_at_says_so(tmp_path: Path) -> None:
    """A doctor that fails is none."""
    checks = {one.name: one.level for one in machine_checks(Settings(data=str(tmp_path / "none")), 1, 0)}
    assert checks["disk"] == checks["room"] == "skipped"
    assert disk_check(tmp_path / "none").level == "skipped"
