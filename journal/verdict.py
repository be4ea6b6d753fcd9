"""What the end of a segment means: a crash, or damage. A decision table.

A crash can tear only the one commit in flight, and only into sectors that were zero before. So whatever
tearing cannot explain was damaged later, and is refused rather than cut off. The model: a disk leaves a sector all
old or all new, one commit is in flight, and a system that copies only a part of a write may leave the
sector where that part ends half written, with nothing behind it. Outside that model the checksums still detect, but
a tear and rot may be confused.

Legend of the facts, taken at the first place where no good frame starts:

* `where`: a sealed segment was finished and synced long ago; nothing in it can be torn.
* `short`: the file is shorter than allotted, and no footer explains that.
* `rest_zero`: nothing but zeros follows.
* `last`: the last good frame is a clean close, or a footer, or neither (`OPEN`: also none at all).
* `found`: what is there: a zero sector; no header of ours (`GARBAGE`); a good header that contradicts its
  place (`MISPLACED`); a good header whose payload fails and shows an unwritten sector (`GAPPED`), or shows
  none (`ALTERED`); a frame, or a header, that was written up to some byte and no further (`CUT_OFF`).
* `proof`: a later good header says that this place was durable when it was built.
* `far`: bytes lie further behind than one commit can reach.

`decide` demands that exactly one row matches; a test walks every combination.
"""

from enum import Enum
from typing import Final

from msgspec import Struct


class Where(Enum):
    """Which kind of segment it is, by the manifest."""

    SEALED = "sealed"
    ACTIVE = "active"


class Last(Enum):
    """What the last good frame says about what may follow."""

    OPEN = "open"
    CLOSED = "clean close"
    FOOTER = "footer"


class Found(Enum):
    """What lies at the first place where no good frame starts."""

    ZERO = "an unwritten sector"
    GARBAGE = "no header of this segment"
    MISPLACED = "a good header that contradicts its place"
    GAPPED = "a frame with an unwritten sector"
    CUT_OFF = "a frame whose end was never written"
    ALTERED = "a whole frame with other bytes than its checksum says"


class Verdict(Enum):
    """What to do about it."""

    CONTINUE = "the log ends here; append after it"
    SEAL = "the footer is written; finish sealing"
    CUT = "a torn commit, never acknowledged: cut it off and start a new segment"
    REFUSE = "damage: change nothing"


class Facts(Struct, frozen=True):
    """Everything the decision depends on."""

    where: Where
    short: bool
    rest_zero: bool
    last: Last
    found: Found
    proof: bool
    far: bool


class Row(Struct, frozen=True):
    """One row; a field that is None matches anything. `verdict` None marks what cannot be observed."""

    rule: str
    verdict: Verdict | None
    where: Where | None = Where.ACTIVE
    short: bool | None = False
    rest_zero: bool | None = False
    last: Last | None = Last.OPEN
    found: tuple[Found, ...] | None = None
    proof: bool | None = None
    far: bool | None = None

    def matches(self, facts: Facts) -> bool:
        """Whether every given field agrees with the facts."""
        return (
            self.where in {None, facts.where}
            and self.short in {None, facts.short}
            and self.rest_zero in {None, facts.rest_zero}
            and self.last in {None, facts.last}
            and (self.found is None or facts.found in self.found)
            and self.proof in {None, facts.proof}
            and self.far in {None, facts.far}
        )


_SOMETHING: Final = tuple(found for found in Found if found is not Found.ZERO)

TABLE: Final = (
    Row(
        "a sealed segment is whole",
        Verdict.REFUSE,
        where=Where.SEALED,
        short=None,
        rest_zero=None,
        last=None,
    ),
    Row("the active segment is as long as it was made", Verdict.REFUSE, short=True, rest_zero=None, last=None),
    # Zeros to the end.
    Row("the log ends in zeros", Verdict.CONTINUE, rest_zero=True, found=(Found.ZERO,), proof=False, far=False),
    Row(
        "the log was closed",
        Verdict.CONTINUE,
        rest_zero=True,
        last=Last.CLOSED,
        found=(Found.ZERO,),
        proof=False,
        far=False,
    ),
    Row(
        "the segment was being sealed",
        Verdict.SEAL,
        rest_zero=True,
        last=Last.FOOTER,
        found=(Found.ZERO,),
        proof=False,
        far=False,
    ),
    Row("zeros are not a frame", None, rest_zero=True, last=None, found=_SOMETHING),
    Row("zeros prove nothing", None, rest_zero=True, last=None, found=(Found.ZERO,), proof=True),
    Row("zeros reach nowhere", None, rest_zero=True, last=None, found=(Found.ZERO,), proof=False, far=True),
    # Something behind the end.
    Row("nothing follows a clean close until the next open", Verdict.REFUSE, last=Last.CLOSED),
    Row("nothing follows a footer", Verdict.REFUSE, last=Last.FOOTER),
    Row("a later frame says that this place was durable", Verdict.REFUSE, proof=True),
    Row("a crash tears one commit only, and this reaches further", Verdict.REFUSE, proof=False, far=True),
    Row(
        "a torn write leaves zeros or a good header, not this",
        Verdict.REFUSE,
        found=(Found.GARBAGE,),
        proof=False,
        far=False,
    ),
    Row(
        "every frame follows the one before it",
        Verdict.REFUSE,
        found=(Found.MISPLACED,),
        proof=False,
        far=False,
    ),
    Row(
        "a torn write leaves an unwritten sector, and every sector of this frame was written",
        Verdict.REFUSE,
        found=(Found.ALTERED,),
        proof=False,
        far=False,
    ),
    Row(
        "the last commit was torn by a crash",
        Verdict.CUT,
        found=(Found.ZERO, Found.GAPPED, Found.CUT_OFF),
        proof=False,
        far=False,
    ),
)


def decide(facts: Facts) -> tuple[Verdict, str]:
    """The verdict and the rule behind it.

    Raises:
        AssertionError: the facts cannot be observed, or the table is wrong: our bug either way.
    """
    rows = [row for row in TABLE if row.matches(facts)]
    if len(rows) != 1 or rows[0].verdict is None:
        raise AssertionError(f"{len(rows)} rows of the recovery table match {facts}")
    return rows[0].verdict, rows[0].rule
