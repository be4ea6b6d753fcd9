"""Opening a journal: deciding, from the disk alone, what was acknowledged.

Order of things, each step repeatable after a crash:

1. The manifest says which files there must be. A missing, foreign or renamed one is refused; what a crash can
   leave (temporary files, a spare, the leftovers of a trim, one empty successor) is removed.
2. Every file is synced before it is read: nothing is decided on bytes that only a cache holds.
3. Sealed segments are checked by header, length and footer; their frames are checked whenever they are read.
4. The epoch rises before the active segment is read, so that an owner whose lock was broken stops first.
5. The active segment is walked to its end, and the decision table says what that end is.
6. A torn tail is copied beside the segment, zeroed, and the segment sealed before it: a new segment follows,
   so no record is ever appended after damage.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec.structs
from msgspec import Struct

from journal.errors import JournalDamaged
from journal.examine import Tail, gather
from journal.files import (
    TORN_SUFFIX,
    check_names,
    check_snapshots,
    check_successor,
    open_segment,
    read_footer,
    remove_leftovers,
)
from journal.frame import CONFIRM, align_up
from journal.log import RecoveryReport
from journal.manifest import NAME as MANIFEST_NAME
from journal.manifest import Manifest
from journal.segment import (
    JOURNAL_ID_BYTES,
    Seal,
    SegmentHeader,
    SegmentRecord,
    Tally,
    parse_segment_name,
    segment_name,
)
from journal.shelf import Shelf
from journal.storage import Storage, read_fully, replace_file, write_fully
from journal.verdict import Last, Verdict, Where, decide
from journal.walk import Stop, Walk, Window
from journal.writer import Writer

Progress = Callable[[int, int], None]

_PIECE_BYTES: Final = 1024 * 1024


class Ending(Struct, frozen=True):
    """How the active segment ends: the good part, and what lies behind it."""

    verdict: Verdict
    rule: str
    detail: str
    header: SegmentHeader
    tally: Tally
    tail: Tail
    at: int
    needs_confirm: bool
    footer: Seal | None


def recover(shelf: Shelf, manifest: Manifest | None, progress: Progress | None) -> tuple[Writer, RecoveryReport]:
    """Bring the folder into a state to append to.

    Args:
        shelf: the folder, locked by this process.
        manifest: as read from it, or None to start a new journal.
        progress: called with (bytes read, bytes to read) of the active segment.

    Raises:
        JournalDamaged: the folder breaks a rule that no crash can break; no record was changed.
        OSError: the disk failed; nothing was decided.
    """
    storage, folder = shelf.storage, shelf.folder
    names = storage.list_folder(folder)
    if manifest is None:
        manifest = _first_manifest(storage, names)
        shelf.save(manifest)
        names = storage.list_folder(folder)  # Saving took the leftover of an earlier try with it.
    successor = check_names(manifest, names)
    storage.sync_folder(folder)
    for record in manifest.segments:
        if record.seal is not None:
            _check_sealed(storage, folder, record, manifest.journal_id)
    remove_leftovers(storage, folder, manifest, names)
    shelf.save(msgspec.structs.replace(manifest, epoch=manifest.epoch + 1))
    if manifest.active is None:
        return _begin_next(shelf, successor)
    return _recover_active(shelf, manifest.active, successor, progress)


def _first_manifest(storage: Storage, names: list[str]) -> Manifest:
    """The manifest of a new journal, in a folder that holds nothing of an old one."""
    for name in sorted(names):
        if parse_segment_name(name) or name.endswith(".snap"):
            raise JournalDamaged(MANIFEST_NAME, 0, "a folder with segments has a manifest", "it is missing")
    manifest = Manifest(storage.random_bytes(JOURNAL_ID_BYTES))
    check_names(manifest, names)
    return manifest


def _check_sealed(storage: Storage, folder: Path, record: SegmentRecord, journal_id: bytes) -> None:
    handle, header = open_segment(storage, folder, record, journal_id)
    try:
        storage.sync(handle)
        read_footer(storage, handle, header, record)
    finally:
        storage.close(handle)


def _begin_next(shelf: Shelf, successor: str | None) -> tuple[Writer, RecoveryReport]:
    """Start the first segment, or the one after a salvage; also again after a crash in between."""
    segments = shelf.manifest.segments
    seal = segments[-1].seal if segments else None
    check_snapshots(shelf.storage.list_folder(shelf.folder), seal.next_seq if seal else shelf.manifest.floor_seq)
    _drop_successor(shelf, successor, seal)
    writer = shelf.begin_segment(seal, _last_at(shelf.manifest))
    shelf.flush()
    name, next_seq = writer.header.name, writer.tally.next_seq
    reason = "a new journal was started" if seal is None else "a new segment was started"
    return writer, RecoveryReport(next_seq, reason, name, writer.tally.offset)


def _recover_active(
    shelf: Shelf, record: SegmentRecord, successor: str | None, progress: Progress | None
) -> tuple[Writer, RecoveryReport]:
    storage, folder = shelf.storage, shelf.folder
    handle, header = open_segment(storage, folder, record, shelf.manifest.journal_id, writable=True)
    try:
        storage.sync(handle)
        storage.forget_cache(handle)
        ending = examine_active(storage, handle, header, _last_at(shelf.manifest), progress)
        check_verdict(record.name, ending)
        check_snapshots(storage.list_folder(folder), ending.tally.next_seq)
        _check_sealed_before(successor, ending)
        torn_copy = _cut(storage, folder, handle, ending) if ending.verdict is Verdict.CUT else ""
        writer = _continue(shelf, handle, ending, successor)
    except BaseException:
        storage.close(handle)
        raise
    report = RecoveryReport(
        next_seq=ending.tally.next_seq,
        reason=ending.rule,
        segment=record.name,
        offset=ending.tail.offset,
        torn_bytes=ending.tail.end - ending.tail.offset,
        torn_copy=torn_copy,
    )
    return writer, report


def examine_active(
    storage: Storage, handle: int, header: SegmentHeader, at: int, progress: Progress | None = None
) -> Ending:
    """Walk the active segment and decide what its end means. Reads only.

    Raises:
        OSError: the disk failed to read; that is no verdict.
    """
    window = Window(storage, handle, storage.size(handle))
    walk = Walk(window, header)
    tally = Tally(header)
    offset = shown = tally.offset
    for offset, frame, _ in walk.frames():
        tally.add_header(offset, frame)
        if progress and offset - shown >= _PIECE_BYTES:
            shown = offset
            progress(offset, window.end)
    footer: Seal | None = None
    if walk.stop is Stop.FOOTER:
        footer = Seal(tally.next_seq, offset, tally.offset, tally.chain, tally.records, tally.first_at, tally.last_at)
    last = Last.FOOTER if footer else Last.CLOSED if walk.closed else Last.OPEN
    facts, tail = gather(window, header, walk, where=Where.ACTIVE, last=last)
    verdict, rule = decide(facts)
    needs_confirm = tally.frames > 0 and (walk.closed or walk.kind != CONFIRM)
    return Ending(verdict, rule, walk.detail, header, tally, tail, max(at, walk.at), needs_confirm, footer)


def examine_further(storage: Storage, handle: int, header: SegmentHeader, before: Ending) -> Ending | None:
    """Walk on from where the active segment ended before, over what was appended since. Reads only.

    Returns:
        How it ends now; None when that is not simply where its zeros begin, so all of it must be examined again.
    """
    tally = before.tally
    if header != before.header or before.verdict is not Verdict.CONTINUE:
        return None
    window = Window(storage, handle, storage.size(handle))
    walk = Walk(window, header, (tally.next_seq, tally.offset))
    walk.chain, walk.at = tally.chain, before.at
    for offset, frame, _ in walk.frames():
        tally.add_header(offset, frame)
    ahead = bytes(window.at(tally.offset, header.align))
    if walk.stop is Stop.FOOTER or len(ahead) < header.align or ahead.strip(b"\0"):
        return None
    return msgspec.structs.replace(before, at=walk.at, detail=walk.detail)


def check_verdict(name: str, ending: Ending) -> None:
    """Raise JournalDamaged if the verdict is a refusal."""
    if ending.verdict is Verdict.REFUSE:
        tail = ending.tail
        found = [ending.detail] if ending.detail else []
        if tail.proof is not None:
            found.append(f"the frame at {tail.proof} proves it")
        found.append(f"damage reaches to byte {tail.end}")
        raise JournalDamaged(name, tail.offset, ending.rule, "; ".join(found))


def _check_sealed_before(successor: str | None, ending: Ending) -> None:
    if successor and ending.footer is None:
        raise JournalDamaged(successor, 0, "a segment is sealed before the next begins", ending.header.name)


def _cut(storage: Storage, folder: Path, handle: int, ending: Ending) -> str:
    """Keep a copy of the torn tail, then make it zeros again."""
    tail, align = ending.tail, ending.header.align
    name = ending.header.name + TORN_SUFFIX
    if name not in storage.list_folder(folder):  # The first copy is the true one, if a crash repeats this.
        torn = read_fully(storage, handle, tail.end - tail.offset, tail.offset)
        replace_file(storage, folder / name, torn)
    end = min(align_up(tail.end, align), storage.size(handle))
    zeros = bytes(_PIECE_BYTES)
    for offset in range(tail.offset, end, _PIECE_BYTES):
        write_fully(storage, handle, [zeros[: end - offset]], offset, durable=False)
    storage.sync(handle)
    return name


def _continue(shelf: Shelf, handle: int, ending: Ending, successor: str | None) -> Writer:
    """A writer at the end of the log: of this segment if it may go on, else of a new one."""
    storage = shelf.storage
    seal = ending.footer
    if seal is not None:
        storage.truncate(handle, seal.end)
        storage.sync(handle)
        _drop_successor(shelf, successor, seal)
    else:
        writer = Writer(storage, handle, ending.header, ending.tally, ending.at)
        # The confirm frame separates what was acknowledged from the commit that may be torn next.
        if ending.verdict is Verdict.CONTINUE and (not ending.needs_confirm or writer.confirm_durably(clean=False)):
            return writer
        seal = writer.seal()
    following = shelf.begin_segment(seal, ending.at)
    shelf.flush()
    storage.close(handle)
    return following


def _drop_successor(shelf: Shelf, successor: str | None, seal: Seal | None) -> None:
    """Remove the successor a crash left before the manifest named it, once it is shown to be empty."""
    if successor is None:
        return
    manifest, storage = shelf.manifest, shelf.storage
    base_seq, chain = (seal.next_seq, seal.chain) if seal else (manifest.floor_seq, 0)
    place = (manifest.next_ordinal, base_seq)
    if segment_name(*place) != successor:
        raise JournalDamaged(successor, 0, "a segment begins where the one before it ends", f"at {base_seq}")
    check_successor(storage, shelf.folder, place, chain, manifest.journal_id)
    storage.unlink(shelf.folder / successor)


def _last_at(manifest: Manifest) -> int:
    """Time of the last sealed record, which no later commit may be before."""
    return max((record.seal.last_at for record in manifest.segments if record.seal), default=0)
