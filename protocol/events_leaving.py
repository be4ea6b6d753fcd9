"""Facts about what leaves: calls that nobody may repeat, and alerts. `protocol.events` has the rules."""

from typing import Literal

from protocol.event import Event


class CallLeft(Event, frozen=True, array_like=True, gc=False, tag=45):
    """A call that is not safe to repeat leaves now: from here on its outcome may be unknown."""

    transaction: int
    step: str
    attempt: int


class AlertsSet(Event, frozen=True, array_like=True, gc=False, tag=71):
    """Incidents of this level, and above it, are told from now on; "" is none."""

    level: Literal["", "warning", "error"]


class AlertIntended(Event, frozen=True, array_like=True, gc=False, tag=72):
    """An alert is about to leave; it tells these incidents, and its key is made from the first of them."""

    incidents: list[int]


class AlertEnded(Event, frozen=True, array_like=True, gc=False, tag=73):
    """The alert that begins with this incident was delivered, or given up."""

    incident: int
    delivered: bool
