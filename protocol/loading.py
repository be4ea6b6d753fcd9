"""Cycle files read: YAML 1.2, JSON or TOML into definitions, with the line of every fault.

The text is given, not read from disk here. A definition has one canonical encoding, so that its hash names it.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from io import StringIO
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError

from protocol.convert import ShapeFault, convert_struct
from protocol.definition import (
    KINDS,
    CallStep,
    Connector,
    Definition,
    Fields,
    MethodFields,
    Settings,
    Step,
    WebhookStep,
)
from protocol.fields import spec_of
from protocol.toml_lines import toml_lines

FILE_BYTES_MAX = 1 << 20  # Of one cycle file; the largest real one has 60 KiB.
NESTING_MAX = 40  # Levels of a file.
VALUES_MAX = 50_000  # Values of one file, aliases counted as often as they are used: bounds alias bombs, and time.
STEPS_MAX = 1000  # Of one cycle: what each may read is looked up on the whole graph.
INTEGER_MAX = 2**63 - 1  # What the journal, CEL and SQLite agree on.
CONNECTOR_FILES = ("connectors.yaml", "connectors.yml")

_AT_LINE = re.compile(r"\bline (\d+)")
UNREAD_URL = "https://unread.invalid"  # In place of one with a fault, which is told once, where it stands.


class Source(Struct, frozen=True):
    """A file of a project: its name and its text."""

    name: str
    text: str


class CheckFault(Struct, frozen=True):
    """One fault of a project."""

    file: str
    line: int  # 1-based.
    step: str
    rule: str
    found: str
    nearest: str = ""

    def __str__(self) -> str:
        step = f" step {self.step}:" if self.step else ""
        found = f", found {self.found}" if self.found else ""
        nearest = f" (did you mean {self.nearest}?)" if self.nearest else ""
        return f"{self.file}:{self.line}:{step} {self.rule}{found}{nearest}"


class Place(Struct, frozen=True):
    """Where a definition was read: lines by the path of keys that leads to a value."""

    file: str
    lines: dict[tuple[str, ...], int]

    def fault(self, path: tuple[str, ...], rule: str, found: str = "", nearest: str = "") -> CheckFault:
        """A fault at a path, at the line of the nearest part of it that is in the file."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        step = path[1] if len(path) > 1 and path[0] == "steps" else ""
        where = ".".join(path[2:] if step else path)
        return CheckFault(self.file, self.lines.get(known, 1), step, f"{where} {rule}".strip(), found, nearest)


class Draft(Struct, frozen=True):
    """One cycle file as far as it could be read, so that a fault of shape hides no other fault."""

    definition: Definition
    place: Place
    broken: frozenset[str]  # Steps that could not be read: they are there, and nothing is known of them.
    partial: frozenset[str]  # Steps of which some keys could not be read, and are left out.


class Loaded(Struct, frozen=True):
    """A project as it was read.

    Attributes:
        definitions: cycles without faults of shape, by name.
        drafts: every cycle file that could be parsed.
        shared: the connectors of the project, and where they stand; None when there is no such file.
        unread: files that could not be parsed, so that what they hold is unknown.
        faults: what is wrong with the shape of it all.
    """

    definitions: dict[str, Definition]
    drafts: list[Draft]
    shared: tuple[dict[str, Connector], Place] | None
    unread: frozenset[str]
    faults: list[CheckFault]


def load(sources: Sequence[Source]) -> Loaded:
    """Read every file of a project."""
    faults: list[CheckFault] = []
    unread: set[str] = set()
    shared: tuple[dict[str, Connector], Place] | None = None
    files: list[tuple[dict[str, Any], Place]] = []
    for source in sources:
        data, place, fault = _parse(source)
        if fault is not None:
            faults.append(fault)
            unread.add(source.name)
        elif source.name in CONNECTOR_FILES:
            connectors, found = _connectors(
                data.get("connectors", data), ("connectors",) if "connectors" in data else ()
            )
            shared = (connectors, place)
            faults += [place.fault(one.path, one.rule, one.found, one.nearest) for one in found]
        else:
            files.append((data, place))
    definitions: dict[str, Definition] = {}
    drafts: dict[str, Draft] = {}
    for data, place in files:
        steps = data.get("steps")
        if isinstance(steps, dict) and len(steps) > STEPS_MAX:
            faults.append(place.fault(("steps",), f"a cycle has at most {STEPS_MAX} steps", str(len(steps))))
            unread.add(place.file)
            continue
        definition, broken, partial, found = _definition(data, shared[0] if shared else {})
        faults += [place.fault(one.path, one.rule, one.found, one.nearest) for one in found]
        first = next((one for one in drafts.values() if one.definition.cycle == definition.cycle), None)
        drafts[place.file] = Draft(definition, place, broken, partial)
        if first is not None:
            rule = f"is the name of the cycle in {first.place.file} too"
            faults.append(place.fault(("cycle",), rule, definition.cycle))
        elif not found:
            definitions[definition.cycle] = definition
    return Loaded(definitions, list(drafts.values()), shared, frozenset(unread), faults)


def load_project(sources: Sequence[Source]) -> tuple[dict[str, Definition], list[CheckFault]]:
    """Read every file of a project: definitions by name, and the faults of shape."""
    loaded = load(sources)
    return loaded.definitions, loaded.faults


def encode_definition(definition: Definition) -> bytes:
    """The canonical JSON of a definition."""
    return msgspec.json.encode(definition)


def version_name(packed: bytes) -> str:
    """The hash of a definition's canonical JSON, which names the version."""
    return hashlib.sha256(packed).hexdigest()


def decode_definition(packed: bytes) -> Definition:
    """Read canonical JSON; raises `ValueError` when it is none of ours."""
    definition, _, _, faults = _definition(msgspec.json.decode(packed), {})
    if faults:
        raise ValueError(f"a journaled definition has faults: {faults[0].rule} at {faults[0].path}")
    return definition


def _definition(
    data: Any, shared: Mapping[str, Connector]
) -> tuple[Definition, frozenset[str], frozenset[str], list[ShapeFault]]:
    """A definition of what could be read, the steps that could not, or in part only, and every fault of shape."""
    head = {key: value for key, value in data.items() if key not in ("steps", "connectors", "settings")}
    definition, faults = convert_struct(head, Definition, ())
    connectors, more = _connectors(data.get("connectors") or {}, ("connectors",))
    faults += more
    settings, more = convert_struct(data.get("settings") or {}, Settings, ("settings",))
    faults += more
    steps_data = data.get("steps")
    if not isinstance(steps_data, dict) or not steps_data:
        faults.append(ShapeFault(("steps",), "must be a mapping of steps", type(steps_data).__name__))
        steps_data = {}
    connectors = {**shared, **connectors}
    steps: dict[str, Step] = {}
    partial: set[str] = set()
    for name, step_data in steps_data.items():
        step, more = _step(str(name), step_data)
        faults += more
        if step is not None:
            steps[str(name)] = _inherit(step, connectors)
            partial |= {str(name)} if more else set()
    return (
        msgspec.structs.replace(
            definition or Definition(cycle=str(data.get("cycle", ""))),
            connectors=connectors,
            settings=settings or Settings(),
            steps=steps,
        ),
        frozenset(str(name) for name in steps_data if str(name) not in steps),
        frozenset(partial),
        faults,
    )


def _connectors(data: Any, path: tuple[str, ...]) -> tuple[dict[str, Connector], list[ShapeFault]]:
    if not isinstance(data, dict):
        return {}, [ShapeFault(path, "must be a mapping of connectors", type(data).__name__)]
    found: dict[str, Connector] = {}
    faults: list[ShapeFault] = []
    for name, said in data.items():
        connector, more = convert_struct(said or {}, Connector, (*path, str(name)))
        faults += more
        if connector is None or (more and not connector.base_url):
            connector = msgspec.structs.replace(connector or Connector(), base_url=UNREAD_URL)
        found[str(name)] = connector
    return found, faults


def _step(name: str, data: Any) -> tuple[Any, list[ShapeFault]]:
    path = ("steps", name)
    if not isinstance(data, dict):
        return None, [ShapeFault(path, "must be a mapping", type(data).__name__)]
    kinds = [key for key in data if key in KINDS]
    if len(kinds) != 1:
        found = ", ".join(kinds) or ", ".join(map(str, data)) or "nothing"
        return None, [ShapeFault(path, f"needs exactly one kind of {', '.join(KINDS)}", found)]
    return convert_struct(data, KINDS[kinds[0]], path)


def _inherit(step: Step, connectors: Mapping[str, Connector]) -> Step:
    """Give a step the fields that its connector declares for its method; the step's own win."""
    if not isinstance(step, WebhookStep | CallStep):
        return step
    name = step.webhook if isinstance(step, WebhookStep) else step.connector
    method = "webhook" if isinstance(step, WebhookStep) else step.method.lower()
    declared = getattr(connectors.get(name), method, None)
    fields: Fields = {**(declared.fields if isinstance(declared, MethodFields) else {}), **step.fields}
    return msgspec.structs.replace(step, fields={where: spec_of(field) for where, field in fields.items()})


def _parse(source: Source) -> tuple[dict[str, Any], Place, CheckFault | None]:
    lines: dict[tuple[str, ...], int] = {}
    place = Place(source.name, lines)
    if len(source.text.encode()) > FILE_BYTES_MAX:
        return {}, place, place.fault((), f"a file has at most {FILE_BYTES_MAX} bytes")
    try:
        data = _plain(_read(source), (), lines, [0])
        if source.name.endswith(".toml"):
            lines.update(toml_lines(source.text))
        if source.name.endswith(".json"):
            with suppress(YAMLError, ValueError, RecursionError):
                _plain(_yaml(source.text), (), lines, [0])  # Only for the lines: nearly all JSON is YAML too.
    except YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = 1 if mark is None else int(mark.line) + 1
        problem = getattr(fault, "problem", None) or str(fault).split("\n", 1)[0]
        return {}, place, CheckFault(source.name, line, "", f"is not YAML: {problem}", "")
    except (ValueError, RecursionError) as fault:
        return {}, place, CheckFault(source.name, line_of(fault), "", f"can not be read: {str(fault)[:200]}", "")
    if not isinstance(data, dict):
        return {}, place, place.fault((), "a cycle file is a mapping", type(data).__name__)
    return data, place, None


def _read(source: Source) -> Any:
    if source.name.endswith(".json"):
        return json.loads(source.text)
    if source.name.endswith(".toml"):
        return tomllib.loads(source.text)
    return _yaml(source.text)


def _yaml(text: str) -> Any:
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    yaml.Composer = _Composer
    try:
        return yaml.load(StringIO(text))
    except (YAMLError, ValueError, RecursionError):
        raise
    except Exception as fault:  # noqa: BLE001 - Its constructors raise whatever Python raises at a wrong value.
        raise ValueError(f"a value is not what its tag or anchor says ({type(fault).__name__}: {fault})") from None


class _Composer(Composer):
    """Ends at the bounds of a file while it is read: later is too late for one of a million values."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self._values = 0
        self._levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._values += 1
        if self._values > VALUES_MAX * 2 or self._levels > NESTING_MAX:  # Here keys are values, too.
            raise _past_bounds()
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        return node


def _past_bounds() -> ValueError:
    return ValueError(f"a file has at most {VALUES_MAX} values in {NESTING_MAX} levels")


def line_of(fault: Exception) -> int:
    """The line that a parser of JSON or TOML names, the first one where it names none."""
    found = _AT_LINE.search(str(fault))
    return int(found[1]) if found else 1


def _plain(value: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int], count: list[int]) -> Any:
    """A parsed value as plain data, noting the line of every key."""
    count[0] += 1
    if count[0] > VALUES_MAX or len(path) > NESTING_MAX:
        raise _past_bounds()
    if isinstance(value, CommentedMap | dict):
        for key in value:
            if isinstance(key, Mapping | tuple):  # `{{ x }}` is a map whose key is a map.
                line = int(value.lc.line) + 1 if isinstance(value, CommentedMap) else 1
                said = "has a key that is no text; a merge field stands in quotes"
                raise ValueError(f"line {line} {said}")  # noqa: TRY004 - The file's fault, no caller's.
            if isinstance(value, CommentedMap) and key in (value.lc.data or ()):  # An ordered map has no lines.
                lines[*path, str(key)] = int(value.lc.key(key)[0]) + 1
        return {_key(key): _plain(item, (*path, str(key)), lines, count) for key, item in value.items()}
    if isinstance(value, CommentedSeq | list):
        return [_plain(item, (*path, str(index)), lines, count) for index, item in enumerate(_items(value))]
    return _scalar(value)


def _items(value: Any) -> Iterable[Any]:
    return list(value)


def _key(value: Any) -> str:
    return str(_journalable(str(value)))


def _scalar(value: Any) -> Any:
    """Ruamel's scalars as Python's own; dates as the text they were written as.

    Raises:
        ValueError: it is no JSON value, which everything that is journaled has to be.
    """
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return _journalable(kind(value))
    return value.isoformat() if hasattr(value, "isoformat") else bool(value)


def _journalable(value: float | str) -> float | str:
    match value:
        case int() if abs(value) > INTEGER_MAX:
            raise ValueError("an integer has at most 63 bits and a sign: write a longer one as text, in quotes")
        case float() if not isfinite(value):
            raise ValueError(f"{value} is no number of JSON: write it as text, in quotes")
        case str() if any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ValueError("a text has half of a surrogate pair: write the character itself")
        case _:
            return value
