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
    ("  t: {webhook: shop, dedupe: {field: id.x}, fields: {id: text}}\n", "id.x (did you mean id?)"),
    ("  t: {webhook: shop, dedupe: {field: e.i}, fields: {e: object, e.id: text}}\n", "e.i (did you mean e.id?)"),
    ("  t: {webhook: shop, dedupe: {field: e}, fields: {e: object, e.id: text}}\n", "names an object, found e"),
    (TRIGGER + "  w: {webhook: shop, fields: {job: integer}, match: {job.id: t.id}}\n", "job.id (did you mean job?)"),
    (TRIGGER + "  w: {webhook: shop, fields: {job: list}, match: {job: t.id}}\n", "names a list, found job"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_2_each_rule_is_reported(text: str, expected: str) -> None:
    """The rule, the value found and the nearest valid name."""
    found = faults(text)
    assert any(expected in fault for fault in found), found


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ("{}", "anything"),
        ("{job: integer}", "job"),
        ("{job: object}", "job.id.part"),
        ("{job: any}", "job.id"),
        ("{job: any}", "job"),
        ("{job.id: text}", "job.id"),
    ],
)
def test_a_location_that_is_declared_or_lies_in_what_is_declared_as_a_whole_is_no_fault(
    fields: str, location: str
) -> None:
    """Sections 4 and 6: and a step that declares nothing takes anything."""
    step = f"{{webhook: shop, fields: {fields}, match: {{{location}: t.id}}, dedupe: {{field: {location}}}}}"
    assert not faults(TRIGGER + f"  w: {step}\n")


def test_2_all_faults_come_at_once_with_their_lines() -> None:
    """Three faults in one file, each at its line."""
    text = TRIGGER + "  g:\n    get: remot\n    path: /x\n  h:\n    post: remote\n    pth: /x\n"
    found = faults(text + "  i: {decide: maybe}\n")
    assert [(int(fault.split(":")[1]), fault.split(": ", 2)[1]) for fault in found] == [
        (6, "step g"),
        (10, "step h"),
        (11, "step i"),
    ]


def test_2_yaml_surprises_do_not_change_keys() -> None:
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


def test_2_the_schema_names_every_kind_of_step() -> None:
    """Made from the types that read the file."""
    schema = json_schema()
    steps = schema["properties"]["steps"]["additionalProperties"]["oneOf"]
    assert len(steps) == len(KINDS)
    required = {tuple(schema["$defs"][one["$ref"].rpartition("/")[2]]["required"]) for one in steps}
    assert required == {(kind,) for kind in KINDS}
    assert schema["$schema"].endswith("2020-12/schema")


BROKEN = """cycle: broken
connectors:
  shop: {}
  remote: {base_url: 5}
steps:
  t:
    webhook: shop
    fields: {id: txt}
  book:
    post: remote
    pth: /x
  call:
    post: remot
    path: "/{{ book.id }}/{{ bok.id }}"
    timeout: 5 parsecs
  choose:
    decide: t.id
    cases: {a: boook, b: book}
    default: end
  linked:
    post: shop
    url: cycle:links/inn
"""
LINKS = """cycle: links
connectors: {shop: {}}
steps:
  inner: {webhook: shop, filds: {}}
  other: {post: shop, url: "cycle:broken/t"}
  third: {post: shop, url: "cycle:brokn/t"}
  fourth: {post: shop, url: "cycle:broken/call"}
"""


def test_2_a_fault_hides_no_other_and_makes_none_up() -> None:
    """Section 2: all faults of all files at once, whatever else is wrong in the same step, step next to it or file."""
    _, found = check_project([Source("broken.cycle.yaml", BROKEN), Source("links.cycle.yaml", LINKS)])
    told = [(fault.file.partition(".")[0], fault.line, fault.step, fault.nearest) for fault in found]
    assert told == [
        ("broken", 4, "", ""),
        ("broken", 8, "t", "text"),
        ("broken", 11, "book", "path"),
        ("broken", 13, "call", "remote"),
        ("broken", 14, "call", ""),
        ("broken", 15, "call", ""),
        ("broken", 18, "choose", "book"),
        ("broken", 22, "linked", "inner"),
        ("links", 4, "inner", "fields"),
        ("links", 6, "third", "broken"),
        ("links", 7, "fourth", ""),
    ]
    assert "did you mean book?" in found[4].rule


@pytest.mark.parametrize("name", ["other.cycle.yaml", "connectors.yaml"])
def test_what_a_file_that_can_not_be_read_may_hold_is_not_missed_elsewhere(name: str) -> None:
    """Its one fault is told; that its cycle or its connectors are not there is no fault of who names them."""
    text = "cycle: c\nsteps:\n" + TRIGGER + "  g: {post: shop, url: 'cycle:other/x'}\n"
    _, found = check_project([Source("c.cycle.yaml", text), Source(name, "a: [\n")])
    assert [(fault.file, "is not YAML" in fault.rule) for fault in found if fault.file == name] == [(name, True)]
    rules = " ".join(fault.rule for fault in found)
    told = ("links to no cycle" in rules, "names no connector" in rules)
    assert told == ((True, False) if name == "connectors.yaml" else (False, True))


def test_a_second_cycle_of_a_name_is_checked_as_well() -> None:
    """Its own faults come beside the fault of its name."""
    second = HEAD + TRIGGER + "  g: {get: remot, path: /x}\n"
    first = HEAD + TRIGGER + "  g: {get: remote, path: /x}\n"
    _, found = check_project([Source("a.cycle.yaml", first), Source("b.cycle.yaml", second)])
    assert [(fault.file, fault.line) for fault in found] == [("b.cycle.yaml", 1), ("b.cycle.yaml", 5)]


CONNECTORS = """remote:
  base_url: http://x
  timeout: 5 parsecs
  get: {fields: {"a..b": text}}
shop: {}
"""


@pytest.mark.parametrize("head", ["", "connectors:\n"])
def test_a_fault_of_a_shared_connector_is_told_once_where_it_stands(head: str) -> None:
    """Not in each file, and for each step, that uses it."""
    text = "cycle: c\nsteps:\n" + TRIGGER + "  g: {get: remote, path: /x}\n  h: {get: remote, path: /y}\n"
    shared = head + ("".join(f"  {line}\n" for line in CONNECTORS.splitlines()) if head else CONNECTORS)
    _, found = check_project([Source("c.cycle.yaml", text), Source("connectors.yaml", shared)])
    lines = 1 if head else 0
    assert [(fault.file, fault.line) for fault in found] == [
        ("connectors.yaml", 3 + lines),
        ("connectors.yaml", 4 + lines),
    ], [str(fault) for fault in found]


@pytest.mark.parametrize("rate", ["5/day", "0/second", "fast", "1.5/second", "10/seconds"])
def test_7_a_rate_is_so_many_in_a_unit(rate: str) -> None:
    """Section 7: calls in any second, minute or hour; whatever else is said at its line."""
    text = HEAD.replace("shop: {}", f"shop: {{rate: {rate}}}") + TRIGGER + "  g: {get: remote, path: /x}\n"
    (fault,) = check_project([Source("c.cycle.yaml", text)])[1]
    assert "connectors.shop.rate must be written as e.g. 10/second" in str(fault)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("cycle:d/t", "links to no cycle of this project"),
        ("cycle:c/g", "links to no webhook of c"),
        ("cycle:c/t", "c/t requires id"),
        ("ops@example.com", "must be written as https://… or cycle:NAME/step"),
    ],
)
def test_10_alerts_go_to_a_place_that_there_is(url: str, said: str) -> None:
    """Section 10: a link is checked like that of a step, and needs what an alert has."""
    text = HEAD.replace("steps:", f"settings: {{alerts: {{url: '{url}'}}}}\nsteps:") + TRIGGER
    (fault,) = check_project([Source("c.cycle.yaml", text + "  g: {get: remote, path: /x}\n")])[1]
    assert said in str(fault)
    assert "settings.alerts" in str(fault)
