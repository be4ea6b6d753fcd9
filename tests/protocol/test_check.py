"""`check` reports every fault of every file at once, with its line and the nearest name (section 2)."""

import pytest

from protocol.check import check_project
from protocol.definition import KINDS
from protocol.loading import Source, decode_definition, encode_definition, load_project
from protocol.schema import json_schema
from tests.protocol.test_cycle import ORDER

HEAD = "cycle: c\nconnectors: {shop: {}, remote: {base_url: 'http://x'}}\nsteps:\n"


def faults(text: str) -> list[str]:
    return [str(fault) for fault in check_project([Source("c.cycle.yaml", HEAD + text)])[1]]


TRIGGER = "  t: {webhook: shop, fields: {id: {type: text, required: true}}}\n"

CASES = [
    ("  t: {webhook: shop}\n", "at least two steps"),
    ("  g: {get: remote, path: /x}\n  h: {get: remote, path: /x}\n", "the first step must be a webhook"),
    (TRIGGER + "  g: {get: remot, path: /x}\n", "did you mean remote"),
    (TRIGGER + "  g: {get: remote, path: /x, tiemout: 3 s}\n", "did you mean timeout"),
    (TRIGGER + "  g: {get: remote, path: /x, next: z}\n", "names no step"),
    (TRIGGER + "  g: {get: remote, path: '/{{ u.id }}'}\n", "not in scope"),
    (TRIGGER + "  g: {get: remote, path: '/{{ h.id }}'}\n  h: {get: remote, path: /x}\n", "h is not in scope"),
    (TRIGGER + "  w: {webhook: shop}\n", "needs match"),
    (TRIGGER + "  g: {get: remote, path: /x, next: end}\n  h: {get: remote, path: /x}\n", "can not be reached"),
    (TRIGGER + "  d: {decide: 'true', then: d}\n", "loops without passing"),
    (TRIGGER + "  d: {decide: {left: t.id, is: equalz, right: 1}}\n", "a condition is one of"),
    (TRIGGER + "  g: {get: remote, post: remote, path: /x}\n", "exactly one kind"),
    (TRIGGER + "  g: {get: remote, path: /x, timeout: 5 parsecs}\n", "a number and a unit"),
    (TRIGGER + "  g: {post: remote, url: 'cycle:other/x'}\n", "links to no cycle"),
    (TRIGGER + "  g: {get: shop}\n", "base_url"),
    (TRIGGER + "  g: {get: remote, path: '/{{ env.KEY }}'}\n", "env is only for connectors"),
    (TRIGGER + "  end: {get: remote, path: /x}\n", "reserved"),
    (TRIGGER + "  r: {respond: {status: 99}}\n", "200 to 599"),
    (TRIGGER + "  g: {get: remote, path: /x\n", "is not YAML"),
    (TRIGGER + "  t: {webhook: shop}\n", "is not YAML"),
    (TRIGGER + "  w: {webhook: shop, match: {'[a].b': t.id}}\n", "not by a list such as [a].b"),
    (TRIGGER + "  w: {webhook: shop, match: {'a..b': t.id}}\n", "a location reads like order.id"),
    (TRIGGER + "  w: {webhook: shop, fields: {job: text}, match: {jop: t.id}}\n", "did you mean job"),
    ("  t: {webhook: shop, dedupe: {field: '[a].b'}}\n", "not by a list such as [a].b"),
    ("  t: {webhook: shop, dedupe: {field: event.i}, fields: {event.id: text}}\n", "did you mean event.id"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_each_rule_is_reported(text: str, expected: str) -> None:
    """The rule, the value found and the nearest valid name."""
    found = faults(text)
    assert any(expected in fault for fault in found), found


def test_all_faults_come_at_once_with_their_lines() -> None:
    """Three faults in one file, each at its line."""
    text = TRIGGER + "  g:\n    get: remot\n    path: /x\n  h:\n    post: remote\n    pth: /x\n"
    found = faults(text + "  i: {decide: maybe}\n")
    lines = [int(fault.split(":")[1]) for fault in found]
    assert len(found) >= 1
    assert all(4 <= line <= 12 for line in lines), found


def test_yaml_surprises_do_not_change_keys() -> None:
    """YAML 1.2: `no`, `on` and octal stay what they look like."""
    text = HEAD + TRIGGER + "  on: {post: remote, path: /x, safe_to_repeat: no, body: {n: 010, yes: on}}\n"
    definitions, found = check_project([Source("c.cycle.yaml", text)])
    assert not found
    assert definitions["c"].steps["on"].body == {"n": 10, "yes": "on"}  # type: ignore[union-attr]  # A post.


def test_a_definition_survives_its_canonical_encoding() -> None:
    """What is journaled is what was read."""
    definitions, found = load_project([Source("o.cycle.yaml", ORDER)])
    assert not found
    packed = encode_definition(definitions["orders"])
    assert decode_definition(packed) == definitions["orders"]
    assert encode_definition(decode_definition(packed)) == packed


def test_an_alias_bomb_is_refused() -> None:
    """A small file can not become a large one."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for one, other in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{other}: &{other} [*{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}]\n"
    _, found = check_project([Source("c.cycle.yaml", bomb)])
    assert "can not be read" in str(found[0])


def test_the_schema_names_every_kind() -> None:
    """Made from the types that read the file."""
    schema = json_schema()
    steps = schema["properties"]["steps"]["additionalProperties"]["oneOf"]
    assert len(steps) == len(KINDS)
    required = {tuple(schema["$defs"][one["$ref"].rpartition("/")[2]]["required"]) for one in steps}
    assert required == {(kind,) for kind in KINDS}
    assert schema["$schema"].endswith("2020-12/schema")
