"""What a machine may do to a journal: a disk that lies or crawls, files that others read, no room."""

import errno
import os
import resource
import stat
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from runtime.clock import instant
from runtime.config import JOURNAL_FOLDER, Settings
from runtime.doctor.report import Check, Level, found_of

FLUSHES = 32
FLUSH_BYTES = 4096
FLUSH_TOTAL_S = 3.0  # Of all of them; a disk that needs longer has told enough.
LYING_S = 10e-6
"""Below this no flush has left memory: a system call and a round trip to the fastest device (Optane) take longer."""
CACHED_S = 60e-6  # Below this only a cache that survives a power loss can be honest; flash itself takes longer.
SLOW_S = 0.05  # Three turns of a slow hard disk; every answer waits for one flush.
STALL_S = 1.0
CLOCK_BACK_NS = 1_000_000_000  # Less is what time synchronisation does.
INODES_MIN = 100
OPEN_FILES_SPARE = 200  # Beside connections: segments, the store, outbound calls.
VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs", "afs", "ceph"})
NO_BARRIERS = frozenset({"nobarrier", "barrier=0"})

Measured = list[float]


def measure_flushes(folder: Path, clock: Callable[[], float] = time.perf_counter) -> Measured:
    """Seconds of so many small writes, each made durable, to a file without a name in a folder. Blocks.

    The file has room before it is measured, as a segment has, so that only the flush counts.
    """
    sync = getattr(os, "fdatasync", os.fsync)
    with tempfile.TemporaryFile(dir=folder, suffix=".tmp") as scratch:
        handle = scratch.fileno()
        os.pwrite(handle, bytes(FLUSHES * FLUSH_BYTES), 0)
        os.fsync(handle)
        found: Measured = []
        for number in range(FLUSHES):
            began = clock()
            os.pwrite(handle, os.urandom(FLUSH_BYTES), number * FLUSH_BYTES)
            sync(handle)
            found.append(clock() - began)
            if sum(found) > FLUSH_TOTAL_S:
                break
    return found


def flush_check(seconds: Measured) -> Check:
    """What flush latencies say of a disk."""
    middle, worst = statistics.median(seconds), max(seconds)
    times = f"{middle * 1e6:,.0f} µs in the middle, {worst * 1e3:,.1f} ms at most"
    said = f"{len(seconds)} flushes of {FLUSH_BYTES} bytes: {times}"
    found: list[str] = []
    if middle < LYING_S:
        found.append(
            f"a flush below {LYING_S * 1e6:.0f} µs has not left memory (no device answers that fast): what is "
            "answered 2xx would be lost with the power. Look for tmpfs, a RAM disk, eatmydata, or cache=unsafe"
        )
    if middle > SLOW_S:
        found.append(
            f"every answer waits for one flush, and they take more than {SLOW_S * 1e3:.0f} ms: use a faster disk"
        )
    if worst > STALL_S:
        found.append(f"the slowest flush took {worst:.1f} s: look for a disk that fails, or that others keep busy")
    if found:
        return found_of("disk", said, found, "warning")
    if middle < CACHED_S:
        words = "as fast as only a cache with power-loss protection may be: make sure that the disk has one"
        return Check("disk", "note", said, [words])
    return Check("disk", "ok", said)


def file_system_check(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> Check:
    """Whether the file system under a folder keeps what it is given."""
    found = _mount_of(folder, mounts)
    if found is None:
        return Check("file system", "skipped", "this system does not tell what is mounted where")
    kind, options = found
    wrong: list[str] = []
    if kind in VOLATILE:
        wrong.append(f"{kind} is memory: everything is gone when the machine stops")
    if kind in REMOTE:
        wrong.append(f"{kind} is a network file system: its locks do not keep two servers apart; use a local disk")
    wrong += [f"mounted with {one}: flushes do not reach the disk" for one in sorted(NO_BARRIERS & options)]
    return found_of("file system", f"{kind} under {folder.name}", wrong, "broken")


def _mount_of(folder: Path, mounts: Path) -> tuple[str, set[str]] | None:
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    best: tuple[int, str, set[str]] | None = None
    place = folder.resolve()
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if place.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), fields[2], set(fields[3].split(","))
    return None if best is None else best[1:]


def modes_check(data: Path, more: Iterable[Path] = ()) -> Check:
    """Whether only the owner can read what is in the data folder, and other files that hold secrets."""
    found = [said for path in (*_files(data), *more) for said in _open_to_others(path)]
    return found_of("file modes", "journal, store and keys are their owner's alone", found)


def _files(data: Path) -> Iterator[Path]:
    yield data
    for folder in (data, data / JOURNAL_FOLDER):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file() or path == data / JOURNAL_FOLDER)


def _open_to_others(path: Path) -> Iterator[str]:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return  # A segment that was dropped meanwhile.
    mode = stat.S_IMODE(seen.st_mode)
    if mode & 0o077:
        right = "700" if path.is_dir() else "600"
        yield f"{path.name} has mode {mode:04o}, so others get at it: chmod {right} {path}"
    if seen.st_uid != os.geteuid() and os.geteuid():
        yield f"{path.name} belongs to user {seen.st_uid}, and this is user {os.geteuid()}: chown it"


def room_check(data: Path, segment_bytes: int) -> Check:
    """Whether there is room for what comes next."""
    try:
        seen = os.statvfs(data)
    except OSError as fault:
        return Check("room", "skipped", f"the room can not be told: {fault.strerror}")
    free = seen.f_bavail * seen.f_frsize
    said = f"{free / 1e9:,.1f} GB free"
    found: list[str] = []
    if free < 2 * segment_bytes:
        found.append(
            f"less than two segments of {segment_bytes >> 20} MiB: requests will be refused with 503; make room"
        )
    if seen.f_files and seen.f_favail < INODES_MIN:
        found.append(f"{seen.f_favail} files can still be made (inodes)")
    return found_of("room", said, found, "warning")


def clock_check(now: int, last: int) -> Check:
    """The clock beside the journal's last instant, both in nanoseconds."""
    if not last:
        return Check("clock", "ok", f"it is {instant(now)}")
    said = f"it is {instant(now)}, and the journal's last instant is {instant(last)}"
    behind = last - now
    if behind <= CLOCK_BACK_NS:
        return Check("clock", "ok", said)
    words = (
        f"the clock is {behind / 1e9:,.0f} s behind the journal, whose timers wait that much longer: set it right, "
        "or find out which of the two is"
    )
    return Check("clock", "warning", said, [words])


def files_limit_check(settings: Settings) -> Check:
    """Whether as many connections can be open as the settings allow; the server takes the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.connections_max + OPEN_FILES_SPARE
    said = f"{'no end of' if hard == resource.RLIM_INFINITY else f'{hard:,}'} open files allowed"
    short = hard != resource.RLIM_INFINITY and hard < needed
    words = f"connections_max = {settings.connections_max} needs {needed:,}: raise the limit (ulimit -Hn), or lower it"
    return found_of("open files", said, [words] if short else [], "warning")


def disk_check(folder: Path) -> Check:
    """The disk under a folder, measured; a folder that can not be written says why not."""
    try:
        return flush_check(measure_flushes(folder))
    except OSError as fault:
        level: Level = "warning" if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else "skipped"
        return Check(
            "disk", level, f"no flush could be measured: {fault.strerror}", [str(fault)] if level == "warning" else []
        )


def machine_checks(settings: Settings, now: int, last: int) -> list[Check]:
    """Everything about the machine. Blocks."""
    data = Path(settings.data)
    folder = data / JOURNAL_FOLDER
    keys = [Path(settings.project) / settings.tls_key] if settings.tls_key else []
    return [
        disk_check(folder),
        file_system_check(folder),
        modes_check(data, keys),
        room_check(data, settings.segment_bytes),
        clock_check(now, last),
        files_limit_check(settings),
    ]
