"""Facts about what webhooks and other steps bring; `protocol.events` is their front door, and has the rules."""

from typing import Any

from protocol.event import Event


class HitIgnored(Event, frozen=True, array_like=True, gc=False, tag=15):
    """A hit is older than the last one that this transaction was given at its step, so it does not run.

    `mark` and `seen` are the two values of the step's `newer_than`, in canonical text.
    """

    hit: int
    transaction: int
    mark: str
    seen: str


class PartingStarted(Event, frozen=True, array_like=True, gc=False, tag=16):
    """The data of a step is a list, or holds one, of which each item runs on as a transaction of its own.

    In the data of a part the item stands at `path`, where the list was; the names in `without` are left out of it.
    """

    transaction: int
    step: str
    path: list[str]
    without: list[str]
    target: str


class StepSucceeded(Event, frozen=True, array_like=True, gc=False, tag=17):
    """A step whose definition mentions `last_success` did its work; `began` is when the attempt that did it left.

    What changed at a remote while it answered lies behind that instant, so a poll from there misses nothing.
    """

    transaction: int
    step: str
    began: int


class RequestArrived(Event, frozen=True, array_like=True, gc=False, tag=18):
    """A request came to a webhook, whose `after_webhook`, or the list in it, decides what the pass goes on with."""

    transaction: int
    step: str
    data: dict[str, Any]
