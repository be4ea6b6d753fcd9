"""The state that folding the journal gives: rows, and the few indexes by which the core finds them.

`State` is a seam. `protocol.memory.MemoryState` keeps all rows in dicts (replay, tests); the runtime's store keeps
hot rows in memory and the rest in SQLite. One conformance suite holds both to the same behaviour.

Rows are changed only by `protocol.evolve`, in place: it changes a row and then saves it, which marks it as changed
since the last checkpoint.
"""

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, Protocol

from msgspec import Struct

from protocol.events import Origin, Request
from protocol.events_redrive import RedriveAction
from protocol.incidents import Kind, Level
from protocol.program import Program

TransactionStatus = Literal["running", "held", "completed", "failed", "stopped"]
HitStatus = Literal["new", "queued", "running", "done", "parked", "collected", "expired", "ignored"]
CycleStatus = Literal["running", "stopping", "stopped"]
Once = Literal["", "waiting", "running"]
ReplyFate = Literal["none", "waiting", "sent", "gone", "deadline", "restart"]


class Reply(Struct, frozen=True, array_like=True, gc=False):
    """An answer to a caller: what leaves on the wire, and what a repeated delivery is given again."""

    status: int
    headers: dict[str, str]
    body: bytes


class Lineage(Struct, frozen=True, array_like=True, gc=False):
    """What a redriven hit or transaction comes from; 0 where there is none."""

    order: str
    action: RedriveAction
    hit: int
    transaction: int


class Pending(Struct, frozen=True, array_like=True, gc=False):
    """A call that may have taken effect, and of which no good answer came: whoever makes it again keeps its key.

    And its request, None when another version renders it: under one key a remote may refuse what is not the same.
    """

    step: str
    idempotency_key: str
    request: Request | None


class Parting(Struct, frozen=True, array_like=True, gc=False):
    """Data that is being parted by the items of a list; how many have begun is the row's `split`."""

    step: str
    path: list[str]
    without: list[str]
    target: str


class Remains(Struct, frozen=True, array_like=True, gc=False):
    """What a transaction had when it failed or was stopped, for one that resumes it."""

    reached: dict[str, list[str]]
    split: int
    pending: Pending | None
    parting: Parting | None = None
    arrived: bool = False


class RemoteRow(Struct, gc=False, array_like=True):
    """What a cycle remembers of one remote system."""

    recent: list[tuple[int, int]] = []  # Slots of its rate's window, and how many calls ended in each.
    until: int = 0  # When it may be called again, after it asked for patience; kept until it gives another answer.
    refusals: int = 0  # How often it asked for patience, one time after the other.


class OpenAlert(Struct, gc=False, array_like=True):
    """An alert that is under way."""

    incidents: list[int]  # What it tells.


class CycleRow(Struct, gc=False, array_like=True):
    """One cycle: its current definition, its status and its counts."""

    name: str
    status: CycleStatus = "stopped"
    definition_hash: str = ""
    identifiers: dict[str, str] = {}
    running: int = 0
    held: int = 0
    completed: int = 0
    failed: int = 0
    stopped: int = 0
    parked: int = 0
    gathered: dict[str, int] = {}  # Transactions that came to a `wait_all` since it last went on, by its step.
    phases: dict[str, int] = {}  # Of those running, how many began at which `wait_all`.
    forms: dict[str, list[str]] = {}  # By webhook, older versions that match by other locations or types; one of each.
    once: Once = ""  # An order to run once: it waits for its request, or runs it.
    once_since: int = 0  # Transactions of that run have greater numbers.
    succeeded: dict[str, int] = {}  # By step that mentions `last_success`: when the latest attempt that worked left.
    deepest: dict[str, tuple[int, str]] = {}  # Depth and chain of the deepest that came to a `wait_all`, by its step.
    looped: list[str] = []  # The latest chains that were refused for their depth, so that each is told once.
    alerts: Literal["", "warning", "error"] = ""  # The level from which on incidents are told.
    alert: OpenAlert | None = None
    untold: int = 0  # Incidents that wait for their alert.
    remotes: dict[str, RemoteRow] = {}  # By `protocol.remotes.remote_of`; only those with something to remember.
    removed: int = 0  # The highest id that retention has removed; of ids up to it, some are gone.


class DefinitionRow(Struct, gc=False, array_like=True):
    """One version of a cycle, by content hash, as canonical JSON."""

    hash: str
    definition: bytes


class HitRow(Struct, gc=False, array_like=True):
    """One accepted request. Its body and headers are kept until its pass has ended; the journal keeps them on."""

    id: int
    cycle: str
    step: str
    at: int
    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes
    content_type: str
    delivery: str
    digest: str
    wants_reply: bool
    depth: int
    origin: Origin | None = None
    status: HitStatus = "new"
    key: list[str] = []
    until: int = 0
    transaction: int = 0
    number: int = 0
    candidates: list[int] = []
    parked: bool = False  # Whether its caller was told `parked`; a repeat is told so too.
    reply: Reply | None = None
    fate: ReplyFate = "none"
    answer_by: int = 0
    branches: int = 0  # Transactions in progress that share this hit, once it was split.
    failed_at: str = ""  # The step at which one of them failed.
    lineage: Lineage | None = None  # Of a hit that is an earlier one again.
    redriven: list[int] = []  # The hits that were this one again, the latest of them.
    chain: str = ""  # The chain that it said it belongs to.
    sampled: bool = True
    purged: int = 0  # When retention dropped what it carried.
    overtook: tuple[str, str] | None = None  # While it waits: what its transaction's `seen` said before, "" for none.


class OpenCall(Struct, gc=False, array_like=True):
    """The outbound request of a running pass: in flight, or unknown and waiting for a person."""

    step: str
    attempt: int
    idempotency_key: str
    request: Request
    link: tuple[str, str] | None
    unknown: bool = False
    failures: int = 0  # Attempts that failed and were followed by another.
    refusals: int = 0  # Attempts that the remote put off, with 429 or 503, one after the other.
    acted: bool = False  # Whether an attempt under its key may have taken effect.
    at: int = 0  # When the latest attempt left.
    left: bool = True  # Whether the attempt may have left; False while it is announced that this would be said.


class TransactionRow(Struct, gc=False, array_like=True):
    """One traversal of a cycle: where it is and the data of every step it ran, in the order they ran."""

    id: int
    cycle: str
    definition_hash: str
    created: int
    updated: int
    depth: int
    parent: Origin | None
    status: TransactionStatus = "running"
    step: str = ""
    number: int = 0  # Of the latest pass; the first is 1.
    hit: int = 0  # The hit that began the latest pass.
    data: dict[str, dict[str, Any]] = {}
    reached: dict[str, list[str]] = {}  # Mid-cycle webhooks reached, with the key each matches by.
    queue: list[int] = []  # Hits whose passes come after the one in progress, in order of arrival.
    until: int = 0  # When a hold expires, or a pass that waits goes on; 0 is never.
    call: OpenCall | None = None
    reason: str = ""
    children: list[str] = []
    split: int = 0  # Items that the split in progress has begun.
    phase: str = ""  # The `wait_all` at which it began, "" for a trigger.
    rounds: int = 0  # Waits that ended in this pass, so that a step that runs again makes calls of its own.
    events: list[int] = []  # The latest ranges of sequence numbers about it: first, last, first, last, …
    earlier: list[str] = []  # Versions that it ran before it moved to the one it runs.
    trigger: int = 0  # The hit that its first pass began with; 0 for one that a split or a `wait_all` began.
    lineage: Lineage | None = None  # Of one that a redrive began.
    redriven: list[int] = []  # The transactions that redrove this one, the latest of them.
    remains: Remains | None = None
    pending: Pending | None = None  # Of the call that it was resumed at, until that is made.
    seen: dict[str, str] = {}  # By webhook and location of a `newer_than`: its value in the last request given to it.
    parting: Parting | None = None
    arrived: bool = (
        False  # Whether it is at a webhook whose request has come, which its script or its list keeps there.
    )
    alone: bool = False  # Whether no request is behind the pass in progress, since a hold expired.
    waits: str = ""  # Why it waited last: the reason of its `WaitStarted`.
    chain: str = ""  # What set it off, and its latest pass, when they said so; `protocol.chain.chain_of` reads it.
    sampled: bool = True
    purged: int = 0  # When retention dropped its data: it can not run again, and is no candidate of a match.


class IncidentRow(Struct, gc=False, array_like=True):
    """One thing a person should know."""

    id: int
    cycle: str
    at: int
    transaction: int
    step: str
    kind: Kind
    message: str
    level: Level
    detail: dict[str, Any] = {}


class UsageRow(Struct, gc=False, array_like=True):
    """The tasks of one step on one day (UTC); what is metered is a fold of the journal, so it never drifts."""

    id: str
    day: int  # Since 1970.
    cycle: str
    step: str
    tasks: int = 0


Row = CycleRow | DefinitionRow | HitRow | TransactionRow | IncidentRow | UsageRow
Removable = TransactionRow | HitRow | IncidentRow
ROW_KEYS: dict[type[Row], Callable[[Any], Any]] = {
    CycleRow: attrgetter("name"),
    DefinitionRow: attrgetter("hash"),
    HitRow: attrgetter("id"),
    TransactionRow: attrgetter("id"),
    IncidentRow: attrgetter("id"),
    UsageRow: attrgetter("id"),
}
"""What names a row among those of its type."""
IndexName = Literal["reached", "parked", "delivery", "collected", "ordered", "redriven", "parted", "alert"]


@lru_cache(maxsize=4096)
def usage_name(day: int, cycle: str, step: str) -> str:
    """What names a row of usage; names in order are days in order."""
    return f"{day:06d} {cycle} {step}"


def transaction_name(cycle: str, transaction: int) -> str:
    """The id people see: the cycle and the sequence number of the event that started it."""
    return f"{cycle}-{transaction}"


class State(Protocol):
    """What the core may ask and change. Look-ups of a row that does not exist raise `KeyError`."""

    def cycle(self, name: str) -> CycleRow:
        """The row of a cycle."""
        ...

    def program(self, definition_hash: str) -> Program:
        """The compiled definition of that content hash."""
        ...

    def transaction(self, transaction: int) -> TransactionRow:
        """The row of a transaction."""
        ...

    def hit(self, hit: int) -> HitRow:
        """The row of a hit."""
        ...

    def incident(self, incident: int) -> IncidentRow:
        """The row of an incident."""
        ...

    def usage(self, day: int, cycle: str, step: str) -> UsageRow:
        """The row of a step's tasks on a day; a new one when there is none yet."""
        ...

    def find(self, index: IndexName, key: tuple[str, ...], limit: int) -> list[int]:
        """The first `limit` ids filed under a key, in ascending order of id."""
        ...

    def find_latest(self, index: IndexName, key: tuple[str, ...], limit: int) -> list[int]:
        """The last `limit` ids filed under a key, in descending order of id."""
        ...

    def running(self, cycle: str) -> list[int]:
        """The transactions whose pass is in progress, in ascending order."""
        ...

    def save(self, row: Row) -> None:
        """Keep a row that is new or was changed."""
        ...

    def drop(self, kind: type[Removable], row_id: int) -> None:
        """Remove a row for good; one that is not there is no error. Its entries are unfiled apart."""
        ...

    def file(self, index: IndexName, key: tuple[str, ...], row_id: int) -> None:
        """File an id under a key; filing it twice is filing it once."""
        ...

    def unfile(self, index: IndexName, key: tuple[str, ...], row_id: int) -> None:
        """Take an id away from a key; absent ids are no error."""
        ...
