"""The journaled facts: what happened, in the order in which it happened.

Rules of this file, because its bytes outlive the code:
1. An event is an array tagged by an integer. A tag is never reused; a field is never moved, removed or retyped.
2. New fields go to the end of their event and have a default, so that old bytes still read.
3. Recorded is what replay would otherwise have to fetch or guess. Secrets never are.
4. Every event names its cycle and the instant (`at`, nanoseconds since 1970 UTC) of the input that caused it.

An event's sequence number is its place in the journal and is not stored in it. The number of `TransactionStarted`
is the transaction's id and the number of `HitAccepted` is the hit's id: an order already names the thing.
"""

from typing import Any, Literal

import msgspec

# What events are made of is known by their name here, wherever it stands.
from protocol.event import Event as Event  # noqa: PLC0414 - The alias is what makes a type checker see it from outside.
from protocol.event import Origin as Origin  # noqa: PLC0414 - The same.
from protocol.event import Request as Request  # noqa: PLC0414 - The same.
from protocol.events_leaving import AlertEnded, AlertIntended, AlertsSet, CallLeft
from protocol.events_leaving import IncidentRaised as IncidentRaised  # noqa: PLC0414 - The same.
from protocol.events_redrive import CallWithheld, HitRedriven, RedriveOrdered, TransactionResumed
from protocol.events_retention import BodiesPurged, RetentionApplied
from protocol.events_webhooks import HitIgnored as HitIgnored  # noqa: PLC0414 - The same.
from protocol.events_webhooks import PartingStarted as PartingStarted  # noqa: PLC0414 - The same.
from protocol.events_webhooks import RequestArrived as RequestArrived  # noqa: PLC0414 - The same.
from protocol.events_webhooks import StepSucceeded as StepSucceeded  # noqa: PLC0414 - The same.

PassStatus = Literal["completed", "held", "failed", "stopped"]


class WriterStarted(Event, frozen=True, array_like=True, gc=False, tag=1):
    """A process took the journal; the cycle is empty, since this is about all of them."""

    epoch: int
    build: str
    schema: int


class CycleDeployed(Event, frozen=True, array_like=True, gc=False, tag=2):
    """A definition became the current one; `identifiers` are the webhook identifiers by step.

    `forms` are older versions by the steps at which they match requests by other locations or types than this one.
    """

    definition: bytes
    hash: str
    identifiers: dict[str, str]
    forms: dict[str, list[str]] = msgspec.field(default_factory=dict)


class CycleStarted(Event, frozen=True, array_like=True, gc=False, tag=3):
    """The cycle accepts hits."""


class CycleStopping(Event, frozen=True, array_like=True, gc=False, tag=4):
    """The cycle finishes what is in progress and accepts nothing new."""


class CycleStopped(Event, frozen=True, array_like=True, gc=False, tag=5):
    """The cycle accepts no hits; `cut` passes ended for it, `kept` hits wait for a start, `held` holds go on."""

    mode: Literal["stop", "finish"]
    cut: int
    kept: int
    held: int


class CycleOnce(Event, frozen=True, array_like=True, gc=False, tag=8):
    """The cycle, which is stopped, waits for one request to its trigger."""


class CycleOnceTaken(Event, frozen=True, array_like=True, gc=False, tag=9):
    """That request is this hit; the cycle finishes what comes of it, and then is stopped again."""

    hit: int


class HitAccepted(Event, frozen=True, array_like=True, gc=False, tag=10):
    """A request to a webhook is ours from now on; its bytes are kept as they came, or as its script left them."""

    step: str
    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes
    content_type: str
    delivery: str  # The sender's name for this delivery, "" when it gave none.
    digest: str
    wants_reply: bool
    depth: int
    origin: Origin | None = None
    answer_by: int = 0  # When the caller stops waiting for an answer.
    script: str = ""  # The `before_webhook` that let it pass.
    chain: str = ""  # The chain it belongs to, "" when it begins one.
    signed: bool = False  # Whether that, and the depth, is our own word.
    sampled: bool = True  # Whether who began the trace records it.


class HitDuplicated(Event, frozen=True, array_like=True, gc=False, tag=11):
    """A delivery that had come before came again; it was answered as the first one was."""

    hit: int


class HitMatched(Event, frozen=True, array_like=True, gc=False, tag=12):
    """A hit goes to this transaction; `candidates` are all that matched when there was more than one."""

    hit: int
    transaction: int
    candidates: list[int]
    by: str = ""  # The location of the step's `newer_than`, "" for none.
    mark: str = ""  # Its canonical value in the hit.


class HitParked(Event, frozen=True, array_like=True, gc=False, tag=13):
    """A hit waits: for a transaction that reaches its step (`early`), or for its cycle to start (`stopped`).

    One whose transaction failed before its turn came (`moved`) waits only until the cycle finds it another place.
    """

    hit: int
    key: list[str]
    until: int
    reason: Literal["early", "stopped", "moved"]


class HitExpired(Event, frozen=True, array_like=True, gc=False, tag=14):
    """A parked hit waited in vain."""

    hit: int


class TransactionStarted(Event, frozen=True, array_like=True, gc=False, tag=20):
    """A trigger's hit began a transaction, whose id is this event's sequence number."""

    hit: int
    definition_hash: str
    depth: int
    parent: Origin | None = None


class PassStarted(Event, frozen=True, array_like=True, gc=False, tag=21):
    """A hit runs the transaction from a webhook step; the data of the steps after it is dropped."""

    transaction: int
    hit: int
    step: str
    number: int


class StepCompleted(Event, frozen=True, array_like=True, gc=False, tag=22):
    """A step is done; `data` is what later steps see under its id."""

    transaction: int
    step: str
    data: dict[str, Any]
    target: str  # Where the pass goes on.


class DecisionTaken(Event, frozen=True, array_like=True, gc=False, tag=23):
    """A decision chose a branch."""

    transaction: int
    step: str
    target: str


class TransactionHeld(Event, frozen=True, array_like=True, gc=False, tag=24):
    """The transaction waits at a mid-cycle webhook for a request whose fields give `key`; 0 means without end."""

    transaction: int
    step: str
    key: list[str]
    until: int


class HoldExpired(Event, frozen=True, array_like=True, gc=False, tag=25):
    """No request came in time; the transaction goes on at `target`."""

    transaction: int
    step: str
    target: str


class TransactionCompleted(Event, frozen=True, array_like=True, gc=False, tag=26):
    """The pass came to its end."""

    transaction: int


class TransactionFailed(Event, frozen=True, array_like=True, gc=False, tag=27):
    """A step failed and its policy stops the transaction."""

    transaction: int
    step: str
    reason: str


class TransactionStopped(Event, frozen=True, array_like=True, gc=False, tag=28):
    """An order to stop ended the pass in progress."""

    transaction: int


class TransactionSplit(Event, frozen=True, array_like=True, gc=False, tag=29):
    """One item of a list began a transaction, whose id is this event's sequence number."""

    transaction: int  # The parent.
    step: str
    index: int
    item: Any
    target: str


class TransactionGathered(Event, frozen=True, array_like=True, gc=False, tag=30):
    """The transaction came to a `wait_all` and ends there."""

    transaction: int
    step: str


class GatheringEnded(Event, frozen=True, array_like=True, gc=False, tag=31):
    """Nothing is on its way to a `wait_all` any more: a transaction, named by this event's number, goes on after it."""

    step: str
    count: int
    definition_hash: str
    target: str


class TransactionMoved(Event, frozen=True, array_like=True, gc=False, tag=32):
    """The pass that begins runs another version of the cycle; `keys` are those of holds that it matches otherwise."""

    transaction: int
    step: str
    definition_hash: str
    keys: dict[str, list[str]]


class CallIntended(Event, frozen=True, array_like=True, gc=False, tag=40):
    """An outbound request is about to leave; `link` is (cycle, step) when it stays in the process."""

    transaction: int
    step: str
    attempt: int
    idempotency_key: str
    request: Request
    link: tuple[str, str] | None = None
    announced: bool = False  # Whether a `CallLeft` follows when it leaves: until then it surely had no effect.


class CallAnswered(Event, frozen=True, array_like=True, gc=False, tag=41):
    """The remote answered; `child` is the transaction a link started, 0 for none."""

    transaction: int
    step: str
    attempt: int
    status: int
    headers: dict[str, str]
    body: bytes
    child: int = 0
    child_cycle: str = ""
    lost: int = 0  # Attempts before this one that may have left and have no end, since a crash took it.


class CallFailed(Event, frozen=True, array_like=True, gc=False, tag=42):
    """No answer came; `phase` says whether the request can have taken effect."""

    transaction: int
    step: str
    attempt: int
    phase: Literal["connect", "sent"]
    reason: str
    lost: int = 0  # As in `CallAnswered`.


class CallUnknown(Event, frozen=True, array_like=True, gc=False, tag=43):
    """The process died between sending and recording; `waits` is true when a person must decide."""

    transaction: int
    step: str
    attempt: int
    waits: bool
    lost: int = 0  # As in `CallAnswered`, and this attempt, when a person must decide.


class CallSettled(Event, frozen=True, array_like=True, gc=False, tag=44):
    """A person decided what an unknown call shall count as."""

    transaction: int
    step: str
    action: Literal["resend", "done", "fail"]


class WaitStarted(Event, frozen=True, array_like=True, gc=False, tag=50):
    """The pass goes on at `until`: after a `delay`, or with another attempt (`retry`).

    It waits for a remote that put this call off (`limited`), or another one of the same remote (`remote`).
    """

    transaction: int
    step: str
    until: int
    reason: Literal["delay", "retry", "limited", "remote"]


class WaitEnded(Event, frozen=True, array_like=True, gc=False, tag=51):
    """The time has come."""

    transaction: int
    step: str


class ReplyBuilt(Event, frozen=True, array_like=True, gc=False, tag=60):
    """The answer to a hit, byte for byte; durable before its first byte leaves."""

    hit: int
    status: int
    headers: dict[str, str]
    body: bytes
    step: str = ""  # The respond step that built it; "" when the end of the pass did.


class ReplySent(Event, frozen=True, array_like=True, gc=False, tag=61):
    """The answer left for the caller who waited."""

    hit: int


class ReplyDetached(Event, frozen=True, array_like=True, gc=False, tag=62):
    """Nobody waits for the answer any more; the transaction goes on."""

    hit: int
    reason: Literal["gone", "deadline", "restart"]


AnyEvent = (
    WriterStarted
    | CycleDeployed
    | CycleStarted
    | CycleStopping
    | CycleStopped
    | CycleOnce
    | CycleOnceTaken
    | HitAccepted
    | HitDuplicated
    | HitMatched
    | HitParked
    | HitExpired
    | HitIgnored
    | TransactionStarted
    | PassStarted
    | StepCompleted
    | RequestArrived
    | StepSucceeded
    | DecisionTaken
    | TransactionHeld
    | HoldExpired
    | TransactionCompleted
    | TransactionFailed
    | TransactionStopped
    | TransactionSplit
    | TransactionGathered
    | GatheringEnded
    | PartingStarted
    | TransactionMoved
    | CallIntended
    | CallLeft
    | CallAnswered
    | CallFailed
    | CallUnknown
    | CallSettled
    | WaitStarted
    | WaitEnded
    | ReplyBuilt
    | ReplySent
    | ReplyDetached
    | IncidentRaised
    | RedriveOrdered
    | HitRedriven
    | TransactionResumed
    | CallWithheld
    | AlertsSet
    | AlertIntended
    | AlertEnded
    | BodiesPurged
    | RetentionApplied
)

SCHEMA = 4  # Of the event set; grows when an event is added.

encode_event = msgspec.msgpack.Encoder().encode
decode_events = msgspec.msgpack.Decoder(list[AnyEvent]).decode
