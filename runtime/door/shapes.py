"""The shapes of what the API answers and takes, for its description; tests hold every answer to them."""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from protocol.events_redrive import RedriveAction
from protocol.fields import Fault
from protocol.incidents import Kind, Level
from protocol.loading import CheckFault
from protocol.state import CycleStatus, HitStatus, ReplyFate, TransactionStatus
from runtime.store.search import ID_MAX

ITEMS_MAX = 500  # Of one order's page: seconds of turns, each of them between those of everybody else.
ORDER_CHARACTERS_MAX = 128


class _Shape(Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Problem(Struct, frozen=True, kw_only=True):
    """A refusal or a failure, as RFC 9457 has it; members such as `faults` say more."""

    type: str
    title: str
    status: int
    detail: str
    faults: list[Fault] = []


class Answer(_Shape):
    """The answer that a synchronous pass built; JSON as JSON, anything else as text."""

    status: int
    headers: dict[str, str]
    body: Any


class Status(_Shape):
    """What the caller of a webhook may know of his request."""

    transaction: str | None
    cycle: str
    status: TransactionStatus | Literal["parked", "expired", "ignored", "removed", "new"]
    pass_: int | None = field(name="pass")
    held_at: str | None
    started: str | None
    updated: str | None
    answer: Answer | None


class Summary(_Shape):
    """A transaction in a list."""

    transaction: str
    cycle: str
    status: TransactionStatus
    pass_: int = field(name="pass")
    held_at: str | None
    started: str
    updated: str
    reason: str | None


class Lineage(_Shape):
    """What something redrives, by which order."""

    action: RedriveAction
    order: str
    hit: int | None
    transaction: str | None


class Again(_Shape):
    """A hit that was an earlier one again, and where that went."""

    hit: int
    transaction: str | None


class Pass(_Shape):
    """One pass of a transaction, by the hit that began it; 0 while that waits for its turn."""

    pass_: int = field(name="pass")
    hit: int
    step: str
    status: HitStatus
    received: str
    candidates: list[str]
    ambiguous: list[str]
    reply: int | None
    fate: ReplyFate
    redrives: Lineage | None
    redriven: list[Again]


class Call(_Shape):
    """The open call of a pass."""

    step: str
    attempt: int
    unknown: bool
    idempotency_key: str
    method: str
    url: str
    link: str | None
    failures: int
    refusals: int


class Timer(_Shape):
    """What happens by itself: a hold, delay, retry or patience with a remote ends, or the caller of a hit gives up."""

    for_: Literal["hold", "delay", "retry", "patience", "answer"] = field(name="for")
    due: str
    hit: int | None


class Incident(_Shape):
    """Something a person should know, in the view of its transaction."""

    time: str
    step: str
    kind: Kind
    message: str
    level: Level
    detail: dict[str, Any]


class ListedIncident(Incident):
    """Something a person should know."""

    id: int
    cycle: str
    transaction: str | None


class Transaction(Summary):
    """Everything known of a transaction; sensitive fields are masked."""

    step: str
    chain: str
    depth: int
    hash: str
    hold_until: str | None
    timers: list[Timer]
    matches_by: dict[str, list[str]]
    newest: dict[str, str]
    steps: dict[str, Any]
    passes: list[Pass]
    queue: list[int]
    call: Call | None
    parent: str | None
    children: list[str]
    redrives: Lineage | None
    redriven: list[str]
    incidents: list[Incident]
    events: list[list[int]]


class Counts(_Shape):
    """How many transactions a cycle has, and how many requests are parked for it."""

    running: int
    held: int
    completed: int
    failed: int
    stopped: int
    parked: int


class CycleAlerts(_Shape):
    """From which level on incidents of a cycle are told, how many wait for that, and how many are on their way."""

    level: str
    waiting: int
    sending: int


class Cycle(_Shape):
    """A cycle: its version, status, counts and webhook URLs by step."""

    cycle: str
    status: CycleStatus
    once: Literal["waiting", "running"] | None
    hash: str
    counts: Counts
    alerts: CycleAlerts | None
    webhooks: dict[str, str]
    last_success: dict[str, str]


class Capture(Struct, kw_only=True, omit_defaults=True):
    """What field capture has seen of a webhook: nothing asked, waiting for the next request, or that request.

    `fields` are those that the request would declare, `yaml` the same to paste; `fault` says why it can not be read.
    """

    status: Literal["none", "waiting", "captured"]
    received: str | UnsetType = UNSET
    method: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    query: Any | UnsetType = UNSET
    body: Any | UnsetType = UNSET
    body_bytes: int | UnsetType = UNSET
    fault: str | UnsetType | None = UNSET
    fields: dict[str, Any] | UnsetType = UNSET
    left_out: list[str] | UnsetType = UNSET
    yaml: str | UnsetType = UNSET


class ParkedHit(_Shape):
    """A request that waits for a transaction, or for its cycle to start."""

    hit: int
    cycle: str
    step: str
    key: list[str]
    reason: Literal["early", "stopped"]
    received: str
    until: str


class Aimed(_Shape):
    """Where a parked hit went."""

    hit: int
    transaction: str


class Aim(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a parked hit belongs."""

    transaction: str


class RedriveAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """What to redrive: a set chosen by a filter or by ids, under an order's name, which acts on an item once."""

    action: RedriveAction
    filter: dict[str, str] = {}
    ids: Annotated[list[int | str], Meta(max_length=ITEMS_MAX)] = []
    definition: Literal["original", "current"] = "original"
    preview: bool = False
    again: bool = False
    order: Annotated[str, Meta(max_length=ORDER_CHARACTERS_MAX)] = ""
    limit: Annotated[int, Meta(ge=1, le=ITEMS_MAX)] = ITEMS_MAX
    after: Annotated[int, Meta(ge=0, le=ID_MAX)] | None = None

    @property
    def digest(self) -> str:
        """What all pages of one order, and all times it is given, have in common."""
        meant = (self.action, sorted(self.filter.items()), self.ids, self.definition, self.again)
        return hashlib.blake2b(msgspec.json.encode(meant), digest_size=16).hexdigest()


class RedriveTold(_Shape):
    """What became of one item, or would become of it."""

    item: int | str
    outcome: Literal["done", "already", "refused", "possible"]
    step: str
    hit: int | None
    transaction: str | None
    reason: str | None


class RedriveReceipt(_Shape):
    """What an order did, or would do; `next` is where its next page goes on."""

    order: str | None
    action: RedriveAction
    definition: Literal["original", "current"]
    preview: bool
    done: int
    already: int
    refused: int
    possible: int
    items: list[RedriveTold]
    next: int | None


class Used(_Shape):
    """The tasks of one step on one day (UTC)."""

    day: str
    cycle: str
    step: str
    tasks: int


class Cycles(_Shape):
    """All cycles."""

    cycles: list[Cycle]


class Transactions(_Shape):
    """A page of transactions, newest first; `next` is where the following page goes on, null at the end."""

    transactions: list[Summary]
    next: int | None


class ParkedHits(_Shape):
    """A page of parked hits, oldest first."""

    parked: list[ParkedHit]
    next: int | None


class Incidents(_Shape):
    """A page of incidents, oldest first."""

    incidents: list[ListedIncident]
    next: int | None


class Usage(_Shape):
    """Tasks by day, cycle and step, and their sum."""

    usage: list[Used]
    total: int


class Deployed(_Shape):
    """What a deploy did, by cycle."""

    faults: list[CheckFault]
    new: list[str]
    changed: list[str]
    unchanged: list[str]
    gone: list[str]


class Health(_Shape):
    """A server that answers."""

    status: str
