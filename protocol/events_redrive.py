"""The events of a redrive (section 13); `protocol.events` is their front door, and has the rules."""

from typing import Literal

from protocol.event import Event, Request

RedriveAction = Literal["redeliver", "resume", "rerun"]


class RedriveOrdered(Event, frozen=True, array_like=True, gc=False, tag=80):
    """An order to redrive chose its items, once and for all; the cycle is empty, since they may be of several.

    `items` are hits to redeliver, or transactions to resume or rerun. An order of many pages has an event for each,
    which `page` names, and one `digest` of what was asked; `after` is where the next page goes on, 0 for none.
    """

    order: str
    page: str
    action: RedriveAction
    digest: str
    items: list[int]
    after: int = 0


class HitRedriven(Event, frozen=True, array_like=True, gc=False, tag=81):
    """The hit just accepted is an earlier one again; `transaction` is the one that is resumed or rerun, else 0."""

    hit: int
    original: int
    order: str
    action: RedriveAction
    transaction: int = 0


class TransactionResumed(Event, frozen=True, array_like=True, gc=False, tag=82):
    """A transaction, whose id is this event's sequence number, goes on at `step` with data of an earlier one.

    `kept` are the steps whose data goes along, `reached` the webhooks it is at as well, with the keys they match by;
    `hit` is 0 when no request is behind it.
    """

    transaction: int  # The earlier one.
    hit: int
    order: str
    action: RedriveAction
    definition_hash: str
    step: str
    number: int
    kept: list[str]
    reached: dict[str, list[str]]


class CallWithheld(Event, frozen=True, array_like=True, gc=False, tag=83):
    """A resumed call may have taken effect, and is not safe to repeat: a person must say what it counts as."""

    transaction: int
    step: str
    idempotency_key: str
    request: Request
