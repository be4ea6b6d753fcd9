"""The features of the language, read from the types that read cycle files, and those that a project uses."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Struct, inspect

from protocol.conditions import CONDITIONS
from protocol.definition import KINDS, Condition, Connector, Definition, Settings, StepBase

YES_NO = ("no", "yes")  # Two spellings of one value.


def all_features() -> set[str]:
    """Every kind of step, every key of every section, every word that a key may have, and every condition."""
    found = {f"condition {name}" for name in CONDITIONS} | {f"step {name}" for name in KINDS}
    found |= {f"Definition.{one.encode_name}" for one in msgspec.structs.fields(Definition)}
    sections: list[type[Struct]] = [Connector, Settings, *KINDS.values()]
    for kind in sections:
        found |= set(_of_type(kind, set()))
    return found


def used_features(definitions: dict[str, Definition]) -> set[str]:
    """Those that some cycle uses: keys that are written, or whose value is not the default; words that are a value."""
    found: set[str] = set()
    for definition in definitions.values():
        keys = {one.encode_name: getattr(definition, one.name) for one in msgspec.structs.fields(Definition)}
        found |= {f"Definition.{key}" for key, said in keys.items() if said}
        found |= set(_of_value(list(keys.values())))
    return found


def _of_type(kind: type[Struct], seen: set[type]) -> Iterator[str]:
    if kind in seen:
        return
    seen.add(kind)
    for name, one in _fields(kind):
        yield _key(kind, name)
        for part in _parts(one.type):
            if isinstance(part, inspect.LiteralType):
                yield from _words(part)
            elif isinstance(part, inspect.StructType) and not issubclass(part.cls, StepBase):
                yield from _of_type(part.cls, seen)


def _of_value(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _of_value(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _of_value(item)
    if not isinstance(value, Struct):
        return
    kind = type(value)
    yield from (f"step {name}" for name, one in KINDS.items() if one is kind)
    for name, one in _fields(kind):
        said = getattr(value, one.name)
        if said is UNSET:
            continue
        if said != _default(one):
            yield _key(kind, name)
        if isinstance(value, Condition) and name == "is":
            yield f"condition {said}"
        words = {word for part in _parts(one.type) if isinstance(part, inspect.LiteralType) for word in _words(part)}
        leaves = said.values() if isinstance(said, dict) else said if isinstance(said, list) else [said]
        yield from (word for word in words if word.rpartition(" ")[2] in {str(leaf) for leaf in leaves})
        yield from _of_value(said)


def _fields(kind: type[Struct]) -> list[tuple[str, inspect.Field]]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [(one.encode_name, one) for one in info.fields]


def _default(one: inspect.Field) -> Any:
    return one.default_factory() if one.default_factory is not msgspec.NODEFAULT else one.default


def _parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    """A type and the types in it."""
    yield kind
    match kind:
        case inspect.UnionType(types=types):
            inner = list(types)
        case inspect.DictType(value_type=value):
            inner = [value]
        case inspect.ListType(item_type=item):
            inner = [item]
        case inspect.Metadata(type=one):
            inner = [one]
        case _:
            inner = []
    for one in inner:
        yield from _parts(one)


def _words(literal: inspect.LiteralType) -> Iterator[str]:
    if tuple(sorted(map(str, literal.values))) != YES_NO:
        group = "/".join(sorted(map(str, literal.values)))
        yield from (f"{group} {word}" for word in literal.values)


def _key(kind: type[Struct], name: str) -> str:
    """A key, named by the most general section that has it: what all steps may say counts once."""
    attribute = {one.encode_name: one.name for one in msgspec.structs.fields(kind)}[name]
    sections = [base for base in kind.__mro__ if issubclass(base, Struct) and base is not Struct]
    owner = [base for base in sections if attribute in base.__struct_fields__][-1]
    return f"{owner.__name__}.{name}"
