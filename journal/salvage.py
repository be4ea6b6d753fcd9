"""Salvage: what a person asks for when damage was refused and there is no copy to restore.

It reads everything, keeps the log up to the first damage, and moves or copies all that lies behind it into the
`quarantine` folder; nothing is deleted and nothing there is ever overwritten. The kept part is sealed, and
ordinary recovery then starts a new segment after it. Sequence numbers go on from the last one kept, so those
of lost records are used again: whatever was derived from the log must be built anew. Snapshots that are ahead
of the kept part go into quarantine too.

What the segments themselves say counts for more than the manifest: an old or missing one is written anew. A
lost manifest loses the epoch; it goes on from the clock's seconds, which no count of owners reaches.
"""

from pathlib import Path
from typing import Final

import msgspec.structs
from msgspec import Struct

from journal.errors import JournalDamaged, JournalNewer
from journal.files import QUARANTINE_NAME, is_foreign, is_leftover
from journal.log import Loss
from journal.manifest import NAME as MANIFEST_NAME
from journal.manifest import Manifest, load_manifest
from journal.recovery import Ending, examine_active
from journal.segment import (
    HEADER_SIZE,
    SegmentHeader,
    SegmentRecord,
    decode_segment_header,
    parse_segment_name,
    segment_name,
)
from journal.shelf import Shelf
from journal.snapshot import snapshot_name, snapshot_seqs
from journal.storage import Storage, read_fully, replace_file
from journal.verdict import Verdict
from journal.writer import Writer

_NS: Final = 1_000_000_000


class Survey(Struct, frozen=True):
    """What a full pass over the segments found.

    Attributes:
        kept: the good segments, sealed but perhaps for the last.
        damage: the first rule that was broken, or None.
        broken: how the segment with the damage ends, if its header is good.
        at: time of the last good record.
    """

    kept: tuple[SegmentRecord, ...]
    damage: JournalDamaged | None
    broken: Ending | None
    at: int

    @property
    def next_seq(self) -> int:
        """Where the good part ends, as far as the sealed segments and the broken one tell."""
        if self.broken is not None:
            return self.broken.tally.next_seq
        seal = self.kept[-1].seal if self.kept else None
        return seal.next_seq if seal else 0


def salvage_folder(shelf: Shelf) -> Loss | None:
    """Bring a damaged folder into a state that recovery accepts; None if nothing had to be given up.

    Raises:
        JournalNewer: a newer build wrote it: nothing is wrong, so nothing is given up.
        OSError: the disk failed; what was moved so far is in quarantine, and salvage may be repeated.
    """
    storage, folder = shelf.storage, shelf.folder
    names = storage.list_folder(folder)
    manifest, problem = _manifest(shelf, names)
    if manifest is None:
        return None
    survey = survey_segments(storage, folder, manifest, names)
    damage = survey.damage or problem
    foreign = [name for name in names if is_foreign(name)]
    ahead = _snapshots_ahead(survey, names)
    if damage is None and _is_old(manifest, survey):
        damage = JournalDamaged(MANIFEST_NAME, 0, "the manifest names every segment with frames", "it is an old one")
    if damage is None and foreign:
        damage = JournalDamaged(foreign[0], 0, "a journal folder holds the journal's files only")
    if damage is None and ahead:
        damage = JournalDamaged(ahead[0], 0, "no snapshot is ahead of the log")
    if damage is None:
        return None
    return _set_apart(shelf, manifest, survey, damage, [*foreign, *ahead])


def survey_segments(storage: Storage, folder: Path, manifest: Manifest, names: list[str]) -> Survey:
    """Read every segment from the first on, up to the first damage."""
    found = sorted(name for name in names if parse_segment_name(name) and not is_leftover(name, manifest))
    first = manifest.segments[0].name if manifest.segments else ""
    expected = parse_segment_name(first) or (manifest.floor, manifest.floor_seq)
    kept: list[SegmentRecord] = []
    chain = manifest.segments[0].chain if manifest.segments else 0
    at = 0
    for name in found:
        try:
            ending = _examine(storage, folder, name, manifest.journal_id, at)
            _check_follows(ending.header, expected, chain)
        except JournalDamaged as damage:
            if isinstance(damage, JournalNewer):
                raise
            return Survey(tuple(kept), damage, None, at)
        header, at = ending.header, ending.at
        record = SegmentRecord(header.ordinal, header.base_seq, header.allotted, header.chain)
        if name == found[-1] and ending.verdict is not Verdict.REFUSE and _is_last(name, manifest):
            return Survey((*kept, record), None, ending, at)
        if ending.verdict is not Verdict.SEAL or ending.footer is None:
            rule = ending.rule if ending.verdict is Verdict.REFUSE else "only the last segment has no footer"
            return Survey(tuple(kept), JournalDamaged(name, ending.tail.offset, rule, ending.detail), ending, at)
        kept.append(msgspec.structs.replace(record, seal=ending.footer))
        expected, chain = (header.ordinal + 1, ending.footer.next_seq), ending.footer.chain
    missing: JournalDamaged | None = None
    if manifest.segments and (not kept or kept[-1].ordinal < manifest.segments[-1].ordinal):
        missing = JournalDamaged(segment_name(*expected), 0, "every segment of the manifest is there", "it is missing")
    return Survey(tuple(kept), missing, None, at)


def _is_last(name: str, manifest: Manifest) -> bool:
    """Whether no segment that the manifest knows comes after this one."""
    return not manifest.segments or name >= manifest.segments[-1].name


def _examine(storage: Storage, folder: Path, name: str, journal_id: bytes, at: int) -> Ending:
    handle = storage.open_read(folder / name)
    try:
        header = decode_segment_header(read_fully(storage, handle, HEADER_SIZE), name)
        if header.journal_id != journal_id:
            raise JournalDamaged(name, 16, "every segment carries this journal's id", header.journal_id.hex())
        return examine_active(storage, handle, header, at)
    finally:
        storage.close(handle)


def _check_follows(header: SegmentHeader, expected: tuple[int, int], chain: int) -> None:
    if (header.ordinal, header.base_seq) != expected:
        raise JournalDamaged(segment_name(*expected), 0, "every segment is in the folder", "it is missing")
    if header.chain != chain:
        raise JournalDamaged(header.name, 64, "every segment follows the one before it")


def _manifest(shelf: Shelf, names: list[str]) -> tuple[Manifest | None, JournalDamaged | None]:
    """The manifest, or one made from the segments with the reason why; None for a new journal."""
    try:
        return load_manifest(shelf.storage, shelf.folder), None
    except FileNotFoundError:
        problem = JournalDamaged(MANIFEST_NAME, 0, "a folder with segments has a manifest", "it is missing")
    except JournalNewer:
        raise
    except JournalDamaged as damage:
        problem = damage
    segments = sorted(name for name in names if parse_segment_name(name))
    for name in segments:
        handle = shelf.storage.open_read(shelf.folder / name)
        try:
            header = decode_segment_header(read_fully(shelf.storage, handle, HEADER_SIZE), name)
        except JournalDamaged:
            continue
        finally:
            shelf.storage.close(handle)
        record = SegmentRecord(header.ordinal, header.base_seq, header.allotted, header.chain)
        epoch = shelf.storage.now_ns() // _NS
        return Manifest(header.journal_id, epoch, (record,), header.ordinal, header.base_seq), problem
    if segments or MANIFEST_NAME in names:
        raise problem
    return None, None


def _is_old(manifest: Manifest, survey: Survey) -> bool:
    """Whether good segments hold frames that the manifest does not know; one empty successor is no matter."""
    unknown = len(survey.kept) - len(manifest.segments)
    return unknown > 1 or (unknown == 1 and survey.broken is not None and survey.broken.tally.frames > 0)


def _snapshots_ahead(survey: Survey, names: list[str]) -> list[str]:
    return [snapshot_name(seq) for seq in snapshot_seqs(names) if seq >= survey.next_seq]


def _set_apart(shelf: Shelf, manifest: Manifest, survey: Survey, damage: JournalDamaged, others: list[str]) -> Loss:
    storage, folder = shelf.storage, shelf.folder
    storage.make_folder(folder / QUARANTINE_NAME)
    kept, moved = list(survey.kept), list(others)
    size, last_seq, files = 0, None, []
    if survey.damage is not None:
        if survey.broken is not None:
            record, copied, size = _seal_prefix(shelf, survey.broken, survey.at)
            kept.append(record)
            files.append(copied)
            last_seq = survey.broken.tail.last_seq
        good = {record.name for record in kept}
        later = sorted(name for name in storage.list_folder(folder) if parse_segment_name(name) and name not in good)
        later = [name for name in later if not is_leftover(name, manifest)]
        last_seq = _last_known(manifest, later, last_seq, survey.next_seq)
        moved.extend(later)
    for name in moved:
        files.append(_move(storage, folder, name))
        size += _size(storage, folder / QUARANTINE_NAME / files[-1])
    storage.sync_folder(folder / QUARANTINE_NAME)
    storage.sync_folder(folder)
    shelf.save(msgspec.structs.replace(manifest, segments=tuple(kept)))
    return Loss(damage.segment, damage.offset, damage.rule, survey.next_seq, last_seq, size, tuple(files))


def _last_known(manifest: Manifest, later: list[str], last_seq: int | None, next_seq: int) -> int | None:
    """The highest sequence number that anything still readable speaks of, if it is beyond what was kept."""
    known = [last_seq] if last_seq is not None else []
    known.extend(base_seq - 1 for _, base_seq in filter(None, map(parse_segment_name, later)))
    known.extend(record.seal.next_seq - 1 for record in manifest.segments if record.seal)
    known.extend(record.base_seq - 1 for record in manifest.segments)
    highest = max(known, default=-1)
    return highest if highest >= next_seq else None


def _seal_prefix(shelf: Shelf, broken: Ending, at: int) -> tuple[SegmentRecord, str, int]:
    """Copy what lies behind the good part, cut it off, and seal the good part."""
    storage, folder, header, offset = shelf.storage, shelf.folder, broken.header, broken.tail.offset
    handle = storage.open_write(folder / header.name)
    try:
        rest = read_fully(storage, handle, max(0, storage.size(handle) - offset), offset).rstrip(b"\0")
        copied = _free_name(storage, folder, f"{header.name}.{offset}")
        replace_file(storage, folder / QUARANTINE_NAME / copied, rest)
        seal = broken.footer
        if seal is None:
            storage.truncate(handle, offset)
            seal = Writer(storage, handle, header, broken.tally, at).seal()
        else:
            storage.truncate(handle, seal.end)
            storage.sync(handle)
    finally:
        storage.close(handle)
    record = SegmentRecord(header.ordinal, header.base_seq, header.allotted, header.chain, seal)
    return record, copied, len(rest)


def _move(storage: Storage, folder: Path, name: str) -> str:
    target = _free_name(storage, folder, name)
    storage.rename(folder / name, folder / QUARANTINE_NAME / target)
    return target


def _free_name(storage: Storage, folder: Path, name: str) -> str:
    taken = set(storage.list_folder(folder / QUARANTINE_NAME))
    names = (name, *(f"{name}.{count}" for count in range(1, len(taken) + 2)))
    return next(free for free in names if free not in taken)


def _size(storage: Storage, path: Path) -> int:
    handle = storage.open_read(path)
    try:
        return storage.size(handle)
    finally:
        storage.close(handle)
