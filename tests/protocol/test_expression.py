"""Expressions: the fast way for plain paths gives what CEL gives, and templates keep types (section 3)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.expression import (
    EmptySource,
    ExpressionError,
    compile_cel,
    compile_expression,
    compile_template,
)

names = st.sampled_from(["a", "b", "lines", "order", "x1"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\1"), max_size=8)  # It stands in for NUL within CEL.
    | st.sampled_from(["\0", "a\0b", "\\u0000"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
paths = st.lists(names.map(lambda name: f".{name}") | st.integers(0, 3).map(lambda index: f"[{index}]"), max_size=4)


def outcome(text: str, scope: dict[str, Any], *, cel: bool) -> tuple[str, Any]:
    compiled = compile_cel(text, {"step"}) if cel else compile_expression(text, {"step"})
    try:
        return "value", compiled.evaluate(scope)
    except EmptySource:
        return "empty", None


@settings(deadline=None, max_examples=400)
@given(value=values, path=paths)
def test_3_a_plain_path_gives_what_cel_gives(value: Any, path: list[str]) -> None:
    """Section 3: a property holds the two together, with missing keys, nulls, lists and other types."""
    text = "step" + "".join(path)
    assert compile_expression(text, {"step"}).is_plain_path
    fast, reference = (outcome(text, {"step": value}, cel=cel) for cel in (False, True))
    assert fast == reference
    assert type(fast[1]) is type(reference[1])


def test_3_a_string_that_is_one_merge_field_keeps_its_type() -> None:
    """Section 3: otherwise the results are written into the text."""
    scope = {"order": {"total": 42, "paid": True, "lines": [1, 2], "note": None}}
    render = compile_template(
        {"total": "{{ order.total }}", "text": "T {{ order.total }} {{ order.paid }} {{ order.note }}", "all": ["x"]},
        {"order"},
    ).render
    assert render(scope) == {"total": 42, "text": "T 42 true ", "all": ["x"]}
    block = compile_template("\n  {{ order.lines }}\n", {"order"}).render(scope)
    assert block == [1, 2], "spaces around it are how YAML writes a block of text"


def test_3_a_name_out_of_scope_is_refused_with_the_nearest_one() -> None:
    """Section 2: `check` names the nearest valid name."""
    with pytest.raises(ExpressionError, match="did you mean order_placed"):
        compile_expression("order_place.id", {"order_placed", "vars"})
    with pytest.raises(ExpressionError, match="did you mean order_placed"):
        compile_expression("size(order_place.lines) > 1", {"order_placed", "vars"})


def test_3_cel_evaluates_what_is_no_plain_path() -> None:
    """Section 3: functions, comparisons and macros are CEL's."""
    scope = {"order": {"lines": [{"n": 2}, {"n": 5}]}}
    assert compile_expression("order.lines.exists(l, l.n > 4)", {"order"}).evaluate(scope) is True
    assert compile_expression("size(order.lines) * 10", {"order"}).evaluate(scope) == 20
    with pytest.raises(EmptySource):
        compile_expression("order.missing + 1", {"order"}).evaluate(scope)
    with pytest.raises(ExpressionError):
        compile_expression("order.lines +", {"order"})


def test_an_integer_beyond_64_bits_is_an_error_not_a_crash() -> None:
    """CEL has integers of 64 bits."""
    with pytest.raises(ExpressionError):
        compile_expression("order.n + 1", {"order"}).evaluate({"order": {"n": 2**70}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step.name == 'admin'", False),
        ("step.name.startsWith('admin')", True),
        ("step.name.endsWith('x')", True),
        ("size(step.name)", 7),
        ("step.name + '!'", "admin\0x!"),
        ("step.name < 'admin!'", True),
        ("step.name > 'admin'", True),
        ("[step.name].map(one, {one: one})", [{"admin\0x": "admin\0x"}]),
        ("step.other == 1", True),
    ],
)
def test_text_with_a_nul_character_is_whole_within_cel(text: str, expected: Any) -> None:
    """Section 3: a text that is cut short would equal another, and a sender chooses it."""
    scope = {"step": {"name": "admin\0x", "other": 1}}
    assert compile_cel(text, {"step"}).evaluate(scope) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("size(bytes(step))", "a\0"),
        (r"step == 'a\x00'", "a\0"),
        (r"step == 'a\x01'", "a\0"),
        ("step + 'b'", "a\0\1"),
        ("step.matches(step)", "a\\x01\0"),
    ],
)
def test_a_nul_character_that_has_no_stand_in_is_an_error(text: str, value: str) -> None:
    """Where U+0001 could be told from NUL, no answer is better than a wrong one; without a NUL there is one."""
    compiled = compile_cel(text, {"step"})
    with pytest.raises(ExpressionError, match="NUL"):
        compiled.evaluate({"step": value})
    compiled.evaluate({"step": value.replace("\0", "")})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step.price * step.count", "* does not take text and a whole number; a decimal is text here: write double(…)"),
        ("step.price + 1.5", "+ does not take text and a number; a decimal is text here: write double(…)"),
        ("step.count * 1.5", "* does not take a whole number and a number: write double(…) around the whole one"),
        ("step.flag && step.count", "No matching overloads"),
    ],
)
def test_3_what_can_not_be_calculated_is_told_with_its_cure(text: str, said: str) -> None:
    """Section 3: CEL mixes no types; a decimal stays text so that nothing of it is lost, and that surprises."""
    with pytest.raises(ExpressionError) as raised:
        compile_expression(text, {"step"}).evaluate({"step": {"price": "4.2", "count": 3, "flag": True}})
    assert said in str(raised.value)
