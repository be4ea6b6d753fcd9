"""Canonical text: the form in which two values are the same value (matching, switches, counting).

`42` is `"42"`, `4.20` is `4.2` as a decimal, and one instant is one text whatever its offset. Null, missing and empty
have no canonical text, so they never match anything, not even each other.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from protocol.definition import FieldType

DIGITS_MAX = 60  # Of a decimal; more is no amount of anything, and exponents must not fill memory.
TRUTHS = {"true": "true", "false": "false"}


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
            return None if moment is None else moment.astimezone(UTC).isoformat()
        case _:
            return text_of(value)


def decimal_of(value: Any) -> Decimal | None:
    """A number, or text that is one, as an exact decimal; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= DIGITS_MAX else None


def plain(number: Decimal) -> str:
    """A decimal without exponent and without zeros that say nothing."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def instant_of(value: Any) -> datetime | None:
    """RFC 3339 text as an instant; without an offset it is UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def text_of(value: Any) -> str:
    """A scalar as text, as JSON would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        number = decimal_of(value)
        return repr(value) if number is None else plain(number)
    return str(value)
