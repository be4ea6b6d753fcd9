"""What can go wrong with the journal, grouped by what the caller may do next.

JournalError
├── JournalFull        the disk is full: nothing was written, try again when space returns
├── JournalFailed      the disk broke: the outcome is unknown, and every later call fails as well
├── Unknown            the outcome of one append is unknown, the log itself lives on (remote backends)
├── Fenced             a newer owner exists: stop, do not retry
├── JournalClosed      the caller closed it, or this is a forked child: our bug
├── BadAppend          the caller asked for something that cannot be written: our bug
│   ├── WrongSequence  the caller expected another next sequence number
│   └── TooLarge       a group or a commit is above its limit
├── JournalLocked      another process holds the folder
├── JournalUnreadable  the disk fails to read: nothing is decided, nothing was changed
├── JournalTrimmed     the records asked for were dropped by retention
└── JournalDamaged     bytes on disk break a rule: refused, with the place
    └── JournalNewer   written by a newer build: refused, nothing is wrong with it
"""


class JournalError(Exception):
    """Any refusal or failure of the journal."""


class JournalFull(JournalError):
    """No space for the next segment, manifest or snapshot. Nothing was written; retry when space returns."""


class JournalFailed(JournalError):
    """A write, sync or rename failed, so the outcome of the last call is unknown.

    Final: after a failed sync the kernel may mark lost pages clean, so a second sync would succeed and lie.
    Every later call raises this too. Exit, and let the next open decide from what the disk really holds.
    """


class Unknown(JournalError):
    """One append was sent and not answered: it may or may not have happened. Never retry it blindly.

    The local backend never raises it (its unknown outcomes are final: `JournalFailed`); backends with a
    network in between do.
    """


class Fenced(JournalError):
    """Another owner took over with a higher epoch. Nothing was written; this ownership can never write again."""

    def __init__(self, epoch: int, newer: int) -> None:
        super().__init__(
            f"this owner of the journal has epoch {epoch}, but epoch {newer} took over: "
            "stop this writer, the other one is in charge"
        )
        self.epoch = epoch
        self.newer = newer


class JournalClosed(JournalError):
    """The call came after `close`, or from a forked child that must not use its parent's journal."""


class BadAppend(JournalError):
    """The caller asked for an append that no journal could accept. Nothing was written."""


class WrongSequence(BadAppend):
    """The caller expected another next sequence number than the journal has. Nothing was written."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(
            f"the caller expected to write sequence number {expected}, but the next one is {actual}: "
            "its idea of the log is stale, read on before appending"
        )
        self.expected = expected
        self.actual = actual


class TooLarge(BadAppend):
    """A group does not fit one frame, or a commit does not fit half a segment. Nothing was written."""


class JournalLocked(JournalError):
    """Another process has the folder open for writing. `pid` is what it wrote down, or None if unreadable."""

    def __init__(self, folder: str, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{holder} owns the journal in {folder}: stop it first, one journal has one writer")
        self.folder = folder
        self.pid = pid


class JournalUnreadable(JournalError):
    """The disk failed to read a file. That is no verdict on its content, and nothing was changed."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(
            f"the disk fails to read {name} ({error}): nothing was changed and nothing is known to be lost; "
            "look after the disk, then try again"
        )
        self.name = name


class JournalTrimmed(JournalError):
    """Retention dropped the records asked for: start from a snapshot, or from `first_seq`."""

    def __init__(self, asked: int, first_seq: int) -> None:
        super().__init__(
            f"sequence number {asked} was dropped by retention, the first one kept is {first_seq}: "
            f"read from a snapshot, or after {first_seq - 1}"
        )
        self.asked = asked
        self.first_seq = first_seq


class JournalDamaged(JournalError):
    """Bytes on disk break a rule that no crash can break. No record was changed.

    Attributes:
        segment: the file, relative to the journal's folder.
        offset: byte offset in that file where the first rule broke.
        rule: which rule, in words.
        detail: what was found.
        advice: what to do, the same for every fault of the class.
    """

    advice = (
        "No record was changed; restore the file from a copy, "
        "or open with salvage to keep what comes before it and quarantine the rest"
    )

    def __init__(self, segment: str, offset: int, rule: str, detail: str = "") -> None:
        found = f" ({detail})" if detail else ""
        super().__init__(f"{segment} at byte {offset}: {rule}{found}. {self.advice}")
        self.segment = segment
        self.offset = offset
        self.rule = rule
        self.detail = detail


class JournalNewer(JournalDamaged):
    """The file says it was written by a newer build. Nothing is wrong with it, so there is nothing to salvage."""

    advice = "This build is older than the journal, which is whole and was not changed: use the newer build"
