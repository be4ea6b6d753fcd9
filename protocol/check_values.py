"""Faults of single values of a cycle file: lengths of time, expressions, and values that hold merge fields."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET

from protocol.duration import parse_duration
from protocol.expression import ExpressionError, compile_expression, compile_template
from protocol.loading import CheckFault, Place

Found = Iterator[CheckFault]


def length_faults(lengths: Mapping[str, Any], place: Place, at: tuple[str, ...]) -> Found:
    """The faults of lengths of time, each under its key; one that is not said is none."""
    for key, text in lengths.items():
        if text is UNSET:
            continue
        try:
            parse_duration(text)
        except ValueError as fault:
            yield place.fault((*at, key), str(fault))


def expression_faults(text: str, names: set[str], place: Place, at: tuple[str, ...]) -> Found:
    """The fault of an expression that stands alone."""
    try:
        compile_expression(text, names)
    except ExpressionError as fault:
        yield place.fault(at, str(fault))


def template_faults(value: Any, names: set[str], place: Place, at: tuple[str, ...]) -> Found:
    """The faults of each text of a value, at its own line."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from template_faults(part, names, place, (*at, str(key)))
    if isinstance(value, str):
        try:
            compile_template(value, names)
        except ExpressionError as fault:
            yield place.fault(at, str(fault))
