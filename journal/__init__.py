"""An append-only log in a folder: durable commits, checked reads, honest recovery.

Records are opaque bytes, each one msgpack value. `Log`, `LogReader` and `Ownership` are the seam that any backend
fills; `LocalLog` is the backend on local disks. Everything here blocks, and nothing here knows what the records mean.
"""

from journal.check import VerifyFault, VerifyReport, verify
from journal.errors import (
    BadAppend,
    Fenced,
    JournalClosed,
    JournalDamaged,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    JournalNewer,
    JournalTrimmed,
    JournalUnreadable,
    TooLarge,
    Unknown,
    WrongSequence,
)
from journal.frame import Frame
from journal.local import LocalLog, LocalOwnership
from journal.log import (
    LOCAL_PARTITION,
    JournalOptions,
    JournalStats,
    Log,
    LogReader,
    Loss,
    Ownership,
    RecoveryReport,
    SegmentInfo,
)
from journal.reader import LocalReader
from journal.snapshot import Snapshot, SnapshotInfo, schema_digest
from journal.storage import RealStorage, Storage

__all__ = [
    "LOCAL_PARTITION",
    "BadAppend",
    "Fenced",
    "Frame",
    "JournalClosed",
    "JournalDamaged",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalLocked",
    "JournalNewer",
    "JournalOptions",
    "JournalStats",
    "JournalTrimmed",
    "JournalUnreadable",
    "LocalLog",
    "LocalOwnership",
    "LocalReader",
    "Log",
    "LogReader",
    "Loss",
    "Ownership",
    "RealStorage",
    "RecoveryReport",
    "SegmentInfo",
    "Snapshot",
    "SnapshotInfo",
    "Storage",
    "TooLarge",
    "Unknown",
    "VerifyFault",
    "VerifyReport",
    "WrongSequence",
    "schema_digest",
    "verify",
]
