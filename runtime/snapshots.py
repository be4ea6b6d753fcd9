"""Snapshots of the state in the journal: where a fold begins once retention has dropped the journal's beginning.

1. As long as the journal begins at 0 it is folded from there: what the events say is the truth, and a snapshot of a
   store that went wrong would hand the wrong on.
2. After that a store that was lost begins with the newest snapshot that is whole, and a replay, which is there to check
   the store, with the oldest that the journal still goes on from.
"""

from collections.abc import Callable, Iterable, Iterator

import structlog

from journal import LOCAL_PARTITION, JournalDamaged, JournalNewer, Log, LogReader, schema_digest
from protocol.memory import MemoryState
from protocol.state import CycleRow, DefinitionRow
from runtime.store import Database, StoreError
from runtime.store.dump import SCHEMA_NAME, dump, fill, load, versions

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.snapshots")


class HistoryDropped(StoreError):
    """Retention dropped what would be needed; the message says what there is."""


def save_snapshot(journal: Log, database: Database, pause: Callable[[], None]) -> int:
    """Keep the store's latest checkpoint beside the journal, read back and verified; returns its sequence number.

    Args:
        journal: gets it.
        database: read over a connection of its own, as of one moment.
        pause: called after every quarter of a MiB, so that turns are taken meanwhile.

    Raises:
        JournalFull: there is no room; nothing was changed.
    """
    with database.aside() as look:
        applied = look.meta("applied")
        journal.save_snapshot(LOCAL_PARTITION, applied, _paced(dump(look), pause), schema=SCHEMA_NAME)
    return applied


def _paced(blocks: Iterable[bytes], pause: Callable[[], None]) -> Iterator[bytes]:
    for block in blocks:
        yield block
        pause()


def restore(journal: LogReader, database: Database) -> None:
    """Fill a store that knows nothing of what the journal has dropped; one that does is left as it is.

    Raises:
        HistoryDropped: no whole snapshot has what is missing.
    """
    if database.meta("applied") + 1 >= journal.first_seq:
        return
    for seq, schema, pieces in _whole(journal, newest_first=True):
        fill(database, pieces, same_schema=schema == schema_digest(SCHEMA_NAME))
        log.info("the store begins with a snapshot", seq=seq)
        return
    raise _lost(journal)


def check_beginning(journal: LogReader) -> None:
    """See that a store could be built anew, before one that is of no use is given up.

    Raises:
        HistoryDropped: it could not.
    """
    if journal.first_seq and next(_whole(journal, newest_first=True), None) is None:
        raise _lost(journal)


def beginning(journal: LogReader, until: int | None = None) -> tuple[MemoryState, int]:
    """What a replay begins with: a state, and the last sequence number folded into it, -1 for none.

    Raises:
        HistoryDropped: the journal no longer reaches back as far as `until`, or nothing has its beginning.
    """
    if not journal.first_seq:
        return MemoryState(), -1
    for seq, _, pieces in _whole(journal, newest_first=False):
        if until is not None and seq > until:
            raise HistoryDropped(
                f"retention dropped what came before event {journal.first_seq}: "
                f"the earliest moment that can be shown is event {seq}, not {until}"
            )
        return load(pieces)
    raise _lost(journal)


def known_versions(journal: LogReader) -> tuple[int, list[CycleRow], list[DefinitionRow]]:
    """The cycles of a journal that lost its beginning, from its newest snapshot, and the sequence number it reaches."""
    for seq, _, pieces in _whole(journal, newest_first=True):
        return seq, *versions(pieces)
    raise _lost(journal)


def _whole(journal: LogReader, *, newest_first: bool) -> Iterator[tuple[int, bytes, Iterator[bytes]]]:
    """The snapshots that are whole and that the journal goes on from: each with its number, schema and bytes."""
    seqs = [seq for seq in journal.snapshots(LOCAL_PARTITION) if seq + 1 >= journal.first_seq]
    for seq in sorted(seqs, reverse=newest_first):
        try:
            info, pieces = journal.read_snapshot(LOCAL_PARTITION, seq)
        except JournalNewer:
            raise
        except JournalDamaged as damage:
            log.warning("a snapshot is damaged; another one has to do", reason=str(damage))
            continue
        yield seq, info.schema, pieces


def _lost(journal: LogReader) -> HistoryDropped:
    return HistoryDropped(
        f"the journal begins with event {journal.first_seq}, and neither the store nor a whole snapshot has what came "
        "before: put store.sqlite or a .snap file of this journal back from a copy"
    )
