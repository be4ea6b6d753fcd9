"""The events of retention; `protocol.events` is their front door, and has the rules."""

from protocol.event import Event


class BodiesPurged(Event, frozen=True, array_like=True, gc=False, tag=90):
    """Retention dropped what these carried: data, answers and delivery keys; what is left says that they were."""

    transactions: list[int]
    hits: list[int]


class RetentionApplied(Event, frozen=True, array_like=True, gc=False, tag=91):
    """Retention removed these for good."""

    transactions: list[int]
    hits: list[int]
    incidents: list[int]
