"""How long what is over is kept (`retention`), as a cycle, its server, or nobody says it."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.duration import parse_duration

Keep = Annotated[
    str, Meta(pattern=r"^\s*(forever|\d{1,9}(\.\d{1,9})?\s*[a-z]+)\s*$", description="e.g. 30 days, or forever")
]
"""How long something is kept."""


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long transactions are kept after their last change; what a cycle does not say, the server does."""

    completed: Keep | UnsetType = UNSET
    failed: Keep | UnsetType = UNSET
    held: Keep | UnsetType = UNSET
    bodies: Keep | UnsetType = UNSET


FOREVER = "forever"
DEFAULT = Retention(completed="30 days", failed="90 days", held=FOREVER, bodies=FOREVER)


class Ages(Struct, frozen=True, gc=False):
    """How long things are kept, in nanoseconds; 0 is for ever.

    Attributes:
        completed: completed transactions, after their last change.
        failed: failed and stopped ones, and incidents and requests that belong to no transaction.
        held: holds that have no end of their own; past it they fail, with an incident.
        bodies: the data of transactions that are over, when that is less.
    """

    completed: int
    failed: int
    held: int
    bodies: int


def ages_of(*said: Retention) -> Ages:
    """The ages that hold: each by the first who says it, else the default.

    Raises:
        ValueError: one is no length of time.
    """
    return Ages(**{name: _length(next(_values(name, said))) for name in Ages.__struct_fields__})


def age_faults(said: Retention) -> Iterator[tuple[str, str]]:
    """The ages that are no length of time: their names, and what is wrong with them."""
    for name in Ages.__struct_fields__:
        value = getattr(said, name)
        if value is not UNSET:
            try:
                _length(value)
            except ValueError as fault:
                yield name, f"{fault}; or {FOREVER}"


def _values(name: str, said: tuple[Retention, ...]) -> Iterator[str]:
    values = (getattr(one, name) for one in (*said, DEFAULT))
    return (value for value in values if value is not UNSET)


def _length(text: str) -> int:
    return 0 if text.strip() == FOREVER else parse_duration(text)
