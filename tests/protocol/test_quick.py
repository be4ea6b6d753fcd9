"""Section 3: what the fast way of comparisons and sums is sure of is what CEL gives, and it knows the usual ones."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.expression import ExpressionError, compile_cel, compile_expression
from protocol.quick import Unsure, compile_quick

NAMES = {"a", "b", "c"}
numbers = st.integers(-3, 3) | st.sampled_from([2**31, 2**62, 2**63 - 1, -(2**63)])
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | st.floats(-4, 4)
    | st.text(st.characters(codec="utf-8", exclude_characters="\1"), max_size=2)
)
scopes = st.fixed_dictionaries({"a": scalars, "b": st.dictionaries(st.sampled_from("xy"), scalars), "c": scalars})
operands = st.sampled_from(["a", "b.x", "b.y", "c", "true", "false", "0", "2", "9223372036854775807", "'t'", '""'])


def _signed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["+", "-", "*", "<", "<=", ">", ">=", "==", "!=", "&&", "||"])
    joined = st.tuples(inner, signs, inner).map(" ".join)
    return joined | joined.map(lambda text: f"({text})") | inner.map(lambda text: f"!{text}")


texts = st.recursive(operands, _signed, max_leaves=6)


@settings(deadline=None, max_examples=600)
@given(text=texts, scope=scopes)
def test_what_the_fast_way_is_sure_of_is_what_cel_gives(text: str, scope: dict[str, Any]) -> None:
    """Types, precedence, missing fields, overflow, and the errors that `&&` and `||` absorb."""
    try:
        exact = compile_cel(text, NAMES)
    except ExpressionError:
        return  # CEL sees by itself that `1 && true` can not be.
    quick = compile_quick(text)
    if quick is None:
        return
    try:
        found = quick(scope)
    except Unsure:
        return
    expected = exact.evaluate(scope)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.total * 2 > 1000", True),
        ("a.total>=600&&a.country=='NO'", True),
        ("a.paid || a.missing > 1", True),
        ("!a.paid", False),
        ("!(a.total == 600) || (a.total - 1) * 2 + 1 != 1199", False),
        ('a.country != "SE"', True),
    ],
)
def test_the_usual_conditions_take_the_fast_way(text: str, expected: Any) -> None:
    """Else it would hold its promise by never answering."""
    quick = compile_quick(text)
    assert quick is not None
    assert quick({"a": {"total": 600, "country": "NO", "paid": True}}) is expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "size(a) > 1",
            "a[0] == 1",
            "a / 2",
            "a % 2",
            "-a",
            "1.5 < a",
            "1u == 1u",
            "a in b",
            "a == null",
            "r'x' == a",
        ),
        *(
            "a ? 1 : 2",
            "a == 'x' 'y'",
            "a ==",
            "(a",
            "a)",
            "'\\n' == a",
            "has(a.b)",
            "a.b() == 1",
            "[1] == a",
            "!" * 30 + "a",
        ),
    ],
)
def test_what_it_does_not_read_is_left_to_cel(text: str) -> None:
    """It reads whole expressions or none."""
    assert compile_quick(text) is None


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("a + 1", {"a": 2**63 - 1}),
        ("a > 1", {"a": "2"}),
        ("a > 1", {"a": True}),
        ("a == 1", {"a": 1.0}),
        ("a.x == 1", {"a": {}}),
        ("a.x == 1", {"a": None}),
        ("a && true", {"a": 1}),
        ("a || b", {"a": False, "b": 0}),
    ],
)
def test_where_it_is_unsure_cel_answers(text: str, scope: dict[str, Any]) -> None:
    """Overflow, other types and paths that lead nowhere have CEL's value, or CEL's words."""
    quick = compile_quick(text)
    assert quick is not None
    with pytest.raises(Unsure):
        quick(scope)
    outcomes: list[Any] = []
    for compiled in (compile_expression(text, {"a", "b"}), compile_cel(text, {"a", "b"})):
        try:
            outcomes.append(compiled.evaluate(scope))
        except ExpressionError as fault:
            outcomes.append(str(fault))
    assert outcomes[0] == outcomes[1]
