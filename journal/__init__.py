"""The append-only log: frames, segments, recovery, snapshots and the offline checker. Blocking; knows no Trio."""

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
from journal.local import LocalLog
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
    "LocalReader",
    "Log",
    "LogReader",
    "Loss",
    "Ownership",
    "RecoveryReport",
    "SegmentInfo",
    "TooLarge",
    "Unknown",
    "VerifyFault",
    "VerifyReport",
    "WrongSequence",
    "verify",
]
