"""Lengths of time as people write them: `5 minutes`, `1.5 hours`, `30 days`.

Inside the runtime every length and every instant is an integer of nanoseconds, so that arithmetic is exact and
a journaled due time means the same on every machine.
"""

import re
from decimal import Decimal

SECOND_NS = 1_000_000_000
UNITS_NS = {
    "millisecond": 1_000_000,
    "second": SECOND_NS,
    "minute": 60 * SECOND_NS,
    "hour": 3600 * SECOND_NS,
    "day": 86_400 * SECOND_NS,
    "week": 7 * 86_400 * SECOND_NS,
}
DAY_NS = UNITS_NS["day"]
LENGTH_NS_MAX = 3660 * DAY_NS  # Ten years: longer is a typing mistake, and sums stay far inside 63 bits.

_LENGTH = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+?)s?\s*", re.ASCII)


def parse_duration(text: str) -> int:
    """Read a length of time such as `10 minutes`.

    Returns:
        The length in nanoseconds, at least 1 and at most `LENGTH_NS_MAX`.

    Raises:
        ValueError: the text is not a number and a unit, or it is out of range. The message says which.
    """
    found = _LENGTH.fullmatch(text)
    if found is None or found[2] not in UNITS_NS:
        raise ValueError(f"a length of time is a number and a unit ({', '.join(UNITS_NS)}), not {text!r}")
    length = int(Decimal(found[1]) * UNITS_NS[found[2]])
    if not 1 <= length <= LENGTH_NS_MAX:
        raise ValueError(f"a length of time lies above zero and at most 3660 days, not {text!r}")
    return length
