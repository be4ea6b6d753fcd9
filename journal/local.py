"""The local backend: one folder of segments, one writer, any number of readers.

Fencing. Within a process, a second `own` fences the first at once. Across processes the lock keeps the
second out; should the lock be broken (its file deleted, a file system that does not honour it), opening and
owning replace the manifest with a higher epoch, and every append first looks whether the manifest is still
the one this process wrote: one `stat`. What that does not cover is a takeover between that look and the end
of the write, some 0.1 ms; a local file system offers no write that could be fenced itself.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self, final

import msgspec.structs

from journal.appender import Appender
from journal.errors import BadAppend, JournalFull, JournalLocked, JournalUnreadable
from journal.files import LOCK_NAME
from journal.frame import Frame
from journal.log import JournalOptions, JournalStats, RecoveryReport, SegmentInfo
from journal.manifest import Manifest, load_manifest
from journal.reader import LocalReader, check_partition, read_frames
from journal.recovery import Progress, recover
from journal.salvage import salvage_folder
from journal.shelf import Shelf
from journal.snapshot import Snapshot, SnapshotInfo, SnapshotShelf
from journal.storage import FULL_ERRNOS, RealStorage, Storage, read_fully
from journal.writer import Writer

PAUSE_SECONDS: Final = 0.001  # Between the pieces of a spare made ahead of use, so that commits get their turn.


def breathe() -> None:
    """The default pause while a spare is made."""
    time.sleep(PAUSE_SECONDS)


@final
class LocalOwnership:
    """The right to append to a `LocalLog`; made by `own`."""

    def __init__(self, appender: Appender, epoch: int) -> None:
        self._appender = appender
        self._epoch = epoch

    @property
    def epoch(self) -> int:
        """Rises with every owner of the folder, across restarts."""
        return self._epoch

    @property
    def next_seq(self) -> int:
        """The sequence number the next record gets."""
        return self._appender.next_seq

    def append(
        self, groups: Sequence[Sequence[bytes]], *, at: int, expected: int | None = None, drain: bool = False
    ) -> int:
        """See `Ownership.append`; this backend never raises `Unknown`."""
        return self._appender.append(self._epoch, groups, at, expected, drain=drain)

    def confirm(self) -> bool:
        """See `Ownership.confirm`."""
        return self._appender.confirm(self._epoch)

    def reserve(self) -> bool:
        """See `Ownership.reserve`."""
        return self._appender.reserve(self._epoch)

    def close(self) -> None:
        """See `Ownership.close`; fine after a failure, after being fenced, and to repeat."""
        self._appender.release(self._epoch)


@final
class LocalLog:
    """A journal folder, opened to be written; see `Log`.

    Reads, `prepare_spare` and `stats` may run in other threads while an owner appends.

    Attributes:
        recovery: what opening found.
    """

    def __init__(self, storage: Storage, lock: int, shelf: Shelf, appender: Appender, report: RecoveryReport) -> None:
        self.recovery = report
        self._storage = storage
        self._lock: int | None = lock
        self._folder = shelf.folder
        self._appender = appender
        self._snapshots = SnapshotShelf(storage, shelf.folder, shelf.manifest.journal_id)

    @classmethod
    def open(
        cls,
        path: str | Path,
        options: JournalOptions | None = None,
        *,
        salvage: bool = False,
        progress: Progress | None = None,
        storage: Storage | None = None,
    ) -> Self:
        """Lock the folder, making it if need be, and recover it.

        Args:
            path: the journal's own folder; nothing else may be in it.
            options: the layout of new segments; an existing active segment keeps its own.
            salvage: read everything; keep what comes before the first damage and quarantine the rest.
            progress: called with (bytes read, bytes to read) of the active segment.
            storage: the disk, if not the real one.

        Raises:
            JournalLocked: another process has it open.
            JournalDamaged: it breaks a rule that no crash can break; the error names segment and offset.
            JournalFull: no space for what opening must write.
            JournalUnreadable: the disk failed.
        """
        options = options or JournalOptions()
        storage = storage or RealStorage()
        folder = Path(path).absolute()
        try:
            storage.make_folder(folder)
            lock = _take_lock(storage, folder)
        except OSError as error:
            raise _while_opening(folder, error) from error
        try:
            shelf = Shelf(storage, folder, segment_bytes=options.segment_bytes, align_bytes=options.align_bytes)
            writer, report = _recover(shelf, salvage=salvage, progress=progress)
        except OSError as error:
            storage.close(lock)
            raise _while_opening(folder, error) from error
        except BaseException:
            storage.close(lock)
            raise
        return cls(storage, lock, shelf, Appender(shelf, writer, options.soft_frame_bytes), report)

    @staticmethod
    def open_reader(path: str | Path, *, storage: Storage | None = None) -> LocalReader:
        """Open the folder of a live or stopped journal for reading only: no lock, no write, no repair.

        Raises:
            JournalDamaged: it cannot be trusted; the error names segment and offset.
            JournalUnreadable: there is no journal, or the disk failed.
        """
        return LocalReader(Path(path).absolute(), storage)

    @property
    def first_seq(self) -> int:
        """The lowest sequence number retention left."""
        return self._appender.view().first_seq

    @property
    def next_seq(self) -> int:
        """The sequence number after the last durable record."""
        return self._appender.next_seq

    def own(self, partition: str) -> LocalOwnership:
        """See `Log.own`; the epoch is durable on return.

        Raises:
            BadAppend: another partition than `LOCAL_PARTITION`.
        """
        check_partition(partition)
        return LocalOwnership(self._appender, self._appender.own())

    def read(self, partition: str, after: int = -1, until: int | None = None) -> Iterator[Frame]:
        """See `LogReader.read`; ends at what was durable when it was called.

        Raises:
            JournalUnreadable: the disk failed to read.
        """
        check_partition(partition)
        return read_frames(self._storage, self._folder, self._appender.view, after, until)

    def segments(self) -> tuple[SegmentInfo, ...]:
        """See `LogReader.segments`."""
        return self._appender.view().infos()

    def stats(self) -> JournalStats:
        """See `LogReader.stats`."""
        return self._appender.stats()

    def prepare_spare(self, pause: Callable[[], None] = breathe) -> bool:
        """Get ready for the next rotation: zero-fill the spare segment, and hash what was written so far.

        Call it from a thread of its own every second or so; rotation does inline whatever is left undone.

        Args:
            pause: called after every 256 KiB, each of them synced, so that commits get their turn.

        Returns:
            Whether a spare was made. False too when the disk is full: appends go on until only the held-back
            room is left, and say `JournalFull` then.

        Raises:
            JournalFailed: the disk broke.
        """
        try:
            return self._appender.upkeep(pause)
        except JournalFull:
            return False

    def save_snapshot(self, partition: str, seq: int, state: bytes | Iterable[bytes], *, schema: str) -> None:
        """See `Log.save_snapshot`; commits of other threads go on meanwhile."""
        check_partition(partition)
        if not 0 <= seq < self.next_seq:
            raise BadAppend(f"a snapshot must be of a durable sequence number below {self.next_seq}, not {seq}")
        with self._appender.aside("a snapshot"):
            self._snapshots.save(seq, state, schema)

    def load_snapshot(self, partition: str) -> Snapshot | None:
        """See `LogReader.load_snapshot`."""
        check_partition(partition)
        try:
            return self._snapshots.load()
        except OSError as error:
            raise JournalUnreadable("the snapshots", error) from error

    def snapshots(self, partition: str) -> tuple[int, ...]:
        """See `LogReader.snapshots`."""
        check_partition(partition)
        return tuple(self._snapshots.seqs())

    def read_snapshot(self, partition: str, seq: int) -> tuple[SnapshotInfo, Iterator[bytes]]:
        """See `LogReader.read_snapshot`."""
        check_partition(partition)
        return self._snapshots.open(seq)

    def trim(self, partition: str, upto_seq: int) -> int:
        """See `Log.trim`; without a snapshot nothing is dropped, and each that is kept is read again before."""
        check_partition(partition)
        try:
            floor = self._snapshots.floor()
        except OSError as error:
            raise JournalUnreadable("the snapshots", error) from error
        return self._appender.trim(min(upto_seq, floor))

    def close(self) -> None:
        """Note a clean close, release the lock; fine to repeat.

        Raises:
            JournalFailed: the closing frame could not be written; what was acknowledged is durable anyway.
        """
        try:
            self._appender.close()
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                self._storage.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _take_lock(storage: Storage, folder: Path) -> int:
    """Lock the folder or say who holds it."""
    path = folder / LOCK_NAME
    lock = storage.lock(path, f"{os.getpid()}\n".encode())
    if lock is not None:
        return lock
    handle = storage.open_read(path)
    try:
        note = read_fully(storage, handle, 32).strip()
    finally:
        storage.close(handle)
    raise JournalLocked(str(folder), int(note) if note.isdigit() else None)


def _recover(shelf: Shelf, *, salvage: bool, progress: Progress | None) -> tuple[Writer, RecoveryReport]:
    started = time.perf_counter()
    loss = salvage_folder(shelf) if salvage else None
    writer, report = recover(shelf, _find_manifest(shelf), progress)
    return writer, msgspec.structs.replace(report, elapsed=time.perf_counter() - started, loss=loss)


def _find_manifest(shelf: Shelf) -> Manifest | None:
    try:
        return load_manifest(shelf.storage, shelf.folder)
    except FileNotFoundError:
        return None


def _while_opening(folder: Path, error: OSError) -> JournalFull | JournalUnreadable:
    if error.errno in FULL_ERRNOS:
        return JournalFull(f"no space to open the journal in {folder} ({error}): make room and open it again")
    return JournalUnreadable(str(folder), error)
