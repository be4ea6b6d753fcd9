"""Declared custom fields: a contract that a request or a response is read by.

Locations are written as paths: `order.id`, `[lines].sku` (each item of the list `lines`), `a.[list].b`, and `[].x` for
a body that is itself a list, which is then found under the name `items`. A contract is compiled to one reader per
declared level, since every hit pays for it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from protocol.canonical import TRUTHS, canonical, decimal_of, instant_of, plain
from protocol.definition import Fields, FieldSpec, FieldType

FOUND_MAX = 80  # Characters of a value shown with a fault; it may be anything of any size.
ROOT_LIST = "items"  # The name under which a body that is a list is found.
HIDDEN = "a value that is not shown"  # In place of a sensitive value: messages are journaled, logged and answered.
FAULTS_MAX = 100  # Faults listed for one request; a list of a million bad items has no more to say.
INTEGER_MAX = 2**63 - 1

_LOCATION = re.compile(r"(?:\[[A-Za-z0-9_ -]*\]|[A-Za-z0-9_ -]+)(?:\.(?:\[[A-Za-z0-9_ -]+\]|[A-Za-z0-9_ -]+))*")


class Fault(Struct, frozen=True):
    """One way in which a request breaks its contract: where, which rule, and the value found."""

    where: str
    rule: str
    found: str


class Node(Struct):
    """One level of the declared tree: a list when its name stood in brackets, a leaf when it has no children."""

    spec: FieldSpec | None = None
    is_list: bool = False
    children: "dict[str, Node]" = field(default_factory=dict)


class BadValue(Exception):
    """A value does not fit its declared type; the rule says what does."""


Reader = Callable[[Any, str, list[Fault]], Any]
"""Reads the value at a place, adding what is wrong to the faults."""


def spec_of(declared: FieldSpec | FieldType) -> FieldSpec:
    """A declaration, from its long or its short form."""
    return declared if isinstance(declared, FieldSpec) else FieldSpec(type=declared)


def split_location(location: str) -> list[tuple[str, bool]]:
    """A location as (name, whether it is a list) pairs.

    Raises:
        ValueError: the location is not of the form above.
    """
    if not _LOCATION.fullmatch(location):
        raise ValueError(f"a location reads like order.id or [lines].sku, not {location!r}")
    return [(part[1:-1] or ROOT_LIST, True) if part.startswith("[") else (part, False) for part in location.split(".")]


def path_of(location: str) -> tuple[str, ...]:
    """The names that lead to a location which no list is on the way to; raises `ValueError` for any other."""
    parts = split_location(location)
    if any(is_list for _, is_list in parts):
        raise ValueError(f"a request is known by one value, not by a list such as {location}")
    return tuple(name for name, _ in parts)


def field_tree(fields: Fields) -> Node:
    """The declared fields as a tree; raises `ValueError` for a location that is none."""
    root = Node()
    for location, declared in fields.items():
        node = root
        for name, is_list in split_location(location):
            node = node.children.setdefault(name, Node())
            node.is_list = node.is_list or is_list
        node.spec = spec_of(declared)
    return root


def show(value: Any) -> str:
    """A value, short enough for a message."""
    text = repr(value[:FOUND_MAX] if isinstance(value, str) else value)
    return text if len(text) <= FOUND_MAX else text[: FOUND_MAX - 1] + "…"


def _shower(node: Node, *, within: bool) -> Callable[[Any], str]:
    """How a value is shown with its fault: not at all where it is, holds, or lies within, something sensitive."""
    return (lambda _: HIDDEN) if within or _holds_sensitive(node) else show


def _holds_sensitive(node: Node) -> bool:
    own = node.spec is not None and node.spec.sensitive
    return own or any(_holds_sensitive(child) for child in node.children.values())


class Contract:
    """The declared fields of one request or response, ready to read bodies.

    Attributes:
        declared: whether anything is declared; if not, any body is taken as it is.
        sensitive: the locations of fields that are masked whenever they are read.
        has_lists: whether some field is, or stands in, a list.
    """

    def __init__(self, fields: Fields) -> None:
        self.declared = bool(fields)
        self.sensitive = tuple(location for location, declared in fields.items() if spec_of(declared).sensitive)
        self._types: dict[str, FieldType] = {location: spec_of(declared).type for location, declared in fields.items()}
        self._tree = field_tree(fields)
        self.has_lists = any("[" in location or kind == "list" for location, kind in self._types.items())
        self._read_root = _object_reader(self._tree, "the body must be an object", within=False)
        self._lists_root = any(location.startswith("[]") for location in fields)

    def type_at(self, location: str) -> FieldType:
        """The declared type at a location, `text` when nothing is declared there."""
        return self._types.get(location, "text")

    def read(self, body: Any, *, repeats: bool = False) -> tuple[dict[str, Any], list[Fault]]:
        """The declared fields of a body, by type, and every fault, at most `FAULTS_MAX` of them.

        Without declared fields the whole body is given, under `body` when it is not an object. A field that is
        absent and not required is there with its default, or null, so that paths to it lead somewhere. Empty text,
        which forms send for what was left blank, is absent unless the field is text.

        Args:
            body: as it was read.
            repeats: whether its format writes a list by repeating its name: a list may then be one value.
        """
        if not self.declared:
            return (dict(body) if isinstance(body, Mapping) else {"body": body}), []
        if self._lists_root and isinstance(body, list):
            body = {ROOT_LIST: body}
        if repeats and self.has_lists:
            body = _with_lists(self._tree, body)
        faults: list[Fault] = []
        return self._read_root(body, "", faults), faults


def _with_lists(node: Node, value: Any) -> Any:
    """A copy of a value in which each declared list that was written as one value is a list of it."""
    is_list = node.is_list or (not node.children and node.spec is not None and node.spec.type == "list")
    if is_list and value is not None and value != "":
        return [_with_items(node, item) for item in (value if isinstance(value, list) else [value])]
    return _with_items(node, value)


def _with_items(node: Node, value: Any) -> Any:
    if not node.children or not isinstance(value, Mapping):
        return value
    below = {name: _with_lists(child, value[name]) for name, child in node.children.items() if name in value}
    return {**value, **below}


def _fault(faults: list[Fault], where: str, rule: str, found: str) -> None:
    if len(faults) < FAULTS_MAX:
        faults.append(Fault(where or "$", rule, found))


def _reader(node: Node, *, within: bool) -> Reader:
    """Reads what is declared at a node; `within` says that it lies in something sensitive."""
    spec = node.spec or FieldSpec()
    within = within or spec.sensitive
    if not node.children:
        shown = _shower(node, within=within)
        return _list_leaf_reader(spec, shown) if node.is_list else _leaf_reader(spec, shown)
    if node.is_list:
        return _list_reader(node, within=within)
    read = _object_reader(node, "must be an object", within=within)
    if not spec.required:
        return read

    def read_required(value: Any, where: str, faults: list[Fault]) -> Any:
        if value is None:
            _fault(faults, where, "is required", "nothing")
        return read(value, where, faults)

    return read_required


def _object_reader(node: Node, rule: str, *, within: bool) -> Reader:
    """Reads the declared fields of an object; an absent one counts as empty, so each required field is a fault."""
    readers = [(name, _reader(child, within=within)) for name, child in node.children.items()]
    shown = _shower(node, within=within)

    def read(value: Any, where: str, faults: list[Fault]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            if value is not None:
                _fault(faults, where, rule, shown(value))
            value = {}
        prefix = f"{where}." if where else ""
        return {name: read_child(value.get(name), prefix + name, faults) for name, read_child in readers}

    return read


def _list_reader(node: Node, *, within: bool) -> Reader:
    """Reads a list of objects; one that is absent is a fault when it, or a field of its items, is required."""
    required = (node.spec is not None and node.spec.required) or _requires(node)
    read_item = _object_reader(node, "must be an object", within=within)
    shown = _shower(node, within=within)

    def read(value: Any, where: str, faults: list[Fault]) -> list[Any]:
        if isinstance(value, list):
            return [
                read_item({} if item is None else item, f"{where}[{index}]", faults) for index, item in enumerate(value)
            ]
        if value is not None:
            _fault(faults, where, "must be a list", shown(value))
        elif required:
            _fault(faults, where, "is required", "nothing")
        return []

    return read


def _requires(node: Node) -> bool:
    return any((child.spec is not None and child.spec.required) or _requires(child) for child in node.children.values())


def _leaf_reader(spec: FieldSpec, shown: Callable[[Any], str]) -> Reader:
    convert = _COERCE[spec.type]
    keeps_empty = spec.type in ("text", "any") and not spec.required

    def read(value: Any, where: str, faults: list[Fault]) -> Any:
        if value is None or (value == "" and not keeps_empty):
            return _absent(spec, value, where, faults)
        try:
            return convert(value)
        except BadValue as rule:
            _fault(faults, where, str(rule), shown(value))
            return None

    return read


def _list_leaf_reader(spec: FieldSpec, shown: Callable[[Any], str]) -> Reader:
    """Reads a list of plain values, such as `[tags]`."""
    convert = _COERCE[spec.type]

    def read(value: Any, where: str, faults: list[Fault]) -> Any:
        if value is None or value == "":
            return _absent(spec, value, where, faults)
        if not isinstance(value, list):
            _fault(faults, where, "must be a list", shown(value))
            return None
        items: list[Any] = []
        for index, item in enumerate(value):
            try:
                items.append(None if item is None else convert(item))
            except BadValue as rule:
                _fault(faults, f"{where}[{index}]", str(rule), shown(item))
        return items

    return read


def _absent(spec: FieldSpec, value: Any, where: str, faults: list[Fault]) -> Any:
    if spec.required and spec.default is None:
        _fault(faults, where, "is required", "nothing" if value is None else show(value))
    return spec.default


def coerce(value: Any, kind: FieldType) -> Any:
    """A value as its declared type keeps it: decimals and instants stay text, so nothing is lost in the journal.

    Raises:
        BadValue: the value does not fit.
    """
    return _COERCE[kind](value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(_fits(canonical(value, "text"), "must be text"))


def _integer(value: Any) -> int:
    if type(value) is int and -INTEGER_MAX <= value <= INTEGER_MAX:
        return value
    text = canonical(value, "integer")
    if text is None or not -INTEGER_MAX - 1 <= int(text) <= INTEGER_MAX:
        raise BadValue("must be an integer of 64 bits")
    return int(text)


def _decimal(value: Any) -> str:
    return plain(_fits(decimal_of(value), "must be a decimal number"))


def _float(value: Any) -> float:
    return float(_fits(decimal_of(value), "must be a number"))


def _boolean(value: Any) -> bool:
    return TRUTHS[_fits(canonical(value, "boolean"), "must be true or false")] == "true"


def _datetime(value: Any) -> str:
    _fits(instant_of(value), "must be an RFC 3339 date and time")
    return str(value)


def _object(value: Any) -> Any:
    return _fits(value if isinstance(value, Mapping) else None, "must be an object")


def _list(value: Any) -> Any:
    return _fits(value if isinstance(value, list) else None, "must be a list")


_COERCE: dict[FieldType, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "decimal": _decimal,
    "float": _float,
    "boolean": _boolean,
    "datetime": _datetime,
    "object": _object,
    "list": _list,
    "any": lambda value: value,
}


def _fits(value: Any, rule: str) -> Any:
    if value is None:
        raise BadValue(rule)
    return value
