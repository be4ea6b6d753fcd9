"""Lines of TOML by key: faults of a project are told where they stand."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol.loading import Source, load_project
from protocol.toml_lines import toml_lines
from tests.fuzzing import fuzz

CYCLE = """# A cycle
cycle = "c"

[steps.t]
webhook = "shop"
fields."a.b" = {type = "text", required = true}
methods = [
  # Both.
  "PUT",
]
[steps.d]
note = '''
[steps.no]
a = 1
'''
nxt = "end"
"""


def test_given_a_text_then_each_key_has_the_line_of_its_statement() -> None:
    """Dotted and quoted keys, values of several lines, tables, and arrays of tables by their numbers."""
    assert toml_lines(CYCLE) == {
        ("cycle",): 2,
        ("steps", "t"): 4,
        ("steps", "t", "webhook"): 5,
        ("steps", "t", "fields"): 6,
        ("steps", "t", "fields", "a.b"): 6,
        ("steps", "t", "fields", "a.b", "type"): 6,
        ("steps", "t", "fields", "a.b", "required"): 6,
        ("steps", "t", "methods"): 7,
        ("steps", "t", "methods", "0"): 7,
        ("steps", "d"): 11,
        ("steps", "d", "note"): 12,
        ("steps", "d", "nxt"): 16,
    }
    cases = "[[s.cases]]\nis = 1\n[[s.cases]]\n[s.cases.when]\nat = 2\r\nodd = [\n 1]\n"
    assert toml_lines(cases) == {
        ("s", "cases", "0"): 1,
        ("s", "cases", "0", "is"): 2,
        ("s", "cases", "1"): 3,
        ("s", "cases", "1", "when"): 4,
        ("s", "cases", "1", "when", "at"): 5,
        ("s", "cases", "1", "when", "odd"): 6,
        ("s", "cases", "1", "when", "odd", "0"): 6,
    }


def test_2_a_fault_of_a_toml_cycle_is_told_with_its_line() -> None:
    """Section 2: as one of YAML is."""
    _, faults = load_project([Source("c.cycle.toml", CYCLE)])
    assert [(fault.line, fault.step) for fault in faults if "nxt" in fault.rule] == [(16, "d")]


KEYS = st.text('ab".[ \n', max_size=5).map(lambda text: '"' + text.replace('"', '\\"').replace("\n", "\\n") + '"')
VALUES = st.sampled_from(["1", "[\n1,\n2]", '"""\n[a]\nb = 1\n"""', "{a = {b = 1}}", "'[x]'"])


@fuzz(200)
@given(st.lists(st.tuples(st.sampled_from(["", "[{}]\n", "[[{}]]\n", "# {}\n"]), KEYS, KEYS, VALUES), max_size=6))
def test_whatever_the_text_each_top_level_key_is_found(parts: list[tuple[str, str, str, str]]) -> None:
    """Given any TOML, then every key of its first level has a line, in which it stands."""
    text = "".join(f"{head.format(table)}{key} = {value}\n" for head, table, key, value in parts)
    try:
        said: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = toml_lines(text)
    tables = {path[0] for path in lines}
    assert tables == set(said)
    assert all(1 <= line <= text.count("\n") for line in lines.values())
