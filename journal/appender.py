"""Appending to a local journal: room, rotation, fencing, and what a failure means.

Rules:

1. Everything that can be refused is refused before the first byte is written.
2. A disk that is full shows where space is taken: at the spare and at the manifest, never at a commit. That is
   `JournalFull`, and the next call tries again.
3. Any other failure of a write, sync or rename leaves the outcome unknown. It is final: nothing is written
   after it, and nothing is synced again, since a second sync may succeed over pages the first one dropped.
   An exception that interrupts a write (a signal's, say) counts as one.
4. The last eighth of a segment is for draining only, unless the next segment is already there. So a full disk
   is met while finishing work can still be recorded.
"""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import msgspec.structs

from journal import manifest as manifest_file
from journal.errors import (
    Fenced,
    JournalClosed,
    JournalDamaged,
    JournalFailed,
    JournalFull,
    TooLarge,
    WrongSequence,
)
from journal.frame import pack_groups
from journal.log import JournalStats
from journal.manifest import load_manifest
from journal.reader import Extent, View, sealed_extent
from journal.segment import SegmentRecord, Tally, commit_limit
from journal.shelf import Shelf
from journal.storage import FULL_ERRNOS
from journal.writer import Writer


class Published:
    """What readers may see of the active segment; replaced as a whole, never changed."""

    __slots__ = ("end", "first_at", "last_at", "next_seq", "record", "sealed", "tally")

    def __init__(self, sealed: tuple[Extent, ...], record: SegmentRecord, writer: Writer) -> None:
        self.sealed = sealed
        self.record = record
        self.tally: Tally = writer.tally
        self.next_seq = writer.tally.next_seq
        self.end = writer.durable_end
        self.first_at = writer.tally.first_at
        self.last_at = writer.tally.last_at


class Appender:
    """The writing side of one open folder. All methods may be called from any thread."""

    def __init__(self, shelf: Shelf, writer: Writer, soft_frame_bytes: int) -> None:
        self._shelf = shelf
        self._writer = writer
        self._soft_frame_bytes = soft_frame_bytes
        self._commit_limit = commit_limit(shelf.segment_bytes)
        self._manifest_path = shelf.folder / manifest_file.NAME
        self._pid = os.getpid()
        self._lock = threading.Lock()  # Held while anything is written, but for the spare.
        self._upkeep_lock = threading.Lock()
        self._aside_lock = threading.Lock()
        self._epoch = shelf.manifest.epoch
        self._closed = False
        self._doing = ""  # What is being written; still set means that it was interrupted.
        self._failure = ""
        self._commits = self._frames = self._records = 0
        self._rotations_before = shelf.rotations
        self._published = self._visible()

    @property
    def next_seq(self) -> int:
        """The sequence number the next record gets."""
        return self._published.next_seq

    def own(self) -> int:
        """Raise the epoch, durably, and return it.

        Raises:
            JournalFull: no space for the manifest.
            JournalFailed: the disk broke.
            Fenced: another process took the folder over.
        """
        with self._lock:
            self._check_usable()
            self._check_manifest(self._epoch)
            manifest = self._shelf.manifest
            with self._writing("raising the epoch", may_be_full=True):
                self._shelf.save(msgspec.structs.replace(manifest, epoch=manifest.epoch + 1))
            self._epoch = self._shelf.manifest.epoch
            return self._epoch

    def append(
        self, epoch: int, groups: Sequence[Sequence[bytes]], at: int, expected: int | None, *, drain: bool
    ) -> int:
        """See `Ownership.append`."""
        frames = pack_groups(groups, self._soft_frame_bytes)
        with self._lock:
            self._check_owner(epoch)
            next_seq = self._writer.tally.next_seq
            if expected is not None and expected != next_seq:
                raise WrongSequence(expected, next_seq)
            if not frames:
                return next_seq
            self._make_room(self._writer.size_of(frames), drain=drain)
            with self._writing("a commit"):
                self._writer.commit(frames, at)
            self._commits += 1
            self._frames += len(frames)
            self._published = published = self._visible()
            self._records += published.next_seq - next_seq
            return published.next_seq

    def confirm(self, epoch: int) -> bool:
        """See `Ownership.confirm`."""
        with self._lock:
            self._check_owner(epoch)
            if not self._shelf.is_flushed:
                return False
            with self._writing("a confirm frame"):
                return self._writer.confirm()

    def reserve(self, epoch: int) -> bool:
        """See `Ownership.reserve`."""
        shelf = self._shelf
        with self._lock:
            self._check_owner(epoch)
            try:
                with self._writing("the manifest", may_be_full=True):
                    shelf.flush()
                if not shelf.spare_busy:  # Whoever makes it right now may yet meet the end of the disk.
                    with self._writing("the spare segment", may_be_full=True):
                        shelf.prepare_spare()
            except JournalFull:
                return False
            return shelf.spare_ready

    def release(self, epoch: int) -> None:
        """Make the confirm frame durable, if this epoch still owns the log and the disk still works."""
        with self._lock:
            if self._is_writable() and epoch == self._epoch:
                with self._writing("the confirm frame of a closing owner"):
                    self._writer.confirm_durably(clean=False)
                self._published = self._visible()

    def close(self) -> None:
        """Say in the log that it was closed, if that is so, and give the files back. Fine to repeat.

        Raises:
            JournalFailed: the last frame could not be written; everything acknowledged is durable anyway.
        """
        with self._upkeep_lock, self._aside_lock, self._lock:
            if self._closed:
                return
            try:
                if self._is_writable():
                    with self._writing("the closing frame"):
                        self._writer.confirm_durably(clean=True)
            finally:
                self._closed = True
                self._writer.close()

    def upkeep(self, pause: Callable[[], None] | None) -> bool:
        """See `LocalLog.prepare_spare`."""
        with self._upkeep_lock:
            self._check_ours()
            try:
                self._writer.hash_ahead()
                return self._shelf.prepare_spare(pause)
            except OSError as error:
                if error.errno in FULL_ERRNOS:
                    raise _full("the spare segment", error) from error
                self._check_ours()  # Who takes a folder over removes the spare of the owner before.
                self._fail("preparing the spare segment", error)

    def trim(self, upto_seq: int) -> int:
        """See `Log.trim`; the caller has bounded `upto_seq` by the snapshots."""
        with self._lock:
            self._check_usable()
            self._check_manifest(self._epoch)
            manifest = self._shelf.manifest
            dropped = [record for record in manifest.segments if record.seal and record.seal.next_seq - 1 <= upto_seq]
            if not dropped:
                return 0
            kept = manifest.segments[len(dropped) :]
            with self._writing("trimming", may_be_full=True):
                self._shelf.save_even_if_full(
                    msgspec.structs.replace(manifest, segments=kept, floor=kept[0].ordinal, floor_seq=kept[0].base_seq)
                )
            self._published = self._visible()
            with self._writing("trimming"):
                for record in dropped:
                    self._shelf.storage.unlink(self._shelf.folder / record.name)
                self._shelf.storage.sync_folder(self._shelf.folder)
            return len(dropped)

    def view(self) -> View:
        """What readers may see now."""
        seen = self._published
        extents = seen.sealed
        active = Extent(seen.record, seen.next_seq, seen.end, seen.end, seen.first_at, seen.last_at, seen.tally.index)
        return View(self._shelf.manifest.journal_id, self._epoch, (*extents, active))

    def stats(self) -> JournalStats:
        """Figures of this process and of the log."""
        return msgspec.structs.replace(
            self.view().stats(),
            commits=self._commits,
            frames=self._frames,
            records=self._records,
            rotations=self._shelf.rotations - self._rotations_before,
            spare_ready=self._shelf.spare_ready,
            # Not a failure: another thread that writes right now, and therefore holds the lock.
            failed=bool(self._failure or (self._doing and not self._lock.locked())),
        )

    def check_usable(self) -> None:
        """Raise unless the log is open, in this process, and has not failed."""
        with self._lock:
            self._check_usable()

    @contextmanager
    def aside(self, doing: str) -> Generator[None]:
        """Write a file of its own beside the segments, while commits go on; a full disk is no failure."""
        with self._aside_lock:
            self._check_ours()
            try:
                yield
            except OSError as error:
                if error.errno in FULL_ERRNOS:
                    raise _full(doing, error) from error
                self._fail(doing, error)

    def _visible(self) -> Published:
        segments = self._shelf.manifest.segments
        before: Published | None = getattr(self, "_published", None)
        if before is not None and before.record is segments[-1] and len(before.sealed) + 1 == len(segments):
            return Published(before.sealed, before.record, self._writer)
        return Published(tuple(map(sealed_extent, segments[:-1])), segments[-1], self._writer)

    def _make_room(self, size: int, *, drain: bool) -> None:
        """See to it that a commit of this size has a place; nothing is written when this raises JournalFull."""
        if size > self._commit_limit:
            raise TooLarge(
                f"a commit must take at most {self._commit_limit} bytes of a segment, this one takes {size}: "
                "append fewer groups at a time, or use larger segments"
            )
        shelf = self._shelf
        with self._writing("the manifest", may_be_full=True):
            shelf.flush()
        fits = self._writer.has_room(size, held_back=False)
        if fits and (drain or shelf.spare_ready or self._writer.has_room(size, held_back=True)):
            return
        if fits and shelf.spare_busy:
            return
        with self._writing("the spare segment", may_be_full=True):
            shelf.prepare_spare()
        if not fits:
            self._rotate()

    def _rotate(self) -> None:
        shelf, full = self._shelf, self._writer
        with self._writing("starting a segment"):
            self._writer = shelf.begin_segment(full.seal(), full.at)
            full.close()
        self._published = self._visible()
        with self._writing("the manifest", may_be_full=True):
            shelf.flush()

    def _check_owner(self, epoch: int) -> None:
        self._check_usable()
        if epoch != self._epoch:
            raise Fenced(epoch, self._epoch)
        self._check_manifest(epoch)

    def _check_ours(self) -> None:
        """Raise unless the log is usable and nobody took it over; waits for what another thread is writing."""
        with self._lock:
            self._check_usable()
            self._check_manifest(self._epoch)

    def _check_usable(self) -> None:
        if self._failure or self._doing:
            cause = self._failure or f"{self._doing} was interrupted"
            raise JournalFailed(f"the journal failed before ({cause}): it takes nothing more, exit and open it again")
        if self._closed:
            raise JournalClosed("the journal was closed: open it again")
        if os.getpid() != self._pid:
            raise JournalClosed("the journal belongs to the process that opened it, not to its forked child")

    def _is_writable(self) -> bool:
        shelf = self._shelf
        if self._failure or self._doing or self._closed or os.getpid() != self._pid or not shelf.is_flushed:
            return False
        return shelf.storage.identity(self._manifest_path) == shelf.identity

    def _check_manifest(self, epoch: int) -> None:
        """Notice another process that took over, by the manifest it must have replaced."""
        shelf = self._shelf
        if shelf.storage.identity(self._manifest_path) == shelf.identity:
            return
        try:
            found = load_manifest(shelf.storage, shelf.folder)
        except (OSError, JournalDamaged) as error:
            self._fail("looking at the manifest, which somebody replaced or removed,", error)
        if found.epoch > epoch:
            raise Fenced(epoch, found.epoch)
        self._fail("looking at the manifest", f"somebody replaced it by one of epoch {found.epoch}")

    @contextmanager
    def _writing(self, doing: str, *, may_be_full: bool = False) -> Generator[None]:
        """Around anything that writes, with the lock held: whatever is raised inside is final."""
        self._doing = doing
        try:
            yield
        except OSError as error:
            if not (may_be_full and error.errno in FULL_ERRNOS):
                self._fail(doing, error)
            self._doing = ""
            raise _full(doing, error) from error
        self._doing = ""

    def _fail(self, doing: str, error: Exception | str) -> NoReturn:
        self._failure = f"{doing} failed: {error}"
        cause = error if isinstance(error, Exception) else None
        raise JournalFailed(f"{self._failure}; the outcome is unknown, exit and open the journal again") from cause


def _full(doing: str, error: OSError) -> JournalFull:
    return JournalFull(f"no space for {doing} ({error}): nothing was written, retry when space returns")
