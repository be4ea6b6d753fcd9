"""The rules of a project that its types can not say: every fault of every file, at its line.

What passes here compiles and runs; `compile_program` relies on it.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import UNSET

from protocol.conditions import compile_condition
from protocol.definition import (
    END,
    CallStep,
    DecideStep,
    Definition,
    DelayStep,
    RespondStep,
    Retry,
    ScriptStep,
    SplitStep,
    Step,
    WaitAllStep,
    WaitUntilStep,
    WebhookStep,
)
from protocol.duration import parse_duration
from protocol.expression import ExpressionError, compile_expression, compile_template
from protocol.fields import path_of, spec_of, split_location
from protocol.flow import Flow, flow, passless_loop, reachable
from protocol.loading import CheckFault, Loaded, Place, Source, load
from protocol.program import LINK_PREFIX, SCOPE_NAMES

RESERVED = frozenset({END, "fail", "env", "request", *SCOPE_NAMES})
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")

Found = Iterator[CheckFault]


def check_project(
    sources: Sequence[Source], modules: Collection[str] = ()
) -> tuple[dict[str, Definition], list[CheckFault]]:
    """Read and check a whole project; with no faults its definitions are fit to run.

    Args:
        sources: its files.
        modules: the Python modules beside them, which scripts may name.
    """
    loaded = load(sources)
    faults = [*loaded.faults, *check_definitions(loaded), *_scripts(loaded, modules)]
    return loaded.definitions, sorted(faults, key=lambda fault: (fault.file, fault.line))


def check_definitions(loaded: Loaded) -> list[CheckFault]:
    """Every fault of definitions that were read."""
    faults: list[CheckFault] = []
    pinned: dict[str, str] = {}
    for name, definition in loaded.definitions.items():
        place = loaded.places[name]
        shape = list(_names(definition, place))
        if not shape:
            found = flow(definition)
            shape += _graph(definition, found, place)
            for step in found.after:
                shape += _step(definition, found, step, place, loaded.definitions)
        shape += _identifiers(definition, place, pinned)
        faults += shape
    return faults


def _scripts(loaded: Loaded, modules: Collection[str]) -> Found:
    for cycle, definition in loaded.definitions.items():
        for name, step in definition.steps.items():
            if isinstance(step, ScriptStep):
                module = step.script.partition(":")[0]
                if module not in modules:
                    rule = "names no Python module of this project"
                    yield loaded.places[cycle].fault(
                        ("steps", name, "script"), rule, module, _near(module, list(modules))
                    )


def _near(name: str, known: Sequence[str]) -> str:
    return next(iter(get_close_matches(name, known, 1)), "")


def _names(definition: Definition, place: Place) -> Found:
    for name in definition.steps:
        if not _NAME.fullmatch(name):
            yield place.fault(("steps", name), "must be named in lower case letters, digits and _", name)
        elif name in RESERVED:
            yield place.fault(("steps", name), "must not have a reserved name", name)
    known = [*definition.steps, END]
    for name, step in definition.steps.items():
        for key, target in _written_targets(step):
            if target and target not in known and not (key == "on_timeout" and target == "fail"):
                yield place.fault(("steps", name, key), "names no step", target, _near(target, known))


def _written_targets(step: Step) -> Iterator[tuple[str, str]]:
    yield "next", step.next
    if isinstance(step, DecideStep):
        yield "then", step.then
        yield "else", step.else_
        yield "default", step.default
        for target in step.cases.values():
            yield "cases", target
    if isinstance(step, WebhookStep) and step.match:
        yield "on_timeout", step.on_timeout


def _graph(definition: Definition, found: Flow, place: Place) -> Found:
    if len(found.after) < 2:
        yield place.fault(("steps",), "a cycle has at least two steps that run", str(len(found.after)))
    if not found.trigger:
        yield place.fault(("steps",), "the first step must be a webhook, the trigger", next(iter(found.after), "none"))
        return
    reached = {found.trigger, *reachable(found.targets, found.trigger)}
    for name in found.after:
        if name not in reached:
            yield place.fault(("steps", name), "can not be reached from the trigger", "")
    loop = passless_loop(found, definition)
    if loop:
        rule = f"loops without passing a webhook, a delay or a wait: {' → '.join([*loop, loop[0]])}"
        yield place.fault(("steps", loop[0]), rule, "")


def _earlier(definition: Definition, found: Flow, step: str) -> list[str]:
    """The steps from which a step can be reached: whose data it may use. Nothing is mapped from before a `wait_all`."""
    before: set[str] = set()
    ahead = [step]
    while ahead:
        target = ahead.pop()
        for name, targets in found.targets.items():
            if target in targets and name not in before:
                before.add(name)
                if not isinstance(definition.steps[name], WaitAllStep):
                    ahead.append(name)
    return sorted(before)


def _step(definition: Definition, found: Flow, name: str, place: Place, others: Mapping[str, Definition]) -> Found:
    step = definition.steps[name]
    at = ("steps", name)
    names = {*_earlier(definition, found, name), *SCOPE_NAMES}
    if isinstance(step.on_error, Retry):
        for index, gap in enumerate(step.on_error.retry):
            yield from _lengths({str(index): gap}, place, (*at, "on_error", "retry"))
    match step:
        case WebhookStep():
            yield from _webhook(definition, found, name, step, place)
            for location, earlier in step.match.items():
                yield from _expression(earlier, names - {name}, place, (*at, "match", location))
        case CallStep():
            yield from _call(definition, name, step, place, others)
            for key in ("url", "path", "query", "headers", "body"):
                yield from _template(getattr(step, key), names, place, (*at, key))
        case RespondStep(respond=said):
            for key in ("status", "headers", "body"):
                yield from _template(getattr(said, key), names, place, (*at, "respond", key))
            if isinstance(said.status, int) and not 200 <= said.status <= 599:
                yield place.fault((*at, "respond", "status"), "lies from 200 to 599", str(said.status))
        case DecideStep():
            yield from _decide(step, names, place, at)
        case DelayStep():
            yield from _lengths({"delay": step.delay}, place, at)
        case SplitStep():
            yield from _expression(step.split, names, place, (*at, "split"))
        case WaitAllStep():
            if not step.wait_all:
                yield place.fault((*at, "wait_all"), "is written as wait_all: true", str(step.wait_all))
        case WaitUntilStep():
            yield from _template(step.wait_until, names, place, (*at, "wait_until"))
        case _:
            pass


def _webhook(definition: Definition, found: Flow, name: str, step: WebhookStep, place: Place) -> Found:
    at = ("steps", name)
    yield from _connector(definition, step.webhook, place, (*at, "webhook"))
    yield from _fields(step.fields, place, at)
    if name == found.trigger and step.match:
        yield place.fault((*at, "match"), "the trigger starts transactions, so it matches none")
    if name != found.trigger and not step.match:
        yield place.fault(at, "a mid-cycle webhook needs match, to tell whose request it is", "nothing")
    for location in step.match:
        yield from _location(step, location, place, (*at, "match", location))
    lengths: dict[str, Any] = {"park": step.park, "hold_for": step.hold_for, "answer_within": step.answer_within}
    yield from _lengths(lengths, place, at)
    yield from _verify(step, place, (*at, "verify"))
    if step.dedupe != "off":
        yield from _lengths({"window": step.dedupe.window}, place, (*at, "dedupe"))
        if step.dedupe.field:
            yield from _location(step, step.dedupe.field, place, (*at, "dedupe", "field"))


def _location(step: WebhookStep, location: str, place: Place, at: tuple[str, ...]) -> Found:
    """A location by which requests are known is one value, and is read from them only when it is declared."""
    try:
        path = path_of(location)
    except ValueError as fault:
        yield place.fault(at, str(fault))
        return
    within = [".".join(path[: length + 1]) for length in range(len(path))]
    if step.fields and not any(one in step.fields for one in within):
        yield place.fault(at, "is no declared field of this step", location, _near(location, list(step.fields)))


def _verify(step: WebhookStep, place: Place, at: tuple[str, ...]) -> Found:
    said = step.verify
    if said is UNSET:
        return
    if not said.names:
        yield place.fault(at, "needs a secret, such as env.SHOP_SECRET", "nothing")
    if said.scheme == "hmac" and not said.header:
        yield place.fault(at, "needs the header that carries the signature", "nothing")
    if said.header and said.scheme not in ("hmac", "api_key"):
        yield place.fault((*at, "header"), f"is not said for {said.scheme}, which has headers of its own", said.header)


def _call(definition: Definition, name: str, step: CallStep, place: Place, others: Mapping[str, Definition]) -> Found:
    at = ("steps", name)
    connector = definition.connectors.get(step.connector)
    yield from _connector(definition, step.connector, place, (*at, step.method.lower()))
    yield from _fields(step.fields, place, at)
    yield from _lengths({"timeout": step.timeout}, place, at)
    if connector is not None:
        yield from _lengths({"timeout": connector.timeout}, place, ("connectors", step.connector))
        if not step.url and not connector.base_url:
            yield place.fault(at, "needs a url, or a base_url on its connector", "neither")
    if step.url and step.path:
        yield place.fault((*at, "path"), "stands beside a url, which says it all", step.path)
    if "env." in repr((step.url, step.path, step.headers, step.body, step.query)):
        yield place.fault(at, "env is only for connectors: secrets must not reach the journal", "env")
    if step.url.startswith(LINK_PREFIX):
        yield from _link(step, place, at, others)


def _link(step: CallStep, place: Place, at: tuple[str, ...], others: Mapping[str, Definition]) -> Found:
    cycle, _, webhook = step.url.removeprefix(LINK_PREFIX).partition("/")
    target = others.get(cycle)
    if target is None:
        yield place.fault((*at, "url"), "links to no cycle of this project", cycle, _near(cycle, list(others)))
        return
    linked = target.steps.get(webhook)
    if not isinstance(linked, WebhookStep):
        known = [name for name, one in target.steps.items() if isinstance(one, WebhookStep)]
        yield place.fault((*at, "url"), f"links to no webhook of {cycle}", webhook, _near(webhook, known))
        return
    if step.method not in linked.methods:
        yield place.fault((*at, "url"), f"{cycle}/{webhook} takes {', '.join(linked.methods)}", step.method)
    if isinstance(step.body, dict):
        for location, field in linked.fields.items():
            top = split_location(location)[0][0]
            if spec_of(field).required and top not in step.body:
                yield place.fault((*at, "body"), f"{cycle}/{webhook} requires {location}", "nothing")


def _decide(step: DecideStep, names: set[str], place: Place, at: tuple[str, ...]) -> Found:
    if step.cases and (step.then or step.else_):
        yield place.fault((*at, "cases"), "a switch has cases and default, not then and else")
    if step.cases and not isinstance(step.decide, str):
        yield place.fault((*at, "decide"), "a switch decides on one expression", "a condition")
        return
    if step.default and not step.cases:
        yield place.fault((*at, "default"), "belongs to cases", step.default)
    try:
        if step.cases and isinstance(step.decide, str):
            compile_expression(step.decide, names)
        else:
            compile_condition(step.decide, names)
    except ValueError as fault:
        yield place.fault((*at, "decide"), str(fault))


def _connector(definition: Definition, name: str, place: Place, at: tuple[str, ...]) -> Found:
    if name not in definition.connectors:
        yield place.fault(at, "names no connector", name, _near(name, list(definition.connectors)))


def _fields(fields: Mapping[str, Any], place: Place, at: tuple[str, ...]) -> Found:
    for location in fields:
        try:
            split_location(location)
        except ValueError as fault:
            yield place.fault((*at, "fields", location), str(fault))


def _lengths(lengths: Mapping[str, Any], place: Place, at: tuple[str, ...]) -> Found:
    for key, text in lengths.items():
        if text is UNSET:
            continue
        try:
            parse_duration(text)
        except ValueError as fault:
            yield place.fault((*at, key), str(fault))


def _expression(text: str, names: set[str], place: Place, at: tuple[str, ...]) -> Found:
    try:
        compile_expression(text, names)
    except ExpressionError as fault:
        yield place.fault(at, str(fault))


def _template(value: Any, names: set[str], place: Place, at: tuple[str, ...]) -> Found:
    try:
        compile_template(value, names)
    except ExpressionError as fault:
        yield place.fault(at, str(fault))


def _identifiers(definition: Definition, place: Place, pinned: dict[str, str]) -> Found:
    for name, step in definition.steps.items():
        if isinstance(step, WebhookStep) and step.identifier:
            mine = f"{definition.cycle}/{name}"
            other = pinned.setdefault(step.identifier, mine)
            if other != mine:
                yield place.fault(("steps", name, "identifier"), f"is the identifier of {other} too", step.identifier)
