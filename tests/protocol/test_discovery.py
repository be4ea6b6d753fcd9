"""Field discovery (section 4): what is found in a sample fits the sample, and can be pasted into a cycle file."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.bodies import FORM
from protocol.discovery import FIELDS_MAX, discover, discover_sample
from protocol.fields import Contract
from tests.protocol.story import Story, cycle


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({"order": {"id": 42, "total": 9.9}}, {"order.id": "integer", "order.total": "decimal"}),
        ({"paid": True, "note": "x", "gone": None}, {"paid": "boolean", "note": "text", "gone": "any"}),
        ({"at": "2026-01-01T12:00:00Z", "day": "2026-01-01"}, {"at": "datetime", "day": "datetime"}),
        ({"code": "0042", "number": "42"}, {"code": "text", "number": "text"}),
        ({"lines": [{"sku": "a", "n": 1}, {"n": 1.5}]}, {"[lines].sku": "text", "[lines].n": "decimal"}),
        ({"tags": ["a", None]}, {"[tags]": "text"}),
        ({"a": {"list": [{"b": {"c": 1}}]}}, {"a.[list].b.c": "integer"}),
        ({"grid": [[1]], "none": [], "mixed": [1, {}]}, {"grid": "list", "none": "list", "mixed": "list"}),
        ({"empty": {}, "odd": [{}, None]}, {"empty": "object", "[odd]": "any"}),
        ({"n": [1, "a"], "t": ["a", "2026-01-01"], "b": [True, 1]}, {"[n]": "any", "[t]": "text", "[b]": "any"}),
        ([{"x": 1}, {"y": "b"}], {"[].x": "integer", "[].y": "text"}),
        ([1, 2], {"[]": "integer"}),
        ([], {"[]": "any"}),
        ({"big": 1e200}, {"big": "any"}),
        ("text", {}),
        (None, {}),
    ],
    ids=repr,
)  # fmt: skip
def test_4_fields_are_discovered_in_a_body(value: Any, fields: dict[str, str]) -> None:
    """Section 4: by location and type; text that looks like a number stays text."""
    assert discover(value).fields == fields


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("42", "integer"), ("-7", "integer"), ("0", "integer"), ("007", "text"), ("+1", "text"), ("-0", "text"),
        ("9.90", "decimal"), ("09.9", "text"), ("1e5", "text"), ("true", "boolean"), ("True", "text"), ("", "text"),
        ("2026-01-01T12:00:00Z", "datetime"), ("1234567890123456789", "text"), ("a", "text"),
    ],
)  # fmt: skip
def test_4_where_all_is_text_a_type_is_read_from_what_stays_the_same(text: str, kind: str) -> None:
    """Section 4: forms and XML write everything as text."""
    assert discover({"n": text}, texts=True).fields == {"n": kind}


@pytest.mark.parametrize(
    ("body", "content_type", "fields"),
    [
        (b"id=42&tags=a&tags=b&code=007", FORM, {"id": "integer", "[tags]": "text", "code": "text"}),
        (b"<o><id>7</id><line>1</line><line>x</line></o>", "text/xml", {"o.id": "integer", "o.[line]": "text"}),
        (b"42", "text/plain", {"text": "text"}),
        (b'{"id": "42"}', "application/json", {"id": "text"}),
    ],
)  # fmt: skip
def test_4_fields_are_discovered_in_every_kind_of_body(body: bytes, content_type: str, fields: dict[str, str]) -> None:
    """Section 4: read as a webhook reads it."""
    assert discover_sample(body, content_type).fields == fields


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    | st.sampled_from(["", "42", "9.90", "true", "2026-01-01"])
)
NAMES = st.text("ab_- 1", min_size=1, max_size=4) | st.sampled_from(["@id", "a.b", "ü", "items", "true"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))


def as_text(value: Any) -> Any:
    """A value as a form or XML has it: nothing but text below maps and lists."""
    if isinstance(value, dict):
        return {name: as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return None if value is None else value if isinstance(value, str) else str(value).lower()


@pytest.mark.parametrize("texts", [False, True], ids=["json", "texts"])
@example(value={"n": ["1", ""]})
@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(NAMES, VALUES, max_size=5) | st.lists(VALUES, max_size=5))
def test_4_a_contract_of_the_discovered_fields_reads_the_sample(value: Any, texts: bool) -> None:
    """Rule 1, whatever the sample; and the text to paste declares the very same fields."""
    sample = as_text(value) if texts else value
    found = discover(sample, texts=texts)
    contract = Contract(dict(found.fields))
    assert contract.read(sample)[1] == []
    assert contract.read(sample, repeats=texts)[1] == []
    step = "  t:\n    webhook: shop\n" + "".join(f"    {line}\n" for line in found.yaml.splitlines())
    story = Story(cycle(step + "  d: {delay: 1 minute}\n"))
    plan = story.state.program("hash-c").webhook("t")
    assert {where: getattr(spec, "type", spec) for where, spec in plan.step.fields.items()} == found.fields


def test_4_names_that_no_location_can_hold_are_said() -> None:
    """Section 4: attributes of XML, say; in the text as a comment, however they are written."""
    found = discover({"order": {"@id": "7", "x\n": 1, "id": 1}, "@id": 1})
    assert (found.fields, found.left_out) == ({"order.id": "integer"}, ["@id", "x\n"])
    assert found.yaml == 'fields:\n  order.id: integer\n# no location can name "@id"\n# no location can name "x\\n"\n'
    assert discover({}).yaml == "fields: {}\n"


def test_4_no_more_fields_are_discovered_than_a_person_can_use() -> None:
    """A bound on what is shown, whatever the sample."""
    many = msgspec.json.decode(msgspec.json.encode({f"f{number}": {"@": 1} for number in range(FIELDS_MAX + 9)}))
    assert len(discover(many).fields) == FIELDS_MAX
