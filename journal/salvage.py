"""Salvage: what a person asks for when damage was refused and there is no copy to restore.

It keeps the good prefix of the active segment, copies what lies behind it into the quarantine folder, and makes
that part zeros, so that recovery finds a clean end there. What was lost is reported as far as it can be known.
Damage in a sealed segment stays refused: the segments behind it are whole, and dropping them would lose far more.
"""

from pathlib import Path

from journal.errors import JournalDamaged
from journal.files import QUARANTINE_NAME, open_segment
from journal.log import Loss
from journal.manifest import Manifest
from journal.recovery import check_verdict, examine_active
from journal.storage import Storage, read_fully, replace_file, write_fully

_PIECE_BYTES = 1 << 20


def salvage_active(storage: Storage, folder: Path, manifest: Manifest) -> Loss | None:
    """Quarantine the damaged tail of the active segment; None when there is nothing that recovery would refuse.

    Raises:
        JournalDamaged: the segment's header itself is damaged.
        OSError: the disk failed.
    """
    record = manifest.active
    if record is None:
        return None
    handle, header = open_segment(storage, folder, record, manifest.journal_id, writable=True)
    try:
        storage.sync(handle)
        ending = examine_active(storage, handle, header, 0)
        try:
            check_verdict(record.name, ending)
        except JournalDamaged as damage:
            begin, size = ending.tail.offset, storage.size(handle)
            storage.make_folder(folder / QUARANTINE_NAME)
            name = f"{record.name}.{begin}"
            rest = read_fully(storage, handle, size - begin, begin)
            replace_file(storage, folder / QUARANTINE_NAME / name, rest)
            for offset in range(begin, size, _PIECE_BYTES):
                zeros = bytes(min(_PIECE_BYTES, size - offset))
                write_fully(storage, handle, [zeros], offset, durable=False)
            storage.sync(handle)
            lost = len(rest.rstrip(b"\0"))
            return Loss(record.name, begin, damage.rule, ending.tally.next_seq, None, lost, (name,))
    finally:
        storage.close(handle)
    return None
