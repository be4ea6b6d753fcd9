"""Reading durable frames, beside an owner in this process, in another one, or without any.

A reader asks a source for a `View`: which segments there are, and how far each may be read. Inside the
owner's process the view is published after each commit. For anybody else, `LocalReader` makes one: it walks
the active segment, and syncs the file before it shows what it found, so it too shows durable frames only.
It takes no lock, writes nothing and repairs nothing. A reader that looks again goes on where it was in the active
segment: what it once found there can only be appended to.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from journal.errors import BadAppend, JournalClosed, JournalDamaged, JournalTrimmed, JournalUnreadable
from journal.files import open_segment, read_footer
from journal.frame import DATA, Frame
from journal.log import LOCAL_PARTITION, JournalStats, SegmentInfo
from journal.manifest import Manifest, load_manifest
from journal.recovery import Ending, check_verdict, examine_active, examine_further
from journal.segment import HEADER_SIZE, SegmentRecord
from journal.snapshot import Snapshot, SnapshotInfo, SnapshotShelf
from journal.storage import RealStorage, Storage
from journal.verdict import Verdict
from journal.walk import Walk, Window

# A reader beside a live owner may see half of a write and take it for damage; it looks again before it says so.
_LOOKS: Final = 5
_LOOK_AGAIN_SECONDS: Final = 0.01


class Extent(Struct, frozen=True):
    """How far one segment may be read; `index` is None where the footer has it."""

    record: SegmentRecord
    next_seq: int
    end: int
    used: int
    first_at: int
    last_at: int
    index: Sequence[tuple[int, int]] | None


class View(Struct, frozen=True):
    """What a reader may see at one moment."""

    journal_id: bytes
    epoch: int
    extents: tuple[Extent, ...]

    @property
    def first_seq(self) -> int:
        """The lowest sequence number there is."""
        return self.extents[0].record.base_seq if self.extents else 0

    @property
    def next_seq(self) -> int:
        """The one after the highest."""
        return self.extents[-1].next_seq if self.extents else 0

    def holding(self, seq: int) -> Extent | None:
        """The segment with this record."""
        return next((extent for extent in self.extents if extent.record.base_seq <= seq < extent.next_seq), None)

    def infos(self) -> tuple[SegmentInfo, ...]:
        """For listings."""
        return tuple(
            SegmentInfo(
                ordinal=extent.record.ordinal,
                name=extent.record.name,
                base_seq=extent.record.base_seq,
                next_seq=extent.next_seq,
                bytes_used=extent.used,
                bytes_allotted=extent.used if extent.record.seal else extent.record.allotted,
                sealed=extent.record.seal is not None,
                first_at=extent.first_at,
                last_at=extent.last_at,
            )
            for extent in self.extents
        )

    def stats(self) -> JournalStats:
        """The figures anybody can see."""
        infos = self.infos()
        return JournalStats(
            first_seq=self.first_seq,
            next_seq=self.next_seq,
            epoch=self.epoch,
            segments=len(infos),
            bytes_used=sum(info.bytes_used for info in infos),
            bytes_allotted=sum(info.bytes_allotted for info in infos),
        )


def sealed_extent(record: SegmentRecord) -> Extent:
    """How far a sealed segment may be read: up to its footer."""
    seal = record.seal
    if seal is None:
        raise AssertionError("only a sealed segment has a footer")
    return Extent(record, seal.next_seq, seal.footer_offset, seal.end, seal.first_at, seal.last_at, None)


def check_partition(partition: str) -> None:
    """Refuse any partition but the one this backend has."""
    if partition != LOCAL_PARTITION:
        raise BadAppend(
            f"the local journal has one partition, {LOCAL_PARTITION!r}, which holds every cycle, not {partition!r}"
        )


def read_frames(
    storage: Storage, folder: Path, source: Callable[[], View], after: int, until: int | None
) -> Iterator[Frame]:
    """Check the request now and read lazily; see `LogReader.read`."""
    view = source()
    if after + 1 < view.first_seq:
        raise JournalTrimmed(after + 1, view.first_seq)
    last = view.next_seq - 1 if until is None else min(until, view.next_seq - 1)
    return _frames(storage, folder, source, after + 1, last)


def _frames(storage: Storage, folder: Path, source: Callable[[], View], seq: int, last: int) -> Iterator[Frame]:
    while seq <= last:
        view = source()
        if seq < view.first_seq:
            raise JournalTrimmed(seq, view.first_seq)
        extent = view.holding(seq)
        if extent is None:
            raise AssertionError("a durable record is in some segment")
        try:
            yield from _extent_frames(storage, folder, view.journal_id, extent, (seq, last))
            seq = extent.next_seq
        except FileNotFoundError as error:
            if extent.record.name in (found.record.name for found in source().extents):
                rule = "every segment of the manifest is in the folder"
                raise JournalDamaged(extent.record.name, 0, rule, "it is missing") from error
        except OSError as error:
            raise JournalUnreadable(extent.record.name, error) from error


def _extent_frames(
    storage: Storage, folder: Path, journal_id: bytes, extent: Extent, span: tuple[int, int]
) -> Iterator[Frame]:
    """Data frames of one segment that hold sequence numbers of the span; all there are, or JournalDamaged."""
    record, (seq, last) = extent.record, span
    handle, header = open_segment(storage, folder, record, journal_id)
    try:
        start: tuple[int, int] | None = None
        if seq > record.base_seq:
            index = read_footer(storage, handle, header, record).index if extent.index is None else extent.index
            start = _start(index, seq)
        walk = Walk(Window(storage, handle, extent.end), header, start)
        name = record.name
        for offset, frame, payload in walk.frames():
            if frame.kind == DATA and (base_seq := frame.base_seq) + (count := frame.records) > seq:
                if base_seq > last:
                    return
                yield Frame(base_seq, count, frame.at, bytes(payload), name, offset)
    finally:
        storage.close(handle)
    if walk.seq != extent.next_seq:
        rule = "every frame before the durable end is whole"
        raise JournalDamaged(name, walk.offset, rule, walk.detail or walk.stop.value)


def _start(index: Sequence[tuple[int, int]], seq: int) -> tuple[int, int] | None:
    """The last indexed (sequence number, offset) at or before `seq`."""
    place = bisect_right(index, seq, key=lambda entry: entry[0])
    return index[place - 1] if place else None


class LocalReader:
    """A journal folder, opened to be read only; see `LocalLog.open_reader`."""

    def __init__(self, path: Path, storage: Storage | None = None) -> None:
        self._storage = storage or RealStorage()
        self._folder = path
        self._closed = False
        self._ending: Ending | None = None  # Of the active segment, when it was looked at last.
        self._view()

    @property
    def first_seq(self) -> int:
        """The lowest sequence number retention left."""
        return self._view().first_seq

    @property
    def next_seq(self) -> int:
        """The sequence number after the last durable record, as of now."""
        return self._view().next_seq

    def read(self, partition: str, after: int = -1, until: int | None = None) -> Iterator[Frame]:
        """See `LogReader.read`."""
        check_partition(partition)
        return read_frames(self._storage, self._folder, self._view, after, until)

    def load_snapshot(self, partition: str) -> Snapshot | None:
        """See `LogReader.load_snapshot`."""
        check_partition(partition)
        return SnapshotShelf(self._storage, self._folder, self._view().journal_id).load()

    def snapshots(self, partition: str) -> tuple[int, ...]:
        """See `LogReader.snapshots`."""
        check_partition(partition)
        return tuple(SnapshotShelf(self._storage, self._folder, b"").seqs())

    def read_snapshot(self, partition: str, seq: int) -> tuple[SnapshotInfo, Iterator[bytes]]:
        """See `LogReader.read_snapshot`."""
        check_partition(partition)
        return SnapshotShelf(self._storage, self._folder, self._view().journal_id).open(seq)

    def segments(self) -> tuple[SegmentInfo, ...]:
        """See `LogReader.segments`."""
        return self._view().infos()

    def stats(self) -> JournalStats:
        """See `LogReader.stats`; the counts of this process stay 0."""
        return self._view().stats()

    def close(self) -> None:
        """Nothing is held between calls; later calls are refused."""
        self._closed = True

    def _view(self) -> View:
        """Look at the folder as it is now."""
        if self._closed:
            raise JournalClosed("this reader was closed: open another one")
        for look in range(_LOOKS):
            try:
                return self._look()
            except JournalDamaged:
                if look == _LOOKS - 1:
                    raise
            except OSError as error:
                if look == _LOOKS - 1 or not isinstance(error, FileNotFoundError):
                    raise JournalUnreadable(str(self._folder), error) from error
            time.sleep(_LOOK_AGAIN_SECONDS)
        raise AssertionError("the last look returns or raises")

    def _look(self) -> View:
        manifest = load_manifest(self._storage, self._folder)
        extents = [sealed_extent(record) for record in manifest.segments if record.seal]
        if manifest.active is not None:
            extents.append(self._active_extent(manifest, manifest.active))
        return View(manifest.journal_id, manifest.epoch, tuple(extents))

    def _active_extent(self, manifest: Manifest, record: SegmentRecord) -> Extent:
        handle, header = open_segment(self._storage, self._folder, record, manifest.journal_id)
        before, self._ending = self._ending, None  # Only a look that ends well is gone on from.
        try:
            seen = -1 if before is None else before.tally.next_seq
            ending = None if before is None else examine_further(self._storage, handle, header, before)
            if ending is None:
                seen, ending = -1, examine_active(self._storage, handle, header, 0)
            check_verdict(record.name, ending)
            if ending.tally.next_seq != seen:
                self._storage.sync(handle)
        finally:
            self._storage.close(handle)
        self._ending = ending
        return _active_extent(record, ending)


def _active_extent(record: SegmentRecord, ending: Ending) -> Extent:
    tally = ending.tally
    end = ending.footer.footer_offset if ending.verdict is Verdict.SEAL and ending.footer else tally.offset
    end = max(end, HEADER_SIZE)
    return Extent(record, tally.next_seq, end, tally.offset, tally.first_at, tally.last_at, tally.index)
