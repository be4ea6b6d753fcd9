"""The journal of a folder, looked at from its first byte to its last, and the store beside it compared with that."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from journal import LOCAL_PARTITION, JournalNewer, LogReader, VerifyReport, verify
from protocol.events import WriterStarted
from runtime.doctor.report import RULES, Check, found_of
from runtime.replay import EventsNewer, fold, fold_journal
from runtime.store import Look, StoreError, digest

_TAG = WriterStarted.__struct_config__.tag
_events = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_started = msgspec.msgpack.Decoder(WriterStarted).decode


def journal_check(folder: Path) -> Check:
    """Every byte of it: frames, checksums, footers, snapshots. Blocks."""
    report: VerifyReport = verify(folder)
    said = f"{report.segments} segments, {report.frames} frames, {report.records} events, {report.bytes} bytes read"
    faults = [f"{one.segment} at byte {one.offset}: {one.message}" for one in report.faults]
    if not faults and report.notes:
        return Check("journal", "note", said, list(report.notes))
    return found_of("journal", said, faults)


def epochs_check(reader: LogReader, progress: Callable[[int], None] = lambda _: None) -> Check:
    """Invariant 7: numbers without a gap, and each writer with a greater epoch than the one before. Blocks."""
    found: list[str] = []
    following, latest, writers = reader.first_seq, 0, 0
    for frame in reader.read(LOCAL_PARTITION, reader.first_seq - 1):
        records = _events(frame.payload)
        skip = max(0, reader.first_seq - frame.base_seq)
        if frame.base_seq + skip != following:
            found.append(f"after event {following - 1} comes {frame.base_seq}")
        following = frame.base_seq + len(records)
        for seq, packed in enumerate(records, frame.base_seq):
            if memoryview(packed)[1] == _TAG:  # An array of at most 15 has its tag in byte 1.
                event = _started(packed)
                writers += 1
                if event.epoch <= latest:
                    found.append(f"event {seq} is of a writer of epoch {event.epoch}, after one of epoch {latest}")
                latest = event.epoch
        progress(following)
    return found_of("invariant 7", f"{RULES[7]} ({following - reader.first_seq} events, {writers} starts)", found)


def applied_check(look: Look, reader: LogReader) -> Check:
    """Invariant 1 of the store: it is written behind the journal, so it never has what the journal has not."""
    applied, end = look.meta("applied"), reader.next_seq
    said = f"the store is at event {applied}, the journal ends with {end - 1}"
    if applied < end:
        return Check("store", "ok", said)
    words = (
        "the store has what the journal has not: the journal was cut, or is another one; the next start builds it anew"
    )
    return Check("store", "broken", said, [words])


def compare_check(look: Look, reader: LogReader, progress: Callable[[int], None] = lambda _: None) -> Iterator[Check]:
    """Invariants 2 and 5: every event is read and folded, and the store has what that gives. Blocks."""
    applied = look.meta("applied")
    try:
        found = fold_journal(reader, applied, progress)
        same = digest(found.state) == digest(look)
        rest = fold(reader.read(LOCAL_PARTITION, applied), start=found)
    except (EventsNewer, JournalNewer) as fault:
        yield Check("invariant 2", "broken", RULES[2], [str(fault)])
        return
    except StoreError as fault:
        yield Check("invariant 2", "skipped", RULES[2], [str(fault)])
        return
    yield Check("invariant 2", "ok", f"{RULES[2]} ({rest.seq + 1} events)")
    if same:
        yield Check("digest", "ok", f"the store of event {applied} is what a replay gives")
    else:
        words = "the digest of the store differs from the replay's: delete the store, the next start builds it again"
        yield Check("digest", "broken", f"the store of event {applied} beside a replay", [words])
