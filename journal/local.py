"""The local backend: one folder of segments, one writer, any number of readers.

Fencing. Within a process, a second `own` fences the first at once. Across processes the lock keeps the
second out; should the lock be broken (its file deleted, a file system that does not honour it), opening and
owning replace the manifest with a higher epoch, and every append first looks whether the manifest is still
the one this process wrote: one `stat`. What that does not cover is a takeover between that look and the end
of the write, some 0.1 ms; a local file system offers no write that could be fenced itself.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self, final

import msgspec.structs

from journal import manifest as manifest_file
from journal.errors import (
    BadAppend,
    Fenced,
    JournalClosed,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    JournalUnreadable,
    TooLarge,
    WrongSequence,
)
from journal.files import LOCK_NAME, QUARANTINE_NAME
from journal.frame import Frame, pack_groups
from journal.log import JournalOptions, JournalStats, Ownership, RecoveryReport, SegmentInfo
from journal.manifest import Manifest, load_manifest
from journal.reader import Extent, LocalReader, View, check_partition, read_frames, sealed_extent
from journal.recovery import Progress, recover
from journal.segment import HEADER_SIZE, commit_limit, footer_reserve
from journal.shelf import Shelf
from journal.snapshot import Snapshot, SnapshotShelf
from journal.storage import FULL_ERRNOS, RealStorage, Storage, read_fully
from journal.writer import Writer
