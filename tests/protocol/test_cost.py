"""An expression costs what its own length and its bounds allow, whatever a sender puts into the data (section 3)."""

import resource
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.conditions import compile_condition
from protocol.cost import ITEMS_MAX
from protocol.definition import Condition
from protocol.expression import ExpressionError, compile_expression
from tests.fuzzing import fuzz

BOUND_S = 5.0  # Of processor time; the worst takes half a second. It is a bound, and says nothing of speed.
GROWN_KIB_MAX = 1 << 20  # Of the process, by all of this file.
BODY = 1 << 20  # Characters, as a webhook body may have.


def numbered(count: int, text: str = "x") -> list[dict[str, str]]:
    return [{"sku": f"{text}{at}"} for at in range(count)]


HOSTILE: dict[str, tuple[str, Any]] = {
    "a list that a macro makes": ("a.l.map(x, x.sku)", {"l": numbered(BODY // 12)}),
    "a text joined to each of many": ("a.l.map(x, a.s + x.sku)", {"l": numbered(4_000), "s": "x" * (BODY // 2)}),
    "a text searched for each of many": ("a.l.all(x, a.s.contains('xy'))", {"l": numbered(4_000), "s": "x" * BODY}),
    "a macro in a macro": ("a.l.map(x, a.l.map(y, x.sku + y.sku))", {"l": numbered(1_000)}),
    "rounds in rounds that copy": ("a.l.all(x, a.l.all(y, a.s != a.s + x.sku))", {"l": numbered(99), "s": "x" * BODY}),
    "a text written into itself": ("a.s.replace('x', a.s)", {"s": "x" * BODY}),
    "a long text between many": ("a.l.join(a.s)", {"l": ["x"] * (BODY // 8), "s": "x" * (BODY // 2)}),
    "every character a round": ("a.s.split('').map(x, a.s + x)", {"s": "x" * BODY}),
    "a list compared in each round": ("a.l.filter(x, x in a.l)", {"l": numbered(BODY // 12)}),
    "a list in parentheses": ("(a.l).map(x, x.sku)", {"l": numbered(BODY // 12)}),
    "rounds over what a key is named like": ("a.map.map(x, x.sku)", {"map": numbered(BODY // 12)}),
}

HARMLESS: dict[str, tuple[str, Any]] = {
    "an order of many lines": ("a.l.map(x, x.sku).size()", {"l": numbered(ITEMS_MAX)}),
    "an attachment beside the lines": ("a.l.map(x, x.sku)[0]", {"l": numbered(2_000), "pdf": "x" * (BODY // 2)}),
    "line ends of a long text": ("a.s.replace('\\n', '<br>').size()", {"s": "line\n" * (BODY // 8)}),
    "tags": ("a.l.join(', ')", {"l": ["tag"] * 10_000}),
    "a pattern over a long text": ("a.s.matches('(x+x+)+y')", {"s": "x" * BODY}),
    "a template of a cycle": ("'Dear {name}'.replace('{name}', a.name)", {"name": "Ann"}),
    "a search in a long text": ("a.s.contains('xy')", {"s": "x" * BODY}),
}

HOSTILE_TEXTS = [
    "(" * 4000,
    "[" * 4000,
    "a" + ".a" * 2000,
    "1" + "+1" * 2000,
    "-" * 4000 + "1",
    "a ? " * 900,
    "{1:" * 900,
]


def bounded(text: str, data: Any) -> tuple[bool, Any]:
    """Whether an expression has a value; whatever it is takes bounded time and memory."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = True, compile_expression(text, {"a"}).evaluate({"a": data})
    except ExpressionError as fault:
        found = False, str(fault)
    assert time.process_time() - began < BOUND_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWN_KIB_MAX
    return found


@pytest.mark.parametrize("what", list(HOSTILE))
def test_3_a_body_made_for_an_expression_does_not_hold_the_loop(what: str) -> None:
    """Section 3: given an expression that is fine for real bodies, when one is made to hurt, then it is a fault."""
    has_value, said = bounded(*HOSTILE[what])
    assert not has_value
    assert "at most" in said or "Iteration budget" in said


@pytest.mark.parametrize("what", list(HARMLESS))
def test_3_large_bodies_are_no_hostile_ones(what: str) -> None:
    """Section 3: given the bodies that large customers send, then the expressions that people write have a value."""
    has_value, said = bounded(*HARMLESS[what])
    assert has_value, said


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: text[:6])
def test_3_an_expression_made_to_hurt_its_reader_is_a_fault_or_a_value(text: str) -> None:
    """Section 3: given nesting without end, then CEL's parser says so; it neither overflows nor hangs."""
    bounded(text, {"a": 1})


PATTERNS = [
    "(x+)+$",
    "(x|x)*y",
    "(.*)*y",
    "(x?){1000}x{1000}",
    "(.*x.{500})+y",
    "((x{0,30}){0,30}){0,30}",
    "(",
    "x{9999}",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_9_a_pattern_does_not_backtrack(pattern: str) -> None:
    """Section 9: given `matches` with a pattern on which others run for ever, then it is decided, or no pattern."""
    began = time.process_time()
    try:
        test = compile_condition(Condition(left="a.s", op="matches", right="{{ a.p }}"), {"a"})
        test({"a": {"s": "x" * BODY, "p": pattern}})
    except ExpressionError as fault:
        said = str(fault)
    else:
        said = "regular expression"
    assert "regular expression" in said
    assert time.process_time() - began < BOUND_S


LEAVES = st.sampled_from(
    ["a.s", "a.l", "a.n", "x", "y", "'x'", "'x*'", "0", "1.5", "-1", "null", "[]", "{}", "b", "''"]
)
OPERATORS = st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", "in", "&&", "||"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("{}.{}(x, {})".format, inner, st.sampled_from(["map", "filter", "all", "exists"]), inner),
        st.builds(
            "{}.{}({})".format, inner, st.sampled_from(["split", "join", "contains", "matches", "format"]), inner
        ),
        st.builds("{}.replace({}, {})".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds(
            "{}({})".format, st.sampled_from(["size", "string", "int", "timestamp", "duration", "-", "!"]), inner
        ),
    ),
    max_leaves=10,
)
DATA = st.fixed_dictionaries(
    {
        "s": st.sampled_from(["", "x", "x" * 200_000, "\0", "é" * 1000]),
        "l": st.sampled_from([[], [1], numbered(300), numbered(20_000), ["x" * 5000] * 200]),
        "n": st.sampled_from([0, -(2**63), 2**63 - 1, 1e308, None, True]),
    }
)


@fuzz(200)
@given(EXPRESSIONS, DATA)
def test_3_any_expression_over_any_data_is_a_value_or_a_fault(text: str, data: Any) -> None:
    """Section 3: given whatever CEL has, put together by chance, then it is bounded, and a fault is ours to tell."""
    bounded(text, data)
