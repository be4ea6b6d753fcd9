"""What events are made of; `protocol.events` is their front door, and has the rules."""

from msgspec import Struct


class Origin(Struct, frozen=True, array_like=True, gc=False):
    """The step of another cycle whose link made a hit; the answer to the hit goes back there."""

    cycle: str
    transaction: int
    step: str
    number: int  # The pass of the parent, since one step runs once a pass.


class Request(Struct, frozen=True, array_like=True, gc=False):
    """One outbound request as the step rendered it; the connector's secrets are added when it is sent.

    A script leaves the process like a call: its method is `SCRIPT`, or `HOOK` for an `after_webhook`, and its url the
    name of the function.
    """

    connector: str
    method: str
    url: str  # Absolute, or a path below the connector's base URL.
    headers: dict[str, str]
    body: bytes
    content_type: str
    timeout: int  # Nanoseconds.


class Event(Struct, frozen=True, array_like=True, gc=False):
    """What every event carries first."""

    cycle: str
    at: int
