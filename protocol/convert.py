"""Plain data as Structs, with every fault at once.

msgspec stops at the first fault it meets. A person who writes a file wants all of them, so each field is converted
by msgspec on its own and its fault collected; types, patterns and bounds stay where they are declared.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from protocol.conditions import CONDITIONS
from protocol.definition import Condition, Connector, FieldSpec, StepBase
from protocol.fields import show

_ELSEWHERE: list[tuple[type[Struct], str, str]] = [
    (Connector, "auth", 'headers: {authorization: "Bearer {{ env.TOKEN }}"}'),
    (StepBase, "retry", "on_error: {retry: [1 second, …]}"),
    (StepBase, "retries", "on_error: {retry: [1 second, …]}"),
    (StepBase, "when", "a step of its own before this one: decide: …"),
    (StepBase, "if", "a step of its own before this one: decide: …"),
]  # Words of other tools, and ours for the same.
_WORDS = {str: "text", int: "a whole number", float: "a number"}


class ShapeFault(Struct, frozen=True):
    """A fault of a value's shape: the keys that lead to it, the rule, what was found, and the nearest valid name."""

    path: tuple[str, ...]
    rule: str
    found: str
    nearest: str = ""


def convert_struct(data: Any, kind: type[Any], path: tuple[str, ...]) -> tuple[Any, list[ShapeFault]]:
    """Read a mapping as a Struct type.

    Returns:
        The Struct of the keys that have no fault, None when one that it needs is not among them; and the faults.
    """
    if not isinstance(data, dict):
        return None, [ShapeFault(path, "must be a mapping", show(data))]
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    faults: list[ShapeFault] = []
    values: dict[str, Any] = {}
    for key, value in data.items():
        field = fields.get(str(key))
        if field is None:
            faults.append(_unknown_key(str(key), kind, list(fields), path))
            continue
        read, found = convert_value(value, hints[field.name], (*path, str(key)))
        faults += found
        if not found:
            values[field.name] = read
    needed = {key: field.name in values for key, field in fields.items() if field.required}
    faults += [ShapeFault(path, f"needs the key {key}", "nothing") for key in needed if key not in data]
    return kind(**values) if all(needed.values()) else None, faults


def _unknown_key(key: str, kind: type[Any], known: list[str], path: tuple[str, ...]) -> ShapeFault:
    if kind is Condition and key in CONDITIONS:
        return ShapeFault((*path, key), f"is written as is: {key}, right: …", key)
    for section, word, written in _ELSEWHERE:
        if issubclass(kind, section) and key == word:
            return ShapeFault((*path, key), f"is written as {written}", key)
    near = get_close_matches(key, known, 1)
    return ShapeFault((*path, key), "is no key here", key, near[0] if near else "")


def convert_value(value: Any, hint: Any, path: tuple[str, ...]) -> tuple[Any, list[ShapeFault]]:
    """Read one value by its annotation; Structs, and maps of Structs, fault by fault."""
    struct = _struct_in(hint)
    if struct is not None and isinstance(value, dict):
        return convert_struct(value, struct, path)
    arguments = get_args(hint)
    if getattr(hint, "__origin__", None) is dict and isinstance(value, dict) and len(arguments) == 2:
        found: dict[str, Any] = {}
        faults: list[ShapeFault] = []
        for key, item in value.items():
            found[str(key)], more = convert_value(item, arguments[1], (*path, str(key)))
            faults += more
        return found, faults
    try:
        return msgspec.convert(value, hint), []
    except msgspec.ValidationError as fault:
        words = [word for part in _parts(hint) for word in get_args(part) if get_origin(part) is Literal]
        near = get_close_matches(value, words, 1) if isinstance(value, str) else []
        return None, [ShapeFault(path, _rule(fault, hint), _found(path, value), near[0] if near else "")]


def _rule(fault: msgspec.ValidationError, hint: Any) -> str:
    """What a value must be, in words: nobody should have to read a pattern, or to look up what is valid."""
    rule = str(fault).split(" - at ")[0]
    told = _allowed(hint)
    if told and ("matching regex" in rule or ", got `" in rule or "enum value" in rule):
        return f"must be {told}"
    return f"must be {rule.removeprefix('Expected ').replace('`str`', 'text').replace('`array`', 'a list')}"


def _allowed(hint: Any) -> str:
    """Everything that an annotation lets stand, in words; "" when that says no more than msgspec does."""
    parts = list(_parts(hint))
    words = [str(word) for part in parts if get_origin(part) is Literal for word in get_args(part)]
    words += ["true", "false"] if bool in parts else []
    told = [f"one of {', '.join(words)}"] if words else []
    for part in parts:
        arguments = get_args(part)
        if get_origin(part) is Annotated:
            told += [f"written as {meta.description}" for meta in _metas(part) if meta.description] or [
                word for word in [_allowed(arguments[0])] if word
            ]
        elif isinstance(part, type) and issubclass(part, Struct):
            told.append(f"a mapping of {', '.join(field.encode_name for field in msgspec.structs.fields(part))}")
        elif get_origin(part) is dict:
            told.append("a mapping")
        elif get_origin(part) is list:
            told.append(_list_of(arguments[0]))
        elif part in _WORDS:
            told.append(_WORDS[part])
    return ", or ".join(told)


def _list_of(item: Any) -> str:
    """A list, and what stands in it where that is soon said."""
    inner = _allowed(item)
    if get_origin(item) is Literal:
        return f"a list of {inner.removeprefix('one of ')}"
    return f"a list, each as {inner.removeprefix('written as ')}" if inner.startswith("written as ") else "a list"


def _metas(hint: Any) -> list[Meta]:
    return [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]


def _parts(hint: Any) -> Iterator[Any]:
    """The members of a union, or the annotation alone; that a key may be left out is no member."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    yield from (member for member in members if member not in (msgspec.UnsetType, type(None)))


def _found(path: tuple[str, ...], value: Any) -> str:
    """The value found; of a secret that was written into the file, only that it is there."""
    return "a secret in the file" if {"secret", "secrets"} & set(path[2:]) else show(value)


def _struct_in(hint: Any) -> type[Struct] | None:
    """The one Struct type of an annotation, alone or in a union."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    for part in get_args(hint):
        if isinstance(part, type) and issubclass(part, Struct) and (part is FieldSpec or len(get_args(hint)) > 1):
            return part
    return None
