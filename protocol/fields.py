"""Declared custom fields: a contract that a request or a response is read by.

Locations are written as paths: `order.id`, `[lines].sku` (each item of the list `lines`), `a.[list].b`, and `[].x` for
a body that is itself a list, which is then found under the name `items`.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from protocol.canonical import TRUTHS, canonical, decimal_of, instant_of, plain
from protocol.definition import Fields, FieldSpec, FieldType

FOUND_MAX = 80  # Characters of a value shown with a fault; it may be anything of any size.
ROOT_LIST = "items"  # The name under which a body that is a list is found.
FAULTS_MAX = 100  # Faults listed for one request; a list of a million bad items has no more to say.

_LOCATION = re.compile(r"(?:\[[A-Za-z0-9_ -]*\]|[A-Za-z0-9_ -]+)(?:\.(?:\[[A-Za-z0-9_ -]+\]|[A-Za-z0-9_ -]+))*")


class Fault(Struct, frozen=True):
    """One way in which a request breaks its contract: where, which rule, and the value found."""

    where: str
    rule: str
    found: str


class _Node(Struct):
    """One level of the declared tree: a list when its name stood in brackets, a leaf when it has a field."""

    spec: FieldSpec | None = None
    is_list: bool = False
    children: "dict[str, _Node]" = {}


class BadValue(Exception):
    """A value does not fit its declared type; the rule says what does."""


def spec_of(field: FieldSpec | FieldType) -> FieldSpec:
    """A declaration, from its long or its short form."""
    return field if isinstance(field, FieldSpec) else FieldSpec(type=field)


def split_location(location: str) -> list[tuple[str, bool]]:
    """A location as (name, whether it is a list) pairs.

    Raises:
        ValueError: the location is not of the form above.
    """
    if not _LOCATION.fullmatch(location):
        raise ValueError(f"a location reads like order.id or [lines].sku, not {location!r}")
    return [(part[1:-1] or ROOT_LIST, True) if part.startswith("[") else (part, False) for part in location.split(".")]


def show(value: Any) -> str:
    """A value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= FOUND_MAX else text[: FOUND_MAX - 1] + "…"


class Contract:
    """The declared fields of one request or response, ready to read bodies."""

    def __init__(self, fields: Fields) -> None:
        self.declared = bool(fields)
        self._types: dict[str, FieldType] = {location: spec_of(field).type for location, field in fields.items()}
        self.sensitive = tuple(location for location, field in fields.items() if spec_of(field).sensitive)
        self._root = _Node()
        self._lists_root = any(location.startswith("[]") for location in fields)
        for location, field in fields.items():
            node = self._root
            for name, is_list in split_location(location):
                node = node.children.setdefault(name, _Node())
                node.is_list = node.is_list or is_list
            node.spec = spec_of(field)

    def type_at(self, location: str) -> FieldType:
        """The declared type at a location, `text` when nothing is declared there."""
        return self._types.get(location, "text")

    def read(self, body: Any) -> tuple[dict[str, Any], list[Fault]]:
        """The declared fields of a body, by type, and every fault.

        Without declared fields the whole body is given, under `body` when it is not an object. A field that is
        absent and not required is there with its default, or null, so that paths to it lead somewhere.
        """
        if not self.declared:
            return (dict(body) if isinstance(body, Mapping) else {"body": body}), []
        faults: list[Fault] = []
        if self._lists_root and isinstance(body, list):
            body = {ROOT_LIST: body}
        if body is not None and not isinstance(body, Mapping):
            faults.append(Fault("$", "the body must be an object", show(body)))
            body = None
        return _read_children(self._root, body or {}, "", faults), faults[:FAULTS_MAX]


def _read_children(node: _Node, value: Mapping[str, Any], where: str, faults: list[Fault]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, child in node.children.items():
        place = f"{where}.{name}" if where else name
        found[name] = _read_node(child, value.get(name), place, faults)
    return found


def _read_node(node: _Node, value: Any, where: str, faults: list[Fault]) -> Any:
    if node.spec is not None and not node.children:
        return _read_leaf(node.spec, value, where, faults, is_list=node.is_list)
    if node.spec is not None and node.spec.required and value is None:
        faults.append(Fault(where, "is required", "nothing"))
    if node.is_list:
        if value is None:
            return []
        if not isinstance(value, list):
            faults.append(Fault(where, "must be a list", show(value)))
            return []
        return [_read_item(node, item, f"{where}[{index}]", faults) for index, item in enumerate(value)]
    if value is not None and not isinstance(value, Mapping):
        faults.append(Fault(where, "must be an object", show(value)))
        value = None
    return _read_children(node, value or {}, where, faults)


def _read_item(node: _Node, item: Any, where: str, faults: list[Fault]) -> Any:
    if isinstance(item, Mapping):
        return _read_children(node, item, where, faults)
    faults.append(Fault(where, "must be an object", show(item)))
    return {}


def _read_leaf(spec: FieldSpec, value: Any, where: str, faults: list[Fault], *, is_list: bool) -> Any:
    if value is None or (value == "" and spec.required):
        if spec.default is not None:
            return spec.default
        if spec.required:
            faults.append(Fault(where, "is required", show(value) if value is not None else "nothing"))
        return value
    if is_list and not isinstance(value, list):
        faults.append(Fault(where, "must be a list", show(value)))
        return None
    try:
        return [coerce(item, spec.type) for item in value] if is_list else coerce(value, spec.type)
    except BadValue as rule:
        faults.append(Fault(where, str(rule), show(value)))
        return None


def coerce(value: Any, kind: FieldType) -> Any:
    """A value as its declared type keeps it: decimals and instants stay text, so nothing is lost in the journal.

    Raises:
        BadValue: the value does not fit.
    """
    match kind:
        case "text":
            text = canonical(value, "text") if value != "" else ""
            return _fits(text, "must be text")
        case "integer":
            text = canonical(value, "integer")
            if text is None or not -(2**63) <= int(text) < 2**63:
                raise BadValue("must be an integer of 64 bits")
            return int(text)
        case "decimal":
            number = decimal_of(value)
            return plain(_fits(number, "must be a decimal number"))
        case "float":
            return float(_fits(decimal_of(value), "must be a number"))
        case "boolean":
            return TRUTHS[_fits(canonical(value, "boolean"), "must be true or false")] == "true"
        case "datetime":
            _fits(instant_of(value), "must be an RFC 3339 date and time")
            return value
        case "object":
            return _fits(value if isinstance(value, Mapping) else None, "must be an object")
        case "list":
            return _fits(value if isinstance(value, list) else None, "must be a list")
        case _:
            return value


def _fits(value: Any, rule: str) -> Any:
    if value is None:
        raise BadValue(rule)
    return value
