"""The offline checker: walks every byte of a journal folder read-only and lists every fault with its place.

It is stricter than opening. Opening checks what appending depends on and leaves the frames of sealed segments
to whoever reads them; this checks those too, and the count of each frame, the zeros behind it, the digest, the
index and the snapshots. After a fault it goes on at the next good frame. It takes no lock: on the folder of a
live server a commit in flight shows as a note, not as a fault.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from journal.errors import JournalDamaged, JournalUnreadable
from journal.examine import find_header
from journal.files import check_names, check_snapshots, open_segment, read_footer
from journal.frame import DATA, HEADER_BYTES, FrameHeader, align_up
from journal.manifest import NAME as MANIFEST_NAME
from journal.manifest import Manifest, load_manifest
from journal.recovery import check_verdict, examine_active
from journal.segment import DIGEST_BYTES, Footer, SegmentHeader, SegmentRecord, Tally
from journal.snapshot import SnapshotShelf
from journal.storage import RealStorage, Storage
from journal.verdict import Verdict
from journal.walk import WINDOW_BYTES, Stop, Walk, Window

_T = TypeVar("_T")
_COUNTER: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


class VerifyFault(Struct, frozen=True):
    """One fault: the file, the byte offset, and what is wrong there."""

    segment: str
    offset: int
    message: str


class VerifyReport(Struct, frozen=True):
    """What a walk through a journal found; sizes in bytes.

    Attributes:
        segments: how many the manifest names.
        frames: good frames, confirm frames and footers included.
        records: in good frames.
        bytes: read and checked.
        next_seq: the sequence number after the last good record.
        faults: everything that breaks a rule, in order.
        notes: what is unusual, but what a crash or a running server explains.
    """

    segments: int
    frames: int
    records: int
    bytes: int
    next_seq: int
    faults: tuple[VerifyFault, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not self.faults


def verify(path: str | Path, *, storage: Storage | None = None) -> VerifyReport:
    """Check a journal folder; nothing is changed and no lock is taken.

    Raises:
        JournalUnreadable: there is no journal, or the disk fails to read it.
    """
    folder = Path(path).absolute()
    try:
        return _Checker(storage or RealStorage(), folder).run()
    except OSError as error:
        raise JournalUnreadable(str(folder), error) from error


class _Checker:
    """One pass; collects instead of raising."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._faults: list[VerifyFault] = []
        self._notes: list[str] = []
        self._frames = self._records = self._bytes = self._next_seq = 0

    def run(self) -> VerifyReport:
        manifest = self._try(lambda: load_manifest(self._storage, self._folder))
        if manifest is None:
            return self._report(0)
        names = self._storage.list_folder(self._folder)
        self._try(lambda: check_names(manifest, names))
        self._next_seq = manifest.floor_seq
        for record in manifest.segments:
            if record.name in names:
                self._try(partial(self._segment, manifest, record))
        self._try(lambda: check_snapshots(names, self._next_seq))
        snapshots = SnapshotShelf(self._storage, self._folder, manifest.journal_id)
        whole = [seq for seq in snapshots.seqs() if self._try(partial(snapshots.check, seq)) is not None]
        if manifest.floor_seq and max(whole, default=-1) < manifest.floor_seq - 1:
            rule = f"a whole snapshot has what retention dropped, up to {manifest.floor_seq - 1}; there is none"
            self._fault(MANIFEST_NAME, 0, rule)
        return self._report(len(manifest.segments))

    def _report(self, segments: int) -> VerifyReport:
        return VerifyReport(
            segments,
            self._frames,
            self._records,
            self._bytes,
            self._next_seq,
            tuple(self._faults),
            tuple(self._notes),
        )

    def _try(self, look: Callable[[], _T]) -> _T | None:
        try:
            return look()
        except JournalDamaged as damage:
            found = f"{damage.rule} ({damage.detail})" if damage.detail else damage.rule
            self._fault(damage.segment, damage.offset, found)
            return None

    def _fault(self, name: str, offset: int, message: str) -> None:
        self._faults.append(VerifyFault(name, offset, message))

    def _segment(self, manifest: Manifest, record: SegmentRecord) -> None:
        handle, header = open_segment(self._storage, self._folder, record, manifest.journal_id)
        try:
            size = self._storage.size(handle)
            self._bytes += size
            if record.seal is None:
                self._active(handle, header, size)
            else:
                self._sealed(handle, header, record)
        finally:
            self._storage.close(handle)

    def _active(self, handle: int, header: SegmentHeader, size: int) -> None:
        ending = examine_active(self._storage, handle, header, 0)
        if ending.verdict in {Verdict.CUT, Verdict.SEAL}:
            self._notes.append(f"{header.name} at byte {ending.tail.offset}: {ending.rule}")
        end = size if ending.verdict is Verdict.REFUSE else ending.tally.offset
        before = len(self._faults)
        self._walk(Window(self._storage, handle, end), header)
        if ending.verdict is Verdict.REFUSE:
            # The verdict says more about the first fault than the walk that ran into it.
            del self._faults[before : before + 1]
            self._try(lambda: check_verdict(header.name, ending))

    def _sealed(self, handle: int, header: SegmentHeader, record: SegmentRecord) -> None:
        seal = record.seal
        if seal is None:
            raise AssertionError("only a sealed segment has a footer")
        footer = self._try(lambda: read_footer(self._storage, handle, header, record))
        before = len(self._faults)
        window = Window(self._storage, handle, min(seal.footer_offset, self._storage.size(handle)))
        tally = self._walk(window, header)
        if footer is None:
            return
        self._frames += 1
        if len(self._faults) == before:
            self._totals(header.name, tally, footer, record)
        if _digest(window) != footer.digest:
            self._fault(header.name, seal.footer_offset, "the digest in the footer must match the segment")

    def _totals(self, name: str, tally: Tally, footer: Footer, record: SegmentRecord) -> None:
        counted = (tally.next_seq, tally.records, tally.first_at, tally.last_at)
        seal = record.seal
        if seal is None or counted != (seal.next_seq, seal.records, seal.first_at, seal.last_at):
            self._fault(name, tally.offset, "the manifest's totals must match the frames")
        said = (footer.next_seq, footer.records, footer.first_at, footer.last_at)
        if counted != said or footer.frames != tally.frames or footer.index != tally.index:
            self._fault(name, tally.offset, "the footer's totals and index must match the frames")

    def _walk(self, window: Window, header: SegmentHeader) -> Tally:
        """Check every frame below the window's end, going on behind the bad ones."""
        tally = Tally(header)
        walk = Walk(window, header)
        while True:
            for offset, frame, payload in walk.frames():
                tally.add_header(offset, frame)
                self._frame(header, offset, frame, payload)
                self._padding(window, header, offset, frame)
            self._next_seq = max(self._next_seq, walk.seq)
            if walk.stop is Stop.END:
                return tally
            if walk.stop is not Stop.FOOTER:
                self._fault(header.name, walk.offset, walk.detail or walk.stop.value)
            start = find_header(window, header, walk.offset)
            if start is None:
                return tally
            walk = Walk(window, header, start)

    def _frame(self, header: SegmentHeader, offset: int, frame: FrameHeader, payload: memoryview) -> None:
        self._frames += 1
        self._records += frame.records
        if frame.kind == DATA:
            try:
                held = len(_COUNTER.decode(payload))
            except msgspec.DecodeError as error:
                self._fault(header.name, offset, f"every record is one msgpack value ({error})")
            else:
                if held != frame.records:
                    self._fault(header.name, offset, f"the header says {frame.records} records, there are {held}")

    def _padding(self, window: Window, header: SegmentHeader, offset: int, frame: FrameHeader) -> None:
        end = offset + HEADER_BYTES + frame.payload_bytes
        padding = bytes(window.at(end, align_up(end, header.align) - end))
        if padding.strip(b"\0"):
            self._fault(header.name, end, "zeros follow a frame up to the next sector; no record is touched")


def _digest(window: Window) -> bytes:
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for offset in range(0, window.end, WINDOW_BYTES):
        hasher.update(window.at(offset, WINDOW_BYTES))
    return hasher.digest()
