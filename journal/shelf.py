"""The files of a journal folder, changed only in orders that survive a crash.

A new segment: zero-fill a spare under a temporary name, sync; write the header, sync, rename to its own name, sync the
folder; only then let the manifest name it; only then write frames. So a crash leaves at most a spare, or one successor
with a good header and no frames. The name of a spare is its process's own: one that was replaced while it stood still
and goes on filling its spare must not find that file to be a segment of the new owner.

The spare is made ahead of use, because filling takes tens of milliseconds and, on a full disk, fails: it is
better to learn that while the active segment still has room.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec.structs

from journal.files import LOCK_NAME, TEMPORARY_SUFFIX
from journal.manifest import Manifest, save_manifest
from journal.segment import Seal, SegmentHeader, SegmentRecord, Tally, encode_segment_header
from journal.storage import FULL_ERRNOS, Identity, Storage, write_fully
from journal.writer import Writer

_FILL_BYTES: Final = 256 * 1024  # Small enough not to hold up a commit for long when each piece is synced.
_ZEROS: Final = bytes(_FILL_BYTES)


class Shelf:
    """A folder, its manifest and its spare segment.

    Attributes:
        manifest: as it should be; `flush` makes the file say so.
        identity: of the manifest file as this process last wrote or read it.
        segment_bytes: size of a new segment.
        rotations: how many segments were begun.
    """

    def __init__(self, storage: Storage, folder: Path, *, segment_bytes: int, align_bytes: int) -> None:
        self.storage = storage
        self.folder = folder
        self.manifest = Manifest(b"")
        self.identity: Identity | None = None
        self.rotations = 0
        self._saved = self.manifest
        self.segment_bytes = segment_bytes
        self._align_log2 = align_bytes.bit_length() - 1
        self._spare_lock = threading.Lock()
        self._spare_ready = False
        lock = storage.identity(folder / LOCK_NAME)  # Of two owners at once, one holds a file that was removed.
        self._spare = folder / f"spare-{os.getpid()}-{lock[1] if lock else 0}{TEMPORARY_SUFFIX}"

    @property
    def is_flushed(self) -> bool:
        """Whether the manifest on disk is the one in memory; without it no frame may go into a new segment."""
        return self._saved is self.manifest

    @property
    def spare_ready(self) -> bool:
        """Whether the next segment is zero-filled and waiting."""
        return self._spare_ready

    @property
    def spare_busy(self) -> bool:
        """Whether some thread is making the spare right now."""
        return self._spare_lock.locked()

    def save(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        self.manifest = manifest
        self.flush()

    def flush(self) -> None:
        """Write the manifest if the file does not say what `manifest` says; repeat after a full disk."""
        if not self.is_flushed:
            manifest = self.manifest
            self.identity = save_manifest(self.storage, self.folder, manifest)
            self._saved = manifest

    def save_even_if_full(self, manifest: Manifest) -> None:
        """Replace the manifest by one that lets space be freed; a full disk costs the spare at most."""
        try:
            self.save(manifest)
        except OSError as error:
            if error.errno not in FULL_ERRNOS or not self._drop_spare():
                raise
            self.flush()

    def prepare_spare(self, pause: Callable[[], None] | None = None) -> bool:
        """Make the spare unless it is there; any thread may call it. True if it was made.

        Args:
            pause: called after each 256 KiB, which are then also synced one by one, to spread the load.

        Raises:
            OSError: one of `FULL_ERRNOS` when the disk is full; then nothing is left behind.
        """
        with self._spare_lock:
            if self._spare_ready:
                return False
            handle = self.storage.create(self._spare)
            try:
                self._fill(handle, pause)
            except OSError as error:
                if error.errno in FULL_ERRNOS:
                    self.storage.unlink(self._spare)
                raise
            finally:
                self.storage.close(handle)
            self._spare_ready = True
            return True

    def begin_segment(self, seal: Seal | None, at: int) -> Writer:
        """Turn the spare into the segment after the last one, whose seal is given, and start writing it.

        The manifest in memory names it afterwards; call `flush` before the first frame.

        Raises:
            OSError: whatever the storage raised. A full disk shows while the spare is made, before any change.
        """
        self.prepare_spare()
        manifest = self.manifest
        header = SegmentHeader(
            journal_id=manifest.journal_id,
            ordinal=manifest.next_ordinal,
            base_seq=seal.next_seq if seal else manifest.floor_seq,
            created=self.storage.now_ns(),
            salt=int.from_bytes(self.storage.random_bytes(8), "little"),
            chain=seal.chain if seal else 0,
            allotted=self.segment_bytes,
            align_log2=self._align_log2,
        )
        handle = self._take_spare(header)
        done = manifest.segments
        if done and done[-1].seal is None:
            done = (*done[:-1], msgspec.structs.replace(done[-1], seal=seal))
        record = SegmentRecord(header.ordinal, header.base_seq, header.allotted, header.chain)
        self.manifest = msgspec.structs.replace(manifest, segments=(*done, record))
        self.rotations += 1
        return Writer(self.storage, handle, header, Tally(header), at)

    def _drop_spare(self) -> bool:
        with self._spare_lock:
            if not self._spare_ready:
                return False
            self.storage.unlink(self._spare)
            self._spare_ready = False
            return True

    def _fill(self, handle: int, pause: Callable[[], None] | None) -> None:
        # Taking the space first makes a full disk fail at once and not after writing most of a segment.
        self.storage.allocate(handle, self.segment_bytes)
        for offset in range(0, self.segment_bytes, _FILL_BYTES):
            piece = _ZEROS[: self.segment_bytes - offset]
            write_fully(self.storage, handle, [piece], offset, durable=pause is not None)
            if pause is not None:
                pause()
        self.storage.sync(handle)

    def _take_spare(self, header: SegmentHeader) -> int:
        with self._spare_lock:
            handle = self.storage.open_write(self._spare)
            try:
                write_fully(self.storage, handle, [encode_segment_header(header)], 0, durable=False)
                self.storage.sync(handle)
                self.storage.rename(self._spare, self.folder / header.name)
                self.storage.sync_folder(self.folder)
            except BaseException:
                self.storage.close(handle)
                raise
            self._spare_ready = False
            return handle
