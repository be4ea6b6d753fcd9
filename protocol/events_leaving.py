"""Facts about what leaves and what is told: calls that nobody may repeat, incidents, alerts.

`protocol.events` has the rules.
"""

from typing import Any, Literal

from msgspec import field

from protocol.event import Event
from protocol.incidents import Kind, Level


class CallLeft(Event, frozen=True, array_like=True, gc=False, tag=45):
    """A call that is not safe to repeat leaves now: from here on its outcome may be unknown."""

    transaction: int
    step: str
    attempt: int


class IncidentRaised(Event, frozen=True, array_like=True, gc=False, tag=70):
    """Something a person should know; `transaction` is 0 when it is about none."""

    transaction: int
    step: str
    kind: Kind
    message: str
    level: Level
    detail: dict[str, Any] = field(default_factory=dict)  # Numbers and names behind it; no data of the cycle.


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
