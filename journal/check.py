"""The offline checker: walks every byte of a journal folder read-only and lists every fault with its place."""

from pathlib import Path

from msgspec import Struct

from journal.errors import JournalDamaged
from journal.files import check_names, open_segment, read_footer
from journal.manifest import Manifest, load_manifest
from journal.recovery import check_verdict, examine_active
from journal.segment import SegmentRecord
from journal.storage import RealStorage, Storage
from journal.walk import Walk, Window


class VerifyFault(Struct, frozen=True):
    """One fault: the file, the byte offset, and what is wrong there."""

    segment: str
    offset: int
    message: str


class VerifyReport(Struct, frozen=True):
    """What a walk through a journal found."""

    segments: int
    frames: int
    records: int
    next_seq: int
    faults: tuple[VerifyFault, ...]


def verify(path: Path) -> VerifyReport:
    """Check a journal folder; nothing is changed and no lock is taken.

    Raises:
        OSError: there is no journal, or the disk fails to read it.
    """
    storage = RealStorage()
    try:
        manifest = load_manifest(storage, path)
    except JournalDamaged as damage:
        return VerifyReport(0, 0, 0, 0, (_fault(damage),))
    faults: list[VerifyFault] = []
    try:
        check_names(manifest, storage.list_folder(path))
    except JournalDamaged as damage:
        faults.append(_fault(damage))
    frames = records = next_seq = 0
    for record in manifest.segments:
        try:
            more, held, next_seq = _walk(storage, path, manifest, record)
            frames += more
            records += held
        except JournalDamaged as damage:
            faults.append(_fault(damage))
        except FileNotFoundError:
            faults.append(VerifyFault(record.name, 0, "the segment is missing"))
    return VerifyReport(len(manifest.segments), frames, records, next_seq, tuple(faults))


def _walk(storage: Storage, path: Path, manifest: Manifest, record: SegmentRecord) -> tuple[int, int, int]:
    handle, header = open_segment(storage, path, record, manifest.journal_id)
    try:
        if record.seal is None:
            ending = examine_active(storage, handle, header, 0)
            check_verdict(record.name, ending)
            return ending.tally.frames, ending.tally.records, ending.tally.next_seq
        footer = read_footer(storage, handle, header, record)
        walk = Walk(Window(storage, handle, record.seal.footer_offset), header)
        frames = sum(1 for _ in walk.frames())
        if walk.seq != footer.next_seq:
            rule = "every frame of a sealed segment is whole"
            raise JournalDamaged(record.name, walk.offset, rule, walk.detail or walk.stop.value)
        return frames, footer.records, footer.next_seq
    finally:
        storage.close(handle)


def _fault(damage: JournalDamaged) -> VerifyFault:
    return VerifyFault(damage.segment, damage.offset, str(damage))
