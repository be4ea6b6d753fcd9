"""The `Log` seam: what the runtime asks of a journal, whichever backend keeps it.

Rules every backend keeps:

1. Sequence numbers start at 0 and are dense. One owner of a partition writes at a time; a stale one is fenced
   by its epoch.
2. When `append` returns, its records survive a power loss. Each group is atomic: all of it or nothing.
3. Readers see durable records only, in order, in whole frames.
4. Damage is never skipped: a read raises with the place instead.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct

from journal.frame import Frame
from journal.snapshot import Snapshot, SnapshotInfo

MIB: Final = 1024 * 1024
SEGMENT_ALIGNS_MIN: Final = 32  # Half of these must be left for one commit, after header, footer and confirms.
SEGMENT_BYTES_MAX: Final = 1024 * MIB
SEGMENT_BYTES_UNIT: Final = 4096
SOFT_FRAME_BYTES_MAX: Final = 16 * MIB
LOCAL_PARTITION: Final = "local"


class JournalOptions(Struct, frozen=True, kw_only=True):
    """How a local journal lays out its files.

    Attributes:
        segment_bytes: size of a segment, zero-filled before use; a multiple of 4096, at least
            32 times `align_bytes` and at most 1 GiB.
            64 MiB keeps rotation rare and recovery of the active segment below a quarter of a second.
        soft_frame_bytes: a commit above this many bytes becomes several frames in one write.
        align_bytes: frames start at multiples of this: 512, or 4096 for disks that tear 4 KiB sectors.

    Raises:
        ValueError: a value out of range.
    """

    segment_bytes: int = 64 * MIB
    soft_frame_bytes: int = 1 * MIB
    align_bytes: int = 512

    def __post_init__(self) -> None:
        if self.align_bytes not in {512, 4096}:
            raise ValueError(f"align_bytes must be 512 or 4096, not {self.align_bytes}")
        smallest = SEGMENT_ALIGNS_MIN * self.align_bytes
        if not smallest <= self.segment_bytes <= SEGMENT_BYTES_MAX:
            raise ValueError(f"segment_bytes must be in [{smallest}, {SEGMENT_BYTES_MAX}], not {self.segment_bytes}")
        if self.segment_bytes % SEGMENT_BYTES_UNIT:
            raise ValueError(f"segment_bytes must be a multiple of {SEGMENT_BYTES_UNIT}, not {self.segment_bytes}")
        if not 1 <= self.soft_frame_bytes <= SOFT_FRAME_BYTES_MAX:
            raise ValueError(f"soft_frame_bytes must be in [1, {SOFT_FRAME_BYTES_MAX}], not {self.soft_frame_bytes}")


class SegmentInfo(Struct, frozen=True):
    """One segment, for listings. Sizes in bytes, times in ns since 1970 and 0 when it holds no record."""

    ordinal: int
    name: str
    base_seq: int
    next_seq: int
    bytes_used: int
    bytes_allotted: int
    sealed: bool
    first_at: int
    last_at: int


class JournalStats(Struct, frozen=True):
    """Figures of a log since it was opened, and its size now (bytes)."""

    first_seq: int
    next_seq: int
    epoch: int
    segments: int
    bytes_used: int
    bytes_allotted: int
    commits: int = 0
    frames: int = 0
    records: int = 0
    rotations: int = 0
    spare_ready: bool = False
    failed: bool = False


class Loss(Struct, frozen=True):
    """What a salvage could not keep.

    Attributes:
        segment: the file in which the damage begins.
        offset: where the good prefix of that file ends.
        rule: the rule that was broken there.
        first_seq: the first sequence number lost.
        last_seq: the last one known to have existed, by what can still be read; None if nothing tells.
        bytes: how many bytes were quarantined.
        files: what now lies in the quarantine folder.
    """

    segment: str
    offset: int
    rule: str
    first_seq: int
    last_seq: int | None
    bytes: int
    files: tuple[str, ...]


class RecoveryReport(Struct, frozen=True):
    """What opening the journal found.

    Attributes:
        next_seq: the sequence number the next record gets; everything below it was kept.
        reason: in words, how the log ended.
        segment: the file in which it ended.
        offset: the byte offset there.
        torn_bytes: bytes of an unacknowledged commit that were cut off; 0 almost always.
        torn_copy: the file that keeps those bytes, or "".
        elapsed: seconds taken.
        loss: what a salvage could not keep, or None.
    """

    next_seq: int
    reason: str
    segment: str
    offset: int
    torn_bytes: int = 0
    torn_copy: str = ""
    elapsed: float = 0.0
    loss: Loss | None = None


class Ownership(Protocol):
    """The right to append to a partition, until a newer owner takes it. Blocking; one thread at a time."""

    @property
    def epoch(self) -> int:
        """Rises with every owner of the partition."""
        ...

    @property
    def next_seq(self) -> int:
        """The sequence number the next record gets."""
        ...

    def append(
        self,
        groups: Sequence[Sequence[bytes]],
        *,
        at: int,
        expected: int | None = None,
        drain: bool = False,
    ) -> int:
        """Append groups of records, in order, each group atomic; durable on return.

        Args:
            groups: each a sequence of records, each record one msgpack value.
            at: wall clock in ns; a clock that went back is raised to the last commit's time.
            expected: the sequence number the caller believes to be next, checked if given.
            drain: may use the room held back for finishing work when the disk is full.

        Returns:
            The next sequence number.

        Raises:
            Fenced: a newer owner exists; nothing was written.
            JournalFull: no space for another segment; nothing was written, retry when space returns.
            BadAppend: the request itself is wrong; nothing was written.
            JournalFailed: the outcome is unknown, and every later call raises this too.
            Unknown: the outcome of this append is unknown (remote backends).
        """
        ...

    def confirm(self) -> bool:
        """Write, without waiting for the disk, that the last commit was acknowledged; call it when idle.

        From then on damage to that commit cannot be taken for a torn write. True if something was written.
        """
        ...

    def reserve(self) -> bool:
        """Take the room that the next segment needs, unless it is taken already; False while the disk is full.

        What a caller who met `JournalFull` asks from time to time, to know when it is over.
        """
        ...

    def close(self) -> None:
        """Give the right back; the log notes a clean end."""
        ...


class LogReader(Protocol):
    """The reading half of a log; needs no ownership and may run beside an owner in another thread."""

    @property
    def first_seq(self) -> int:
        """The lowest sequence number retention left (equal to `next_seq` when empty)."""
        ...

    @property
    def next_seq(self) -> int:
        """The sequence number after the last durable record."""
        ...

    def read(self, partition: str, after: int = -1, until: int | None = None) -> Iterator[Frame]:
        """Frames that hold sequence numbers above `after` and up to `until`, then stop at the durable end.

        The first and the last frame may hold others too; the caller skips them.

        Raises:
            JournalTrimmed: retention dropped `after + 1`.
            JournalDamaged: a frame that must be good is not.
        """
        ...

    def load_snapshot(self, partition: str) -> Snapshot | None:
        """The newest snapshot that is whole, or None."""
        ...

    def snapshots(self, partition: str) -> tuple[int, ...]:
        """The sequence numbers of the snapshots there, newest first; not all of them need be whole."""
        ...

    def read_snapshot(self, partition: str, seq: int) -> tuple[SnapshotInfo, Iterator[bytes]]:
        """A snapshot that is whole, and its state in pieces, however it was cut when it was saved.

        Raises:
            JournalDamaged: it is not whole.
            JournalUnreadable: it is not there any more, or the disk failed to read.
        """
        ...

    def segments(self) -> tuple[SegmentInfo, ...]:
        """What the log consists of, oldest first."""
        ...

    def stats(self) -> JournalStats:
        """Figures for metrics and `journal stats`."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Log(LogReader, Protocol):
    """A log that can be owned and written."""

    def own(self, partition: str) -> Ownership:
        """Become the owner, fencing the one before.

        Raises:
            JournalFull: no space to note the new epoch.
            JournalFailed: the disk broke.
        """
        ...

    def save_snapshot(self, partition: str, seq: int, state: bytes | Iterable[bytes], *, schema: str) -> None:
        """Keep the state after folding everything up to and including `seq`, which must be durable.

        Owners append meanwhile. What is raised by `state`, given in pieces, ends it and leaves nothing behind.

        Raises:
            BadAppend: `seq` is not durable yet, or older than the newest snapshot.
            JournalFull: no space; the older snapshots are untouched.
        """
        ...

    def trim(self, partition: str, upto_seq: int) -> int:
        """Drop whole old segments up to and including `upto_seq`, never past the older kept snapshot.

        Returns:
            How many segments were dropped.

        Raises:
            JournalDamaged: a kept snapshot is not whole, as reading it again showed; nothing was dropped.
            JournalFull: no space to note it; nothing was dropped.
        """
        ...
