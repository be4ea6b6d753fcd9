"""Declared fields: contracts that requests and responses are read by (sections 3 and 4)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import canonical
from protocol.definition import FieldSpec, FieldType
from protocol.fields import Contract


def test_3_locations_with_lists_are_read_item_by_item() -> None:
    """`[lines].sku`, `a.[list].b` and `[].x`."""
    contract = Contract({"[lines].sku": "text", "a.[list].b": "integer"})
    data, faults = contract.read({"lines": [{"sku": 7, "other": 1}], "a": {"list": [{"b": "8"}, {}]}})
    assert not faults
    assert data == {"lines": [{"sku": "7"}], "a": {"list": [{"b": 8}, {"b": None}]}}
    assert Contract({"[].x": "text"}).read([{"x": "y"}])[0] == {"items": [{"x": "y"}]}


def test_every_fault_is_listed_with_its_place() -> None:
    """Not the first one alone."""
    contract = Contract({"n": "integer", "[lines].sku": "text", "when": "datetime"})
    _, faults = contract.read({"n": "x", "lines": [{"sku": []}, 4], "when": "soon"})
    assert [fault.where for fault in faults] == ["n", "lines[0].sku", "lines[1]", "when"]


@pytest.mark.parametrize(
    "body",
    [
        {"card": {"number": ["4111"]}},
        {"card": "4111"},
        {"pins": ["4111"]},
        {"pins": {"x": 4111}},
        {"people": "4111"},
        {"people": [{"tax": []}, "4111"]},
        {"vault": {"door": {"code": [4111]}}},
        "4111",
    ],
)
def test_the_value_of_a_sensitive_field_is_in_no_fault(body: Any) -> None:
    """Section 3: faults are answered, journaled and logged, and so they are read."""
    hidden = FieldSpec(type="integer", sensitive=True)
    contract = Contract(
        {
            "card.number": hidden,
            "[pins]": FieldSpec(type="datetime", sensitive=True),
            "[people].tax": hidden,
            "vault": FieldSpec(type="object", sensitive=True),
            "vault.door.code": "integer",
        }
    )
    _, faults = contract.read(body)
    assert faults
    assert not [fault for fault in faults if "4111" in fault.found]


def test_what_is_absent_is_null_so_that_paths_lead_somewhere() -> None:
    """Optional fields, with parents."""
    assert Contract({"order.total": "decimal"}).read({}) == ({"order": {"total": None}}, [])


def test_without_declared_fields_everything_is_accepted() -> None:
    """Section 4: no declared fields at all."""
    assert Contract({}).read({"x": 1}) == ({"x": 1}, [])
    assert Contract({}).read([1]) == ({"body": [1]}, [])


SAME: list[tuple[Any, Any, FieldType]] = [
    (42, "42", "integer"),
    ("4.20", 4.2, "decimal"),
    (1e2, "100", "decimal"),
    (True, "true", "boolean"),
    ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", "datetime"),
    (42, "42", "text"),
]


@pytest.mark.parametrize(("one", "other", "kind"), SAME)
def test_6_2_equal_values_have_one_canonical_text(one: Any, other: Any, kind: FieldType) -> None:
    """6.2: compared as canonical text of the declared type."""
    assert canonical(one, kind) == canonical(other, kind) is not None


@given(st.sampled_from([None, "", {}, []]), st.sampled_from(["text", "integer", "decimal", "boolean", "datetime"]))
def test_6_2_null_missing_and_empty_never_match(value: Any, kind: FieldType) -> None:
    """6.2: they have no canonical text."""
    assert canonical(value, kind) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_a_decimal_is_its_value_however_it_is_written(value: Any) -> None:
    """Trailing zeros and exponents say nothing."""
    assert canonical(str(value), "decimal") == canonical(f"{value:E}", "decimal") == canonical(f"{value}0", "decimal")
