"""The rules of a project that its types can not say: every fault of every file, at its line.

What passes here compiles and runs; `compile_program` relies on it.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import UNSET, Struct

from protocol.ages import age_faults
from protocol.alerts import ALERT_FIELDS
from protocol.check_values import Found, expression_faults, length_faults, template_faults
from protocol.conditions import compile_condition
from protocol.definition import (
    END,
    CallStep,
    Connector,
    DecideStep,
    Definition,
    DelayStep,
    MethodFields,
    RespondStep,
    Retry,
    SplitStep,
    Step,
    WaitAllStep,
    WaitUntilStep,
    WebhookStep,
    functions,
)
from protocol.expression import compile_expression
from protocol.fields import path_of, spec_of, split_location
from protocol.flow import Flow, before, flow, passless_loop, reachable
from protocol.loading import CONNECTOR_FILES, CheckFault, Draft, Loaded, Place, Source, load
from protocol.program import LINK_PREFIX, SCOPE_NAMES

RESERVED = frozenset({END, "fail", "env", "request", *SCOPE_NAMES})
ORDERED = ("datetime", "integer", "decimal", "float", "text")  # Types whose values come one after the other.
METHODS = ("webhook", "get", "post", "put", "patch", "delete")  # For which a connector declares fields.
_A = {"object": "an object", "list": "a list"}
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")


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


class View(Struct, frozen=True):
    """One cycle as its steps are checked.

    What is not `whole` has steps or targets that are wrong: then nothing is said of its graph, and an expression may
    name any step, since a fault that follows from another is none.
    """

    draft: Draft
    found: Flow
    whole: bool
    cycles: dict[str, Draft]
    unread: frozenset[str]

    @property
    def definition(self) -> Definition:
        """What could be read of it."""
        return self.draft.definition

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.draft.place

    def scope(self, step: str) -> set[str]:
        """The names that an expression of a step may use."""
        if not self.whole:
            return {*self.definition.steps, *self.draft.broken, *SCOPE_NAMES}
        return {*before(self.definition, self.found.targets, step), *SCOPE_NAMES}


def check_definitions(loaded: Loaded) -> list[CheckFault]:
    """Every fault of cycles that were read, whatever else is wrong with them."""
    faults: list[CheckFault] = []
    pinned: dict[str, str] = {}
    cycles = {draft.definition.cycle: draft for draft in reversed(loaded.drafts)}
    if loaded.shared is not None:
        faults += _connectors(*loaded.shared)
    for draft in loaded.drafts:
        definition, place = draft.definition, draft.place
        own = {name: one for name, one in definition.connectors.items() if ("connectors", name) in place.lines}
        faults += _connectors(own, place)
        names = list(_names(draft))
        view = View(draft, flow(definition), not (names or draft.broken or draft.partial), cycles, loaded.unread)
        faults += names
        for age, rule in age_faults(definition.settings.retention):
            faults.append(place.fault(("settings", "retention", age), rule))
        if view.whole and definition.steps:
            faults += _graph(definition, view.found, place)
        for step in view.found.after:
            faults += _step(view, step)
        faults += _alerts(view)
        faults += _identifiers(definition, place, pinned)
    return faults


def _scripts(loaded: Loaded, modules: Collection[str]) -> Found:
    for draft in loaded.drafts:
        for name, step in draft.definition.steps.items():
            for key, function in functions(step).items():
                module = function.partition(":")[0]
                if module not in modules:
                    rule = "names no Python module of this project"
                    yield draft.place.fault(("steps", name, key), rule, module, _near(module, list(modules)))


def _near(name: str, known: Sequence[str]) -> str:
    return next(iter(get_close_matches(name, known, 1)), "")


def _names(draft: Draft) -> Found:
    definition, place = draft.definition, draft.place
    for name in [*definition.steps, *draft.broken]:
        if not _NAME.fullmatch(name):
            yield place.fault(("steps", name), "must be named in lower case letters, digits and _", name)
        elif name in RESERVED:
            yield place.fault(("steps", name), "must not have a reserved name", name)
    known = [*definition.steps, *draft.broken, END]
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


def _step(view: View, name: str) -> Found:
    step, place, names = view.definition.steps[name], view.place, view.scope(name)
    at = ("steps", name)
    if isinstance(step.on_error, Retry):
        for index, gap in enumerate(step.on_error.retry):
            yield from length_faults({str(index): gap}, place, (*at, "on_error", "retry"))
    match step:
        case WebhookStep():
            yield from _webhook(view, name, step)
            for location, earlier in step.match.items():
                yield from expression_faults(earlier, names - {name}, place, (*at, "match", location))
        case CallStep():
            yield from _call(view, name, step)
            for key in ("url", "path", "query", "headers", "body"):
                yield from template_faults(getattr(step, key), names, place, (*at, key))
        case RespondStep(respond=said):
            for key in ("status", "headers", "body"):
                yield from template_faults(getattr(said, key), names, place, (*at, "respond", key))
            if isinstance(said.status, int) and not 200 <= said.status <= 599:
                yield place.fault((*at, "respond", "status"), "lies from 200 to 599", str(said.status))
        case DecideStep():
            yield from _decide(step, names, place, at, view.draft.partial)
        case DelayStep():
            yield from length_faults({"delay": step.delay}, place, at)
        case SplitStep():
            yield from expression_faults(step.split, names, place, (*at, "split"))
        case WaitAllStep():
            if not step.wait_all:
                yield place.fault((*at, "wait_all"), "is written as wait_all: true", str(step.wait_all))
        case WaitUntilStep():
            yield from template_faults(step.wait_until, names, place, (*at, "wait_until"))
        case _:
            pass


def _webhook(view: View, name: str, step: WebhookStep) -> Found:
    at, place = ("steps", name), view.place
    yield from _connector(view, step.webhook, (*at, "webhook"))
    yield from _own_fields(view, step.fields, step.webhook, "webhook", at)
    if view.whole and name == view.found.trigger and step.match:
        yield place.fault((*at, "match"), "the trigger starts transactions, so it matches none")
    if view.whole and name != view.found.trigger and not step.match:
        yield place.fault(at, "a mid-cycle webhook needs match, to tell whose request it is", "nothing")
    for location in step.match:
        yield from _location(step, location, place, (*at, "match", location))
    if step.newer_than and name not in view.draft.partial:
        yield from _newer(step, place, (*at, "newer_than"))
    lengths: dict[str, Any] = {"park": step.park, "hold_for": step.hold_for, "answer_within": step.answer_within}
    yield from length_faults(lengths, place, at)
    yield from _verify(step, place, (*at, "verify"))
    if step.dedupe != "off":
        yield from length_faults({"window": step.dedupe.window}, place, (*at, "dedupe"))
        if step.dedupe.field:
            yield from _location(step, step.dedupe.field, place, (*at, "dedupe", "field"))


def _location(step: WebhookStep, location: str, place: Place, at: tuple[str, ...]) -> Found:
    """A location by which requests are known is one value, and is read from them only when it is declared."""
    try:
        path = path_of(location)
    except ValueError as fault:
        yield place.fault(at, str(fault))
        return
    fields = {where: spec_of(declared).type for where, declared in step.fields.items()}
    within = [".".join(path[: length + 1]) for length in range(len(path))]
    holder = next((where for where in reversed(within) if where in fields), "")
    whole = not any(where.startswith(f"{holder}.") for where in fields)  # What is declared below is read alone.
    if holder == location:
        kind = fields[location] if whole else "object"
        if kind in ("object", "list"):
            yield place.fault(at, f"a request is known by one value, and this names {_A[kind]}", location)
    elif fields and not (whole and fields.get(holder) in ("object", "any")):
        yield place.fault(at, "is no declared field of this step", location, _near(location, list(fields)))


def _newer(step: WebhookStep, place: Place, at: tuple[str, ...]) -> Found:
    """Requests are ordered by one value of a type that says which comes first."""
    if not step.match:
        yield place.fault(at, "orders the requests of one transaction, and each that comes here starts a new one")
        return
    found = list(_location(step, step.newer_than, place, at))
    yield from found
    declared = step.fields.get(step.newer_than)
    kind = "any" if declared is None else spec_of(declared).type
    if not found and kind not in ORDERED:
        yield place.fault(at, f"needs a field declared as {', '.join(ORDERED)}", kind, "datetime")


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


def _call(view: View, name: str, step: CallStep) -> Found:
    at, place = ("steps", name), view.place
    connector = view.definition.connectors.get(step.connector)
    yield from _connector(view, step.connector, (*at, step.method.lower()))
    yield from _own_fields(view, step.fields, step.connector, step.method.lower(), at)
    yield from length_faults({"timeout": step.timeout}, place, at)
    if connector is not None and not step.url and not connector.base_url and name not in view.draft.partial:
        yield place.fault(at, "needs a url, or a base_url on its connector", "neither")
    if step.url and step.path:
        yield place.fault((*at, "path"), "stands beside a url, which says it all", step.path)
    if step.url.startswith(LINK_PREFIX):
        body = step.body if isinstance(step.body, dict) else None
        yield from _link(view, step.url, step.method, body, at)


def _alerts(view: View) -> Found:
    said = view.definition.settings.alerts
    if said is not UNSET and said.url.startswith(LINK_PREFIX):
        yield from _link(view, said.url, "POST", dict.fromkeys(ALERT_FIELDS), ("settings", "alerts"))


def _link(view: View, url: str, method: str, body: Mapping[str, Any] | None, at: tuple[str, ...]) -> Found:
    cycle, _, webhook = url.removeprefix(LINK_PREFIX).partition("/")
    place, target = view.place, view.cycles.get(cycle)
    if target is None:
        if not view.unread - set(CONNECTOR_FILES):  # Else it may be in a file that could not be parsed.
            yield place.fault((*at, "url"), "links to no cycle of this project", cycle, _near(cycle, list(view.cycles)))
        return
    steps = target.definition.steps
    linked = steps.get(webhook)
    if webhook in target.broken:
        return
    if not isinstance(linked, WebhookStep):
        known = [*target.broken, *(name for name, one in steps.items() if isinstance(one, WebhookStep))]
        yield place.fault((*at, "url"), f"links to no webhook of {cycle}", webhook, _near(webhook, known))
        return
    if method not in linked.methods:
        yield place.fault((*at, "url"), f"{cycle}/{webhook} takes {', '.join(linked.methods)}", method)
    if body is None:
        return  # It is made when the step runs.
    for location, field in linked.fields.items():
        if spec_of(field).required and split_location(location)[0][0] not in body:
            yield place.fault((*at, "body"), f"{cycle}/{webhook} requires {location}", "nothing")


def _decide(step: DecideStep, names: set[str], place: Place, at: tuple[str, ...], partial: frozenset[str]) -> Found:
    if step.cases and (step.then or step.else_):
        yield place.fault((*at, "cases"), "a switch has cases and default, not then and else")
    if step.cases and not isinstance(step.decide, str):
        yield place.fault((*at, "decide"), "a switch decides on one expression", "a condition")
        return
    if step.default and not step.cases and at[1] not in partial:
        yield place.fault((*at, "default"), "belongs to cases", step.default)
    try:
        if step.cases and isinstance(step.decide, str):
            compile_expression(step.decide, names)
        else:
            compile_condition(step.decide, names)
    except ValueError as fault:
        yield place.fault((*at, "decide"), str(fault))


def _connectors(connectors: Mapping[str, Connector], place: Place) -> Found:
    """The faults of connectors, once, where they are written."""
    for name, connector in connectors.items():
        at = ("connectors", name) if ("connectors", name) in place.lines else (name,)
        yield from length_faults({"timeout": connector.timeout}, place, at)
        for method in METHODS:
            said = getattr(connector, method)
            if isinstance(said, MethodFields):
                yield from _fields(said.fields, place, (*at, method))


def _connector(view: View, name: str, at: tuple[str, ...]) -> Found:
    known = view.definition.connectors
    if name not in known and not view.unread & set(CONNECTOR_FILES):
        yield view.place.fault(at, "names no connector", name, _near(name, list(known)))


def _own_fields(view: View, fields: Mapping[str, Any], connector: str, method: str, at: tuple[str, ...]) -> Found:
    """Faults of the fields that a step adds to those of its connector, which are told there."""
    declared = getattr(view.definition.connectors.get(connector), method, None)
    inherited = declared.fields if isinstance(declared, MethodFields) else {}
    yield from _fields({where: one for where, one in fields.items() if where not in inherited}, view.place, at)


def _fields(fields: Mapping[str, Any], place: Place, at: tuple[str, ...]) -> Found:
    for location in fields:
        try:
            split_location(location)
        except ValueError as fault:
            yield place.fault((*at, "fields", location), str(fault))


def _identifiers(definition: Definition, place: Place, pinned: dict[str, str]) -> Found:
    for name, step in definition.steps.items():
        if isinstance(step, WebhookStep) and step.identifier:
            mine = f"{definition.cycle}/{name}"
            other = pinned.setdefault(step.identifier, mine)
            if other != mine:
                yield place.fault(("steps", name, "identifier"), f"is the identifier of {other} too", step.identifier)
