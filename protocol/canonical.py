"""Canonical text: the form in which two values are the same value (matching, switches, counting).

`42` is `"42"`, `4.20` is `4.2` as a decimal, and one instant is one text whatever its offset. Null, missing and empty
have no canonical text, so they never match anything, not even each other.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from protocol.definition import FieldType

DIGITS_MAX = 60  # Of a decimal; more is no amount of anything, and exponents must not fill memory.
NUMBER_CHARACTERS_MAX = 200  # Of text that is a number; zeros without end say nothing, and cost time.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TRUTHS = {"true": "true", "false": "false"}

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,6})?", re.ASCII)  # Decimal itself reads 1_000 and NaN too.
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:?\d\d)?)?", re.ASCII
)  # datetime itself reads 20240101 and 2024-W01 too, which are more often numbers and names.


def canonical(value: Any, kind: FieldType) -> str | None:
    """The canonical text of a value under a declared type; None when it has none."""
    if value is None or value == "" or isinstance(value, dict | list):
        return None
    match kind:
        case "integer":
            number = decimal_of(value)
            return None if number is None or number != number.to_integral_value() else str(int(number))
        case "decimal" | "float":
            number = decimal_of(value)
            return None if number is None else plain(number)
        case "boolean":
            return TRUTHS.get(str(value).lower())
        case "datetime":
            moment = instant_of(value)
            return None if moment is None else moment.isoformat()
        case _:
            return text_of(value)


def is_older(one: str, other: str, kind: FieldType) -> bool:
    """Whether one canonical text lies before another of the same type; what can not be compared does not."""
    if kind in ("integer", "decimal", "float"):
        numbers = decimal_of(one), decimal_of(other)
        return numbers[0] is not None and numbers[1] is not None and numbers[0] < numbers[1]
    if kind == "datetime":
        moments = instant_of(one), instant_of(other)
        return moments[0] is not None and moments[1] is not None and moments[0] < moments[1]
    return one < other


def decimal_of(value: Any) -> Decimal | None:
    """A number, or text that is one, as an exact decimal; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    elif isinstance(value, str):
        text = value.strip()
        if len(text) > NUMBER_CHARACTERS_MAX or not _NUMBER.fullmatch(text):
            return None
        number = Decimal(text)
    else:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= DIGITS_MAX else None


def plain(number: Decimal) -> str:
    """A decimal without exponent and without zeros that say nothing."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def instant_of(value: Any) -> datetime | None:
    """RFC 3339 text as an instant in UTC; a date alone is its midnight; without an offset it is UTC.

    Returns:
        None for anything else, and for what lies outside the years 1 to 9999.
    """
    if not isinstance(value, str) or not _INSTANT.fullmatch(value.strip()):
        return None
    try:
        moment = datetime.fromisoformat(value.strip().upper())
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # No such day, or an offset that leads out of the calendar.
        return None


def instant_ns(value: Any) -> int | None:
    """RFC 3339 text, or a number of milliseconds since 1970, as nanoseconds; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * 1_000_000
    moment = instant_of(value)
    return None if moment is None else round((moment - EPOCH) / timedelta(microseconds=1)) * 1000


def instant_text(at: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 text in UTC, down to the millisecond."""
    moment = EPOCH + timedelta(milliseconds=at // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(value: Any) -> str:
    """A scalar as text, as JSON would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        number = decimal_of(value)
        return repr(value) if number is None else plain(number)
    return str(value)
