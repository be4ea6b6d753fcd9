"""Field discovery (section 4): the fields that a request, or a sample of one, would declare.

1. What is found fits what it was found in: a contract of these fields reads the sample without a fault.
2. Text stays text, since `"0042"` is no number. Only where a format has nothing else (forms, XML, queries) is a type
   read from it, and only when reading and writing it changes no character.
3. Whether a field is required can not be seen in one sample, so nothing is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from protocol.admission import Incoming, event_of, repeats
from protocol.bodies import FORM, read_body, repeats_names
from protocol.canonical import decimal_of, instant_of
from protocol.definition import FieldType

FIELDS_MAX = 500  # Of one sample; nobody maps more, and a list of what else there is would help nobody.
LEFT_OUT_MAX = 20  # Names shown that no location can hold.
SAMPLE_TYPES = {
    ".json": "application/json",
    ".form": FORM,
    ".xml": "application/xml",
    ".txt": "text/plain",
}
"""The ending of a sample's name → its content type."""

_NAME = re.compile(r"[A-Za-z0-9_ -]+")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})  # No text to some reader of YAML.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")

Parts = tuple[tuple[str, bool], ...]


class Discovery(Struct, frozen=True):
    """The fields of a sample by location, and the names in it that no location can hold."""

    fields: dict[str, FieldType]
    left_out: list[str]

    @property
    def yaml(self) -> str:
        """The fields as a cycle file declares them, to be pasted into a step."""
        lines = [f"  {_key(location)}: {kind}" for location, kind in self.fields.items()]
        lines = ["fields:", *lines] if lines else ["fields: {}"]
        lines += [f"# no location can name {msgspec.json.encode(name).decode()}" for name in self.left_out]
        return "\n".join(lines) + "\n"


def discover_sample(body: bytes, content_type: str) -> Discovery:
    """The fields of a body; raises `BodyError` when it is not what its type says."""
    return discover(read_body(body, content_type), texts=repeats_names(content_type))


def discover_request(request: Incoming) -> Discovery:
    """The fields of a request; raises `BodyError` when its body can not be read."""
    value, _ = event_of(request)
    content_type = request.headers.get("content-type", "")
    return discover(value, texts=repeats(request.method, content_type))


def discover(value: Any, *, texts: bool = False) -> Discovery:
    """The fields of a value.

    Args:
        value: as it was read from a body.
        texts: whether its format has nothing but text, so that types are read from that.
    """
    found = Discovery({}, [])
    if isinstance(value, Mapping):
        _object(found, [value], (), texts=texts)
    elif isinstance(value, list):
        _list(found, [value], (("", False),), texts=texts)
    return found


def _key(location: str) -> str:
    bare = _BARE.fullmatch(location) and location.lower() not in _WORDS
    return location if bare else msgspec.json.encode(location).decode()


def _place(found: Discovery, samples: Sequence[Any], parts: Parts, *, texts: bool) -> None:
    """What stands at one place, of which a list may give many samples."""
    there = [one for one in samples if one is not None]
    if there and all(isinstance(one, Mapping) for one in there):
        _object(found, there, parts, texts=texts)
    elif there and all(isinstance(one, list) for one in there):
        _list(found, there, parts, texts=texts)
    else:
        _declare(found, parts, _kind(there, texts=texts))


def _object(found: Discovery, samples: Sequence[Mapping[str, Any]], parts: Parts, *, texts: bool) -> None:
    names = list(dict.fromkeys(name for one in samples for name in one))
    for name in names:
        if _NAME.fullmatch(name):
            below = [one[name] for one in samples if name in one]
            _place(found, below, (*parts, (name, False)), texts=texts)
        elif len(found.left_out) < LEFT_OUT_MAX and name not in found.left_out:
            found.left_out.append(name)
    if parts and not any(_NAME.fullmatch(name) for name in names):
        _declare(found, parts, "any" if parts[-1][1] else "object")


def _list(found: Discovery, samples: Sequence[Sequence[Any]], parts: Parts, *, texts: bool) -> None:
    items = [item for one in samples for item in one if item is not None]
    name, _ = parts[-1]
    within = (*parts[:-1], (name, True))
    if items and all(isinstance(item, Mapping) for item in items):
        _object(found, items, within, texts=texts)
    elif items and not any(isinstance(item, Mapping | list) for item in items):
        _declare(found, within, _kind(items, texts=texts, blanks=True))
    elif name:
        _declare(found, parts, "list")
    else:
        _declare(found, within, "any")


def _declare(found: Discovery, parts: Parts, kind: FieldType) -> None:
    if len(found.fields) < FIELDS_MAX:
        location = ".".join(f"[{name}]" if is_list else name for name, is_list in parts)
        found.fields[location] = kind


def _kind(values: Sequence[Any], *, texts: bool, blanks: bool = False) -> FieldType:
    """The narrowest type that all of them fit; text left blank is absent, and counts only as an item of a list."""
    kinds: set[FieldType] = {_kind_of(value, texts=texts) for value in values if blanks or not (texts and value == "")}
    if not kinds:
        return "text" if values else "any"
    if kinds <= {"integer", "decimal"}:
        return "decimal" if "decimal" in kinds else "integer"
    if len(kinds) == 1:
        return kinds.pop()
    return "text" if all(isinstance(value, str) for value in values) else "any"


def _kind_of(value: Any, *, texts: bool) -> FieldType:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "any" if decimal_of(value) is None else "decimal"
        case str():
            return _kind_of_text(value) if texts else _kind_of_string(value)
        case _:
            return "any"


def _kind_of_string(text: str) -> FieldType:
    return "text" if instant_of(text) is None else "datetime"


def _kind_of_text(text: str) -> FieldType:
    if _INTEGER.fullmatch(text):
        return "integer"
    if _DECIMAL.fullmatch(text):
        return "decimal"
    return "boolean" if text in ("true", "false") else _kind_of_string(text)
