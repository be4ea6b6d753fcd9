"""What may happen to a cycle, as the shell hands it to the core: each becomes events by one turn."""

from typing import Any, Literal

from msgspec import Struct

from protocol.ages import Ages
from protocol.alert_settings import Alerts
from protocol.chain import Chain
from protocol.events import Origin
from protocol.events_redrive import RedriveAction
from protocol.state import Lineage


class Hit(Struct, frozen=True, kw_only=True, gc=False):
    """A request that reached a webhook, read and checked against the step's contract.

    `key` are the canonical values of the step's `match`, empty for a trigger. `delivery` is "" when the
    sender gave no name for it. `mark` is the canonical value of the step's `newer_than`, `script` the
    `before_webhook` that let it pass; a `repeat` was put to none, since its
    delivery was accepted before, and is nothing but that.
    """

    cycle: str
    step: str
    at: int
    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes
    content_type: str
    data: dict[str, Any]
    key: tuple[str, ...]
    delivery: str
    digest: str
    wants_reply: bool
    depth: int = 0
    origin: Origin | None = None
    warnings: tuple[str, ...] = ()
    answer_by: int = 0
    lineage: Lineage | None = None  # Of a hit that is redriven.
    mark: str = ""
    script: str = ""
    repeat: bool = False
    chain: Chain = Chain()


class CallAnswer(Struct, frozen=True, gc=False):
    """An outbound request was answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    child: int = 0
    child_cycle: str = ""


class CallFailure(Struct, frozen=True, gc=False):
    """An outbound request brought no answer; `phase` is `connect` when it surely had no effect."""

    phase: Literal["connect", "sent"]
    reason: str


class ScriptResult(Struct, frozen=True, gc=False):
    """A script returned this."""

    data: dict[str, Any]


class CallEnded(Struct, frozen=True, gc=False):
    """The outcome of a call; `attempt` 0 stands for whichever attempt is open (links repeat without harm)."""

    cycle: str
    at: int
    transaction: int
    step: str
    number: int
    attempt: int
    outcome: CallAnswer | CallFailure | ScriptResult


class CallLeaves(Struct, frozen=True, gc=False):
    """An attempt that was announced has its place among the calls of its remote, and is about to leave."""

    cycle: str
    at: int
    transaction: int
    step: str
    number: int
    attempt: int


class HoldDue(Struct, frozen=True, gc=False):
    """The time of a hold, a delay or a retry has come."""

    cycle: str
    at: int
    transaction: int


class Continue(Struct, frozen=True, gc=False):
    """A pass that one turn left over."""

    cycle: str
    at: int
    transaction: int


class Deliver(Struct, frozen=True, gc=False):
    """Hits that were kept, because their cycle was stopped or their transaction failed, look for their place.

    They came before whatever waits in the mailbox, so this is put in front of it.
    """

    cycle: str
    at: int


class Aim(Struct, frozen=True, gc=False):
    """A person's word on where a parked hit belongs."""

    cycle: str
    at: int
    hit: int
    transaction: int


class ParkDue(Struct, frozen=True, gc=False):
    """The time of a parked hit is over."""

    cycle: str
    at: int
    hit: int


class Deploy(Struct, frozen=True, gc=False):
    """Make a definition the current one; identifiers for its webhook steps come with it, since chance is outside."""

    cycle: str
    at: int
    definition: bytes
    hash: str
    identifiers: dict[str, str]
    alerts: Alerts = Alerts()  # Of the server, for a cycle that says nothing of its own.


class Start(Struct, frozen=True, gc=False):
    """Accept hits from now on."""

    cycle: str
    at: int


class Stop(Struct, frozen=True, gc=False):
    """Accept no hits; `stop` ends passes in progress now, `finish` lets them end first.

    `cut` and `kept` count what earlier turns of the same order did.
    """

    cycle: str
    at: int
    mode: Literal["stop", "finish"]
    cut: int = 0
    kept: int = 0


class RunOnce(Struct, frozen=True, gc=False):
    """Let a stopped cycle take one request to its trigger, and run it."""

    cycle: str
    at: int


class ReplySettled(Struct, frozen=True, gc=False):
    """What became of an answer on its way to the caller."""

    cycle: str
    at: int
    hit: int
    fate: Literal["sent", "gone", "deadline"]


class Settle(Struct, frozen=True, gc=False):
    """A person's word on a call whose outcome is unknown."""

    cycle: str
    at: int
    transaction: int
    action: Literal["resend", "done", "fail"]


class Recover(Struct, frozen=True, gc=False):
    """The process restarted: callers who waited are gone, calls in flight have an unknown outcome."""

    cycle: str
    at: int
    hits: tuple[int, ...]
    transactions: tuple[int, ...]


class OrderRedrive(Struct, frozen=True, gc=False):
    """Fix what a page of an order to redrive is about, unless it is fixed already; it belongs to no cycle."""

    cycle: Literal[""]
    at: int
    order: str
    page: str
    action: RedriveAction
    digest: str
    items: tuple[int, ...]
    after: int = 0


class Redrive(Struct, frozen=True, kw_only=True, gc=False):
    """One item of an order to redrive: a hit to redeliver, or a transaction to resume or to rerun.

    `hit` is the request behind it as the journal has it, checked against the version that takes it; None when no
    request is behind it, or when it is gone and not needed. `version` is the hash of the definition to run. What was
    redriven before is refused, except when it shall be so `again`.
    """

    cycle: str
    at: int
    order: str
    action: RedriveAction
    item: int
    version: str
    hit: Hit | None
    again: bool = False


class Retain(Struct, frozen=True, gc=False):
    """These may be older than they are kept; the core looks at each again before it drops anything."""

    cycle: str
    at: int
    ages: Ages
    transactions: tuple[int, ...] = ()
    hits: tuple[int, ...] = ()
    incidents: tuple[int, ...] = ()


class AlertDone(Struct, frozen=True, gc=False):
    """The alert that begins with this incident was delivered, or is given up for a reason."""

    cycle: str
    at: int
    incident: int
    reason: str = ""


Input = (
    Hit
    | CallEnded
    | CallLeaves
    | HoldDue
    | ParkDue
    | Deploy
    | Start
    | Stop
    | RunOnce
    | ReplySettled
    | Settle
    | Recover
    | Continue
    | Deliver
    | Aim
    | OrderRedrive
    | Redrive
    | Retain
    | AlertDone
)


def body_bytes(given: Input) -> int:
    """The bytes of a request's body that an input carries: what bounds a mailbox."""
    if isinstance(given, Hit):
        return len(given.body)
    return len(given.hit.body) if isinstance(given, Redrive) and given.hit is not None else 0


class Accepted(Struct, frozen=True, gc=False):
    """The hit began a transaction."""

    hit: int
    transaction: int


class Resumed(Struct, frozen=True, gc=False):
    """The hit runs a transaction from a mid-cycle webhook; `candidates` when several matched."""

    hit: int
    transaction: int
    candidates: tuple[int, ...] = ()


class Ignored(Struct, frozen=True, gc=False):
    """The hit is older than the last one of that transaction at its step; it is recorded and does not run."""

    hit: int
    transaction: int


class Parked(Struct, frozen=True, gc=False):
    """The hit waits until that instant."""

    hit: int
    until: int


class Duplicate(Struct, frozen=True, gc=False):
    """The delivery came before, as this hit."""

    hit: int


class Refused(Struct, frozen=True, gc=False):
    """Nothing was accepted; the status and words of the answer."""

    status: int
    title: str
    detail: str


class Receipt(Struct, frozen=True, gc=False):
    """What an order to start, stop, finish, run once, deploy or settle did."""

    status: str
    cut: int = 0
    kept: int = 0
    held: int = 0
    resumed: int = 0
    once: Literal["", "waiting", "running"] = ""


class Ordered(Struct, frozen=True, gc=False):
    """The items of a page of an order stand in the event of this sequence number."""

    seq: int


class Redriven(Struct, frozen=True, gc=False):
    """An item is redriven, as this hit or, with no request behind it, as this transaction; 0 is none, or parked.

    `already` when the same order did so before.
    """

    hit: int
    transaction: int
    already: bool = False


Verdict = Accepted | Resumed | Ignored | Parked | Duplicate | Refused | Receipt | Ordered | Redriven | None
