"""Which files a journal folder may hold, and opening the ones the manifest names."""

import re
from pathlib import Path
from typing import Final

from journal import manifest as manifest_file
from journal.errors import JournalDamaged
from journal.frame import FOOTER, HEADER_BYTES, crc32, parse_header
from journal.manifest import Manifest
from journal.segment import (
    HEADER_SIZE,
    SPARE_NAME,
    Footer,
    SegmentHeader,
    SegmentRecord,
    decode_footer,
    decode_segment_header,
    parse_segment_name,
    segment_name,
)
from journal.snapshot import snapshot_name, snapshot_seqs
from journal.storage import Storage, read_fully

LOCK_NAME: Final = "LOCK"
QUARANTINE_NAME: Final = "quarantine"
TORN_SUFFIX: Final = ".torn"
TEMPORARY_SUFFIX: Final = ".tmp"
# A file system's own folder, where the journal is the root of a disk of its own.
_OTHERS: Final = frozenset({LOCK_NAME, manifest_file.NAME, SPARE_NAME, QUARANTINE_NAME, "lost+found"})
_OURS: Final = re.compile(r"\d{20}\.snap|.*\.tmp|\d{10}-\d{20}\.seg(\.torn)?")


def check_names(manifest: Manifest, names: list[str]) -> str | None:
    """Compare the folder with the manifest.

    Returns:
        The one segment the manifest may not know yet: the successor of the last, or None.

    Raises:
        JournalDamaged: a file is missing, foreign or one too many.
    """
    there = set(names)
    named = {record.name for record in manifest.segments}
    for name in sorted(named - there):
        raise JournalDamaged(name, 0, "every segment of the manifest is in the folder", "it is missing")
    for name in sorted(there - named):
        if is_foreign(name):
            raise JournalDamaged(name, 0, "a journal folder holds the journal's files only", "move this one away")
    extra = [name for name in sorted(there - named) if _ordinal(name) >= manifest.floor]
    for place, name in enumerate(extra):
        if place > 0 or _ordinal(name) != manifest.next_ordinal:
            raise JournalDamaged(name, 0, "the manifest names every segment", "it does not name this one")
    return extra[0] if extra else None


def is_foreign(name: str) -> bool:
    """Whether no journal ever makes a file of this name."""
    return name not in _OTHERS and not _OURS.fullmatch(name)


def is_leftover(name: str, manifest: Manifest) -> bool:
    """Whether this is a segment that a trim dropped, but had no time to remove."""
    return 0 <= _ordinal(name) < manifest.floor


def check_snapshots(names: list[str], next_seq: int) -> None:
    """Check that no snapshot holds what the log does not; JournalDamaged if one does."""
    newest = next(iter(snapshot_seqs(names)), -1)
    if newest >= next_seq:
        raise JournalDamaged(
            snapshot_name(newest), 0, "no snapshot is ahead of the log", f"the log ends before {next_seq}"
        )


def remove_leftovers(storage: Storage, folder: Path, manifest: Manifest, names: list[str]) -> None:
    """Remove what a crash may leave and nobody needs: temporary files, the spare, trimmed segments."""
    for name in names:
        if name == SPARE_NAME or name.endswith(TEMPORARY_SUFFIX) or is_leftover(name, manifest):
            storage.unlink(folder / name)


def open_segment(
    storage: Storage, folder: Path, record: SegmentRecord, journal_id: bytes, *, writable: bool = False
) -> tuple[int, SegmentHeader]:
    """Open a segment the manifest names, and check that its header agrees.

    Raises:
        FileNotFoundError: it is gone.
        JournalDamaged: the header is bad or belongs to another journal or place.
    """
    path = folder / record.name
    handle = storage.open_write(path) if writable else storage.open_read(path)
    try:
        header = decode_segment_header(read_fully(storage, handle, HEADER_SIZE), record.name)
        _check_header(header, record, journal_id)
    except BaseException:
        storage.close(handle)
        raise
    return handle, header


def _check_header(header: SegmentHeader, record: SegmentRecord, journal_id: bytes) -> None:
    name = record.name
    if header.journal_id != journal_id:
        raise JournalDamaged(name, 16, "every segment carries this journal's id", header.journal_id.hex())
    if header.chain != record.chain:
        raise JournalDamaged(name, 64, "every segment follows the one before it")
    if header.allotted != record.allotted:
        raise JournalDamaged(name, 72, "header and manifest agree on the size", f"{header.allotted}")


def read_footer(storage: Storage, handle: int, header: SegmentHeader, record: SegmentRecord) -> Footer:
    """Read and check the footer of a sealed segment against the manifest.

    Raises:
        JournalDamaged: the length, the footer or its place is not what the manifest says.
    """
    name, seal = record.name, record.seal
    if seal is None:
        raise AssertionError("only sealed segments have a footer")
    size = storage.size(handle)
    if size != seal.end:
        raise JournalDamaged(name, min(size, seal.end), "a sealed segment keeps its length", f"{size} bytes")
    content = read_fully(storage, handle, seal.end - seal.footer_offset, seal.footer_offset)
    found = parse_header(content, 0, header.salt)
    if found is None or found.kind != FOOTER or found.base_seq != seal.next_seq or found.own_chain != seal.chain:
        raise JournalDamaged(name, seal.footer_offset, "a sealed segment ends with its footer")
    payload = content[HEADER_BYTES : HEADER_BYTES + found.payload_bytes]
    if crc32(payload) != found.payload_crc:
        raise JournalDamaged(name, seal.footer_offset, "the footer's checksum must match its bytes")
    return decode_footer(payload, name, seal.footer_offset)


def check_successor(storage: Storage, folder: Path, place: tuple[int, int], chain: int, journal_id: bytes) -> None:
    """Check that a segment the manifest does not name yet follows the log and holds nothing.

    Args:
        storage: the disk.
        folder: the journal's.
        place: its ordinal and first sequence number, as its name says.
        chain: the chain value it must carry.
        journal_id: whose it must be.

    Raises:
        JournalDamaged: it does not follow, or it holds frames: then the manifest is an old one.
    """
    name = segment_name(*place)
    handle = storage.open_read(folder / name)
    try:
        size = storage.size(handle)
        content = read_fully(storage, handle, size)
    finally:
        storage.close(handle)
    header = decode_segment_header(content, name)
    if (header.journal_id, header.chain) != (journal_id, chain):
        raise JournalDamaged(name, 16, "a segment is of this journal and follows the one before it")
    if content[HEADER_SIZE:].strip(b"\0") or size != header.allotted:
        raise JournalDamaged(name, HEADER_SIZE, "the manifest names every segment with frames", "it is an old one")


def _ordinal(name: str) -> int:
    """The ordinal in a segment's name, -1 for any other file."""
    parsed = parse_segment_name(name)
    return parsed[0] if parsed else -1
