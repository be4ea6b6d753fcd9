"""Conditions of decisions (section 9)."""

from typing import Any

import pytest

from protocol.conditions import CONDITIONS, compile_condition
from protocol.definition import Condition

CASES: list[tuple[Any, str, Any, bool]] = [
    ("a", "equals", "a", True),
    (42, "equals", "42", True),
    ("42", "equals", "42.0", False),
    (1, "equals", True, False),
    (None, "equals", None, True),
    ("a", "not_equals", "b", True),
    (0, "exists", None, True),
    (None, "exists", None, False),
    (None, "not_exists", None, True),
    ("hello", "contains", "ell", True),
    ([1, 2], "contains", "2", True),
    ({"k": 1}, "contains", "k", True),
    ("hello", "not_contains", "z", True),
    ("hello", "starts_with", "he", True),
    ("hello", "ends_with", "he", False),
    (10, "greater", "9", True),
    ("10", "less", 9, False),
    (9, "at_least", 9, True),
    (None, "at_most", 9, False),
    ("b", "in", ["a", "b"], True),
    ("abc", "matches", "^a.c$", True),
    ("2026-01-01T00:00:00Z", "before", "2026-01-01T02:00:00+01:00", True),
    ("2026-01-02", "after", "2026-01-01", True),
]


@pytest.mark.parametrize(("left", "name", "right", "expected"), CASES)
def test_each_condition_holds_or_not(left: Any, name: str, right: Any, expected: bool) -> None:
    """Every condition of section 9, on values as requests bring them."""
    test = compile_condition(Condition(left="step.value", op=name, right=right), {"step"})
    assert test({"step": {"value": left}}) is expected


def test_the_table_walks_every_condition() -> None:
    """None is left out."""
    assert {name for _, name, _, _ in CASES} == CONDITIONS


def test_lists_combine_and_cel_strings_decide() -> None:
    """`all`, `any`, and a string of CEL."""
    big = Condition(left="step.n", op="greater", right=5)
    both = compile_condition(Condition(all=[big, "step.n < 9"]), {"step"})
    one = compile_condition(Condition(any=[big, "step.n == 1"]), {"step"})
    assert [both({"step": {"n": n}}) for n in (1, 7, 9)] == [False, True, False]
    assert [one({"step": {"n": n}}) for n in (1, 3, 7)] == [True, False, True]


def test_a_left_that_leads_nowhere_does_not_exist() -> None:
    """It counts as null."""
    test = compile_condition(Condition(left="step.gone.far", op="exists"), {"step"})
    assert test({"step": {}}) is False
