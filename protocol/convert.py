"""Plain data as Structs, with every fault at once.

msgspec stops at the first fault it meets. A person who writes a file wants all of them, so each field is converted
by msgspec on its own and its fault collected; types, patterns and bounds stay where they are declared.
"""

from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

from protocol.definition import FieldSpec
from protocol.fields import show


class ShapeFault(Struct, frozen=True):
    """A fault of a value's shape: the keys that lead to it, the rule, what was found, and the nearest valid name."""

    path: tuple[str, ...]
    rule: str
    found: str
    nearest: str = ""


def convert_struct(data: Any, kind: type[Any], path: tuple[str, ...]) -> tuple[Any, list[ShapeFault]]:
    """Read a mapping as a Struct type.

    Returns:
        The Struct, or None when it has faults, and the faults.
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
            near = get_close_matches(str(key), list(fields), 1)
            faults.append(ShapeFault((*path, str(key)), "is no key here", str(key), near[0] if near else ""))
            continue
        values[field.name], found = convert_value(value, hints[field.name], (*path, str(key)))
        faults += found
    for key, field in fields.items():
        if field.required and key not in data:
            faults.append(ShapeFault(path, f"needs the key {key}", "nothing"))
    return (None, faults) if faults else (kind(**values), [])


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
        return None, [ShapeFault(path, _rule(fault, hint), _found(path, value))]


def _rule(fault: msgspec.ValidationError, hint: Any) -> str:
    """What a value must be, in words where its type has them: nobody should have to read a pattern."""
    rule = str(fault).split(" - at ")[0]
    if "matching regex" in rule:
        for part in (hint, *get_args(hint)):
            for meta in get_args(part):
                if isinstance(meta, msgspec.Meta) and meta.description:
                    return f"must be written as {meta.description}"
    return rule[0].lower() + rule[1:]


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
