"""What the doctor tells: a check for each thing that was looked at, and what of it is not as it must be."""

from collections.abc import Collection, Iterable
from typing import Literal

from msgspec import Struct

Level = Literal["ok", "note", "warning", "broken", "skipped"]
"""`note` is worth knowing and nothing to act on; `skipped` could not be looked at, and says why."""

RULES: dict[int, str] = {
    1: "nothing leaves before it is durable, and whoever waits is answered",
    2: "every event ever journaled can be read and folded",
    3: "every held or running transaction has something that wakes it",
    4: "a request and a hold meet, whichever comes first",
    5: "indexes and counts say what the rows say, and the store what the journal says",
    6: "a delivery key names one hit, and what is finished owns nothing",
    7: "sequence numbers are dense, and a stale writer is fenced",
    8: "what is kept for later is bounded",
}
"""The invariants by their numbers; 2 and 7 are about the journal, 5 and 1 about both."""
FOUND_MAX = 20  # Lines of one check; what is broken once is often broken a thousand times.


class Check(Struct, frozen=True):
    """One thing that was looked at, by a name that stays the same, and what is to be said of it.

    Attributes:
        name: `invariant 3`, say.
        level: how it is.
        said: in a line.
        found: what is not as it must be, at most `FOUND_MAX`.
        more: how many were found besides.
    """

    name: str
    level: Level
    said: str
    found: list[str] = []
    more: int = 0


class Report(Struct, frozen=True):
    """What a look of the doctor came to.

    Attributes:
        applied: the sequence number of the checkpoint that was looked at.
        whole: whether every row was looked at; a look is bounded in time.
        checks: in the order in which they are printed.
    """

    applied: int
    whole: bool
    checks: list[Check]

    @property
    def sick(self) -> bool:
        """Whether there is something to act on."""
        return any(check.level in ("warning", "broken") for check in self.checks)


def found_of(name: str, said: str, found: Collection[str], level: Level = "broken") -> Check:
    """A check that found something, or nothing."""
    if not found:
        return Check(name, "ok", said)
    return Check(name, level, said, list(found)[:FOUND_MAX], max(0, len(found) - FOUND_MAX))


def invariant(rule: int, found: Iterable[str], count: int, seen: str) -> Check:
    """One of the eight: what breaks it, and how often."""
    shown = list(found)[:FOUND_MAX]
    said = f"{RULES[rule]} ({seen})" if seen else RULES[rule]
    return Check(f"invariant {rule}", "broken" if count else "ok", said, shown, max(0, count - len(shown)))
