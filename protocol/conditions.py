"""Conditions of decisions: comparisons written as a mapping, combinations of them, and CEL.

A left side that leads nowhere counts as null: it does not exist and equals null alone, so of the comparisons only
the negative ones (`not_equals`, `not_contains`) hold of it. Text that is a number compares with numbers as one; two
texts are equal only when they are the same text, and are ordered as numbers when both are.
"""

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from msgspec import UNSET

from protocol.canonical import canonical, decimal_of, instant_of
from protocol.definition import Condition
from protocol.expression import (
    EmptySource,
    Expression,
    ExpressionError,
    compile_cel,
    compile_expression,
    compile_template,
)

Scope = Mapping[str, Any]
Test = Callable[[Scope], bool]


def equal(left: Any, right: Any) -> bool:
    """Equality of values: numbers by their value, also against text that is a number; the rest as they are."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return canonical(left, "text") == canonical(right, "text")
    numbers = decimal_of(left), decimal_of(right)
    if None not in numbers and not (isinstance(left, str) and isinstance(right, str)):
        return numbers[0] == numbers[1]
    return bool(left == right)


def _order(left: Any, right: Any) -> int | None:
    """Below, at or above zero as left lies below, at or above right; None when they can not be compared."""
    one, other = decimal_of(left), decimal_of(right)
    if one is not None and other is not None:
        return (one > other) - (one < other)
    if isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    return None


def _contains(left: Any, right: Any) -> bool:
    if isinstance(left, str):
        return isinstance(right, str) and right in left
    if isinstance(left, list):
        return any(equal(item, right) for item in left)
    return isinstance(left, Mapping) and isinstance(right, str) and right in left


def _moments(left: Any, right: Any, *, after: bool) -> bool:
    one, other = instant_of(left), instant_of(right)
    if one is None or other is None:
        return False
    return one > other if after else one < other


def _matches(left: Any, right: Any) -> bool:
    """RE2, as CEL has it: linear in the text, whatever the pattern."""
    if not isinstance(left, str) or not isinstance(right, str):
        return False
    return bool(_RE2.evaluate({"left": left, "right": right}))


_RE2 = compile_cel("left.matches(right)", {"left", "right"})

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "equals": equal,
    "not_equals": lambda left, right: not equal(left, right),
    "exists": lambda left, _: left is not None,
    "not_exists": lambda left, _: left is None,
    "contains": _contains,
    "not_contains": lambda left, right: not _contains(left, right),
    "starts_with": lambda left, right: isinstance(left, str) and isinstance(right, str) and left.startswith(right),
    "ends_with": lambda left, right: isinstance(left, str) and isinstance(right, str) and left.endswith(right),
    "greater": lambda left, right: (_order(left, right) or 0) > 0,
    "less": lambda left, right: (_order(left, right) or 0) < 0,
    "at_least": lambda left, right: (found := _order(left, right)) is not None and found >= 0,
    "at_most": lambda left, right: (found := _order(left, right)) is not None and found <= 0,
    "in": lambda left, right: isinstance(right, list) and any(equal(left, item) for item in right),
    "matches": _matches,
    "before": lambda left, right: _moments(left, right, after=False),
    "after": lambda left, right: _moments(left, right, after=True),
}
CONDITIONS = frozenset(_TESTS)
UNARY = frozenset({"exists", "not_exists"})


def compile_condition(condition: Condition | str, names: Collection[str]) -> Test:
    """Compile a condition over the named variables.

    Raises:
        ExpressionError: an expression can not be compiled.
        ValueError: the condition is not one of the forms of `Condition`, or its name is unknown.
    """
    if isinstance(condition, str):
        return _cel_test(compile_expression(condition, names))
    given = [name for name in ("left", "all", "any") if getattr(condition, name) is not UNSET]
    if len(given) != 1:
        raise ValueError(f"a condition has exactly one of left, all and any, found {', '.join(given) or 'none'}")
    if isinstance(condition.left, str):
        return _comparison(condition, condition.left, names)
    if condition.op is not UNSET or condition.right is not UNSET:
        raise ValueError(f"is and right belong to left, not to {given[0]}")
    if isinstance(condition.all, list):
        every = [compile_condition(part, names) for part in condition.all]
        return lambda scope: all(test(scope) for test in every)
    some = [compile_condition(part, names) for part in condition.any or []]
    return lambda scope: any(test(scope) for test in some)


def _comparison(condition: Condition, left_text: str, names: Collection[str]) -> Test:
    op = condition.op
    if not isinstance(op, str) or op not in _TESTS:
        known = sorted(CONDITIONS)
        near = get_close_matches(str(op), known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        found = "nothing" if op is UNSET else repr(op)
        raise ValueError(f"a condition is one of {', '.join(known)}, not {found}{hint}")
    if op not in UNARY and condition.right is UNSET:
        raise ValueError(f"the condition {op} needs a right side")
    left = compile_expression(left_text, names)
    right = compile_template(None if condition.right is UNSET else condition.right, names)
    if op == "matches" and right.is_constant:
        _matches("", condition.right)  # A pattern that is none is said when the file is checked.
    compare = _TESTS[op]
    return lambda scope: compare(_or_null(left, scope), right.render(scope))


def _or_null(expression: Expression, scope: Scope) -> Any:
    try:
        return expression.evaluate(scope)
    except EmptySource:
        return None


def _cel_test(expression: Expression) -> Test:
    def test(scope: Scope) -> bool:
        result = expression.evaluate(scope)
        if not isinstance(result, bool):
            raise ExpressionError(expression.text, f"a condition gives true or false, not {type(result).__name__}")
        return result

    return test
