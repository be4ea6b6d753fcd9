"""Small words for the journal's tests: records to write, logs to write them to, and what a log holds."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from journal import LOCAL_PARTITION, Frame, JournalOptions, LocalLog, LocalOwnership, LogReader
from tests.journal.disk import FOLDER, Disk

SMALL = JournalOptions(segment_bytes=16 * 1024)


def record(value: object) -> bytes:
    """One record."""
    return msgspec.msgpack.encode(value)


def group(*values: object) -> list[bytes]:
    """One atomic group."""
    return [record(value) for value in values]


def open_on(disk: Disk, options: JournalOptions = SMALL, *, salvage: bool = False) -> LocalLog:
    """The journal on a simulated disk."""
    return LocalLog.open(FOLDER, options, storage=disk, salvage=salvage)


@contextmanager
def owned(disk: Disk, options: JournalOptions = SMALL) -> Generator[LocalOwnership]:
    """An owner of the journal on a simulated disk; closed cleanly behind."""
    with open_on(disk, options) as log:
        yield log.own(LOCAL_PARTITION)


def values_of(frames: Iterator[Frame] | Sequence[Frame]) -> list[object]:
    """The records in frames, decoded."""
    return [value for frame in frames for value in msgspec.msgpack.decode(frame.payload)]


def held(log: LogReader, after: int = -1, until: int | None = None) -> list[object]:
    """What a log holds, by whole frames."""
    return values_of(log.read(LOCAL_PARTITION, after, until))
