"""The doctor of a stopped project: its journal and its store, read and never written.

A store that is behind its journal, as a crash leaves it, is copied to a scratch folder and caught up there, as the next
start would do it; so what is looked at is what a server would run on.
"""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from journal import LOCAL_PARTITION, LogReader
from protocol.evolve import evolve
from runtime.config import STORE_FILE
from runtime.doctor.report import Check, invariant
from runtime.doctor.rules import Looked
from runtime.replay import events_of
from runtime.store import Database, Look, StoredState
from runtime.store.database import look_at

ROWS_MAX = 4000  # Of a checkpoint of the copy.
STATE_RULES = (1, 3, 4, 5, 6, 8)


@contextmanager
def caught_up(path: Path, reader: LogReader) -> Generator[Look]:
    """A look at the store as the next start has it.

    Raises:
        StoreError: there is no store, or it is of no use.
    """
    with look_at(path) as look:
        applied = look.meta("applied")
        if applied + 1 >= reader.next_seq or applied + 1 < reader.first_seq:
            yield look
            return
    with TemporaryDirectory(prefix="cyclewright-doctor-") as scratch:
        copy = Path(scratch) / STORE_FILE
        _copy(path, copy)
        database = Database(copy)
        try:
            _catch_up(database, reader)
            yield database
        finally:
            database.close()


def _copy(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    old = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
    new = sqlite3.connect(target)
    try:
        old.backup(new)
    finally:
        new.close()
        old.close()


def _catch_up(database: Database, reader: LogReader) -> None:
    state, reached = StoredState(database), database.meta("applied")

    def write() -> None:
        taken = state.checkpoint(reached)
        taken.write(database)
        state.written(taken)

    for frame in reader.read(LOCAL_PARTITION, reached):
        for seq, event in events_of(frame):
            if seq > reached:
                evolve(state, event, seq)
                reached = seq
        if state.changed >= ROWS_MAX:
            write()
    write()


def invariant_checks(looked: Looked) -> Iterator[Check]:
    """The six that are about one state, with what was looked at beside the first."""
    rows = ", ".join(f"{count:,} {kind}" for kind, count in sorted(looked.rows.items())) or "nothing"
    seen = f"{rows} of event {looked.applied}{'' if looked.whole else '; the time was over before all of it'}"
    for rule in STATE_RULES:
        said = [one.said.partition(":")[2].strip() for one in looked.broken if one.rule == rule]
        yield invariant(rule, said, looked.counts[rule], seen if rule == STATE_RULES[0] else "")
