"""The local backend: one folder of segments, one writer, any number of readers.

Fencing. Within a process, a second `own` fences the first at once. Across processes the lock keeps the
second out; should the lock be broken (its file deleted, a file system that does not honour it), opening and
owning replace the manifest with a higher epoch, and every append first looks whether the manifest is still
the one this process wrote: one `stat`. What that does not cover is a takeover between that look and the end
of the write, some 0.1 ms; a local file system offers no write that could be fenced itself.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec.structs

from journal import manifest as manifest_file
from journal.errors import (
    BadAppend,
    Fenced,
    JournalClosed,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    JournalUnreadable,
    TooLarge,
    WrongSequence,
)
from journal.files import LOCK_NAME
from journal.frame import Frame, pack_groups
from journal.log import JournalOptions, JournalStats, RecoveryReport, SegmentInfo
from journal.manifest import Manifest, load_manifest
from journal.reader import Extent, LocalReader, View, check_partition, read_frames, sealed_extent
from journal.recovery import Progress, recover
from journal.salvage import salvage_active
from journal.segment import commit_limit
from journal.shelf import Shelf
from journal.snapshot import Snapshot, SnapshotShelf
from journal.storage import FULL_ERRNOS, RealStorage, Storage, read_fully
from journal.writer import Writer

PAUSE_SECONDS: Final = 0.001  # Between the pieces of a spare that is made ahead of use, so commits get their turn.


class LocalLog:
    """A journal in a folder, opened for writing by this process; see `journal.log.Log`."""

    def __init__(self, shelf: Shelf, lock: int, writer: Writer, recovery: RecoveryReport) -> None:
        self.recovery = recovery
        self._shelf = shelf
        self._lock_handle = lock
        self._writer = writer
        self._owner: LocalOwnership | None = None
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        self._failure: BaseException | None = None
        self._closed = False
        self._commits = 0
        self._snapshots = SnapshotShelf(shelf.storage, shelf.folder, shelf.manifest.journal_id)
        self._view = self._look()

    @classmethod
    def open(
        cls,
        path: Path,
        options: JournalOptions | None = None,
        *,
        salvage: bool = False,
        progress: Progress | None = None,
        storage: Storage | None = None,
    ) -> Self:
        """Take the folder, recover it, and be ready to own and read.

        Args:
            path: made if it is not there.
            options: of segments begun from now on.
            salvage: keep the good prefix of a damaged active segment and quarantine the rest; see `recovery.loss`.
            progress: called with (bytes read, bytes to read).
            storage: the disk; another one in tests of faults.

        Raises:
            JournalLocked: another process has it.
            JournalDamaged: bytes break a rule; nothing was changed.
            JournalUnreadable: the disk fails to read.
            JournalFull: no space for the first segment.
        """
        options = options or JournalOptions()
        storage = storage or RealStorage()
        started = time.perf_counter()
        storage.make_folder(path)
        lock = _take_lock(storage, path)
        try:
            shelf = Shelf(storage, path, segment_bytes=options.segment_bytes, align_bytes=options.align_bytes)
            manifest = _manifest(storage, path)
            loss = salvage_active(storage, path, manifest) if salvage and manifest is not None else None
            writer, report = recover(shelf, manifest, progress)
        except OSError as error:
            storage.close(lock)
            if error.errno in FULL_ERRNOS:
                raise JournalFull(f"no space for a segment in {path.name}: make room, then start again") from error
            raise JournalUnreadable(path.name, error) from error
        except BaseException:
            storage.close(lock)
            raise
        elapsed = time.perf_counter() - started
        log = cls(shelf, lock, writer, msgspec.structs.replace(report, elapsed=elapsed, loss=loss))
        log._soft_bytes = options.soft_frame_bytes
        return log

    _soft_bytes = JournalOptions().soft_frame_bytes

    @staticmethod
    def open_reader(path: Path) -> LocalReader:
        """Read a folder without a lock and without changing anything, beside a live owner or without one.

        Raises:
            JournalDamaged: the folder breaks a rule.
            JournalUnreadable: there is no journal, or the disk fails to read it.
        """
        return LocalReader(path)

    # -- the Log seam

    def own(self, partition: str) -> "LocalOwnership":
        """See `Log.own`."""
        check_partition(partition)
        with self._mutex:
            self._check_open()
            if self._owner is not None:
                manifest = self._shelf.manifest
                self._guarded(lambda: self._shelf.save(msgspec.structs.replace(manifest, epoch=manifest.epoch + 1)))
            self._owner = LocalOwnership(self, self._shelf.manifest.epoch)
            return self._owner

    @property
    def first_seq(self) -> int:
        """The lowest sequence number retention left."""
        return self._view.first_seq

    @property
    def next_seq(self) -> int:
        """The sequence number after the last durable record."""
        return self._view.next_seq

    def read(self, partition: str, after: int = -1, until: int | None = None) -> Iterator[Frame]:
        """See `LogReader.read`."""
        check_partition(partition)
        return read_frames(self._shelf.storage, self._shelf.folder, lambda: self._view, after, until)

    def segments(self) -> tuple[SegmentInfo, ...]:
        """See `LogReader.segments`."""
        return self._view.infos()

    def stats(self) -> JournalStats:
        """See `LogReader.stats`."""
        return msgspec.structs.replace(
            self._view.stats(),
            commits=self._commits,
            rotations=self._shelf.rotations,
            spare_ready=self._shelf.spare_ready,
            failed=self._failure is not None,
        )

    def load_snapshot(self, partition: str) -> Snapshot | None:
        """See `LogReader.load_snapshot`."""
        check_partition(partition)
        return self._snapshots.load()

    def save_snapshot(self, partition: str, seq: int, state: bytes, *, schema: str) -> None:
        """See `Log.save_snapshot`."""
        check_partition(partition)
        if seq >= self.next_seq:
            raise BadAppend(f"a snapshot holds durable records only: {seq} is not below {self.next_seq}")
        self._guarded(lambda: self._snapshots.save(seq, state, schema))

    def trim(self, partition: str, upto_seq: int) -> int:
        """See `Log.trim`."""
        check_partition(partition)
        with self._mutex:
            self._check_open()
            upto = min(upto_seq, self._snapshots.floor())
            manifest = self._shelf.manifest
            dropped = [one for one in manifest.segments if one.seal is not None and one.seal.next_seq - 1 <= upto]
            if not dropped:
                return 0
            kept = manifest.segments[len(dropped) :]
            smaller = msgspec.structs.replace(manifest, segments=kept, floor=dropped[-1].ordinal + 1)
            self._guarded(lambda: self._shelf.save(smaller))
            self._view = self._look()
            for record in dropped:
                self._guarded(lambda name=record.name: self._shelf.storage.unlink(self._shelf.folder / name))
            return len(dropped)

    def prepare_spare(self) -> bool:
        """Zero-fill the next segment ahead of use, paced; any thread may call it. True if it was made."""
        self._check_open()
        try:
            made = self._shelf.prepare_spare(lambda: time.sleep(PAUSE_SECONDS))
            self._writer.hash_ahead()
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                return False  # Rotation will meet it, and say so to whoever appends.
            self._failure = error
            raise JournalFailed(f"the disk broke while a spare segment was made: {error}") from error
        return made

    def close(self) -> None:
        """Give the folder back; a second call does nothing."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            if os.getpid() == self._pid:
                self._writer.close()
            self._shelf.storage.close(self._lock_handle)

    # -- what an owner does

    def append_as(
        self, owner: "LocalOwnership", groups: Sequence[Sequence[bytes]], at: int, expected: int | None, *, drain: bool
    ) -> int:
        """Append for an owner, after every check that needs no write; see `Ownership.append`."""
        with self._mutex:
            self._check_owner(owner)
            if expected is not None and expected != self.next_seq:
                raise WrongSequence(expected, self.next_seq)
            frames = pack_groups(groups, self._soft_bytes)
            if not frames:
                return self.next_seq
            size = self._writer.size_of(frames)
            if size > commit_limit(self._writer.header.allotted):
                raise TooLarge(f"a commit fits half a segment, this one has {size} bytes: append fewer groups at once")
            self._make_room(size, drain=drain)
            self._guarded(lambda: self._writer.commit(frames, at))
            self._commits += 1
            self._view = self._look()
            return self.next_seq

    def confirm_as(self, owner: "LocalOwnership") -> bool:
        """Write the idle confirm frame for an owner."""
        with self._mutex:
            self._check_owner(owner)
            wrote = False

            def confirm() -> None:
                nonlocal wrote
                wrote = self._writer.confirm()

            self._guarded(confirm)
            return wrote

    def disown(self, owner: "LocalOwnership") -> None:
        """Note a clean end for an owner that is still in charge."""
        with self._mutex:
            if self._owner is owner and not self._closed and self._failure is None:
                self._owner = None
                self._guarded(lambda: self._writer.confirm_durably(clean=True))
                self._view = self._look()

    def _make_room(self, size: int, *, drain: bool) -> None:
        """Begin a new segment when the commit does not fit; held-back room is used while no spare can be made."""
        if self._writer.has_room(size, held_back=False):
            return
        try:
            self._shelf.prepare_spare()
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                if drain and self._writer.has_room(size, held_back=False):
                    return
                raise JournalFull("no space for the next segment: nothing was written; make room") from error
            self._failure = error
            raise JournalFailed(f"the disk broke while a segment was made: {error}") from error
        self._guarded(self._rotate)

    def _rotate(self) -> None:
        old = self._writer
        self._writer = self._shelf.begin_segment(old.seal(), old.at)
        self._shelf.flush()
        old.close()
        self._view = self._look()

    # -- checks

    def _guarded(self, work: Callable[[], object]) -> None:
        """Run a write; after any failure of the disk nothing is written by this process again."""
        try:
            work()
        except JournalError:
            raise
        except BaseException as error:
            self._failure = error
            raise JournalFailed(f"the disk broke, so what was written last is unknown: {error}") from error

    def _check_open(self) -> None:
        if self._closed or os.getpid() != self._pid:
            raise JournalClosed("this journal was closed, or belongs to the parent of this process")
        if self._failure is not None:
            raise JournalFailed(f"the journal failed before: {self._failure}") from self._failure

    def _check_owner(self, owner: "LocalOwnership") -> None:
        self._check_open()
        if self._owner is not owner:
            raise Fenced(owner.epoch, self._shelf.manifest.epoch)
        shelf = self._shelf
        if shelf.storage.identity(shelf.folder / manifest_file.NAME) != shelf.identity:
            raise Fenced(owner.epoch, owner.epoch + 1)

    def _look(self) -> View:
        """What readers may see now: everything before the durable end."""
        manifest, writer = self._shelf.manifest, self._writer
        extents = [sealed_extent(record) for record in manifest.segments if record.seal]
        active, tally = manifest.active, writer.tally
        if active is not None:
            extents.append(
                Extent(
                    active,
                    tally.next_seq,
                    writer.durable_end,
                    tally.offset,
                    tally.first_at,
                    tally.last_at,
                    tuple(tally.index),
                )
            )
        return View(manifest.journal_id, manifest.epoch, tuple(extents))


class LocalOwnership:
    """The right to append to a local journal; see `journal.log.Ownership`."""

    def __init__(self, log: LocalLog, epoch: int) -> None:
        self._log = log
        self._epoch = epoch

    @property
    def epoch(self) -> int:
        """Rises with every owner."""
        return self._epoch

    @property
    def next_seq(self) -> int:
        """The sequence number the next record gets."""
        return self._log.next_seq

    def append(
        self, groups: Sequence[Sequence[bytes]], *, at: int, expected: int | None = None, drain: bool = False
    ) -> int:
        """See `Ownership.append`."""
        return self._log.append_as(self, groups, at, expected, drain=drain)

    def confirm(self) -> bool:
        """See `Ownership.confirm`."""
        return self._log.confirm_as(self)

    def close(self) -> None:
        """See `Ownership.close`."""
        self._log.disown(self)


def _take_lock(storage: Storage, path: Path) -> int:
    lock = storage.lock(path / LOCK_NAME, str(os.getpid()).encode())
    if lock is not None:
        return lock
    handle = storage.open_read(path / LOCK_NAME)
    try:
        note = read_fully(storage, handle, 20)
    finally:
        storage.close(handle)
    raise JournalLocked(path.name, int(note) if note.isdigit() else None)


def _manifest(storage: Storage, path: Path) -> Manifest | None:
    try:
        return load_manifest(storage, path)
    except FileNotFoundError:
        return None
