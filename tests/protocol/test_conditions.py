"""Conditions of decisions (section 9)."""

from typing import Any

import pytest

from protocol.conditions import CONDITIONS, compile_condition
from protocol.definition import Condition
from protocol.expression import ExpressionError

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
    ("2026-01-01", "after", "2026-01-01", False),
    ("2026-01-01", "before", "2026-01-01", False),
    ("soon", "before", "2026-01-01", False),
    (5, "after", "2026-01-01", False),
    ({"a": [1, {"b": "2"}]}, "equals", {"a": ["1", {"b": 2}]}, True),
    ({"a": 1}, "equals", {"a": 1, "b": 1}, False),
    ({"a": 1}, "equals", {"b": 1}, False),
    ([1, 2], "equals", [1], False),
    ([1, 2], "equals", [2, 1], False),
    ([], "equals", {}, False),
    (True, "equals", "true", True),
    (0, "equals", False, False),
    (None, "equals", "", False),
    (4.20, "equals", "4.2", True),
    ("a", "equals", "A", False),
    (None, "not_equals", 5, True),
    ("", "exists", None, True),
    (False, "not_exists", None, False),
    ("hello", "contains", 5, False),
    ([{"n": 1}], "contains", {"n": "1"}, True),
    ([1, 2], "contains", 3, False),
    ({"k": 1}, "contains", 1, False),
    (5, "contains", 5, False),
    (None, "not_contains", "a", True),
    ([1], "not_contains", 1, False),
    (5, "starts_with", 5, False),
    ("hello", "starts_with", "ello", False),
    ("hello", "ends_with", "lo", True),
    (9, "greater", "10", False),
    (9, "greater", 9, False),
    ("b", "greater", "a", True),
    ("10", "greater", "9", True),
    ("b", "greater", 5, False),
    (True, "greater", 0, False),
    (9, "less", 9, False),
    ("a", "less", "b", True),
    (8.9, "at_least", 9, False),
    ("b", "at_least", "b", True),
    (9, "at_most", 9, True),
    (9.1, "at_most", 9, False),
    ([], "at_most", [], False),
    (2, "in", ["1", "2"], True),
    ("c", "in", ["a", "b"], False),
    ("a", "in", "abc", False),
    (None, "in", [None], True),
    ("abc", "matches", "^b", False),
    ("xabcx", "matches", "b", True),
    (5, "matches", "5", False),
]


@pytest.mark.parametrize(("left", "name", "right", "expected"), CASES)
def test_9_each_condition_holds_or_not(left: Any, name: str, right: Any, expected: bool) -> None:
    """Every condition of section 9, on values as requests bring them."""
    test = compile_condition(Condition(left="step.value", op=name, right=right), {"step"})
    assert test({"step": {"value": left}}) is expected


def test_9_the_table_walks_every_condition() -> None:
    """None is left out."""
    assert {name for _, name, _, _ in CASES} == CONDITIONS


def test_9_lists_combine_and_cel_strings_decide() -> None:
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


@pytest.mark.parametrize("name", sorted(CONDITIONS))
def test_of_what_leads_nowhere_only_the_negative_conditions_hold(name: str) -> None:
    """It counts as null, whatever it is compared with."""
    compiled = compile_condition(Condition(left="step.gone.far", op=name, right=5), {"step"})
    assert compiled({"step": {}}) is (name in ("not_exists", "not_equals", "not_contains"))


@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        (Condition(), "exactly one of left, all and any, found none"),
        (Condition(left="step", all=[]), "found left, all"),
        (Condition(all=[], op="equals"), "belong to left, not to all"),
        (Condition(any=[], right=1), "belong to left, not to any"),
        (Condition(left="step"), "not nothing"),
        (Condition(left="step", op="equal", right=1), "did you mean equals"),
        (Condition(left="step", op="equals"), "needs a right side"),
        (Condition(left="step", op="matches", right="("), "missing"),
        (Condition(left="stop", op="exists"), "did you mean step"),
        (Condition(all=[Condition(any=["step +"])]), "is not valid CEL"),
    ],
)
def test_a_condition_that_is_none_is_refused_when_it_is_compiled(condition: Condition, rule: str) -> None:
    """Section 2: the rule and what was found; a transaction never meets it."""
    with pytest.raises(ValueError, match=rule):
        compile_condition(condition, {"step"})


@pytest.mark.parametrize("said", ["step.n", "'true'", "1"])
def test_a_condition_that_gives_no_truth_is_an_error(said: str) -> None:
    """CEL that gives something else is no yes."""
    with pytest.raises(ExpressionError, match="gives true or false"):
        compile_condition(said, {"step"})({"step": {"n": 1}})
