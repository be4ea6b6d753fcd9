"""A definition made ready to run: contracts, templates and conditions compiled once per version.

A program is derived from a definition alone, so it is never stored: the definition's hash names it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from protocol.canonical import canonical
from protocol.conditions import compile_condition
from protocol.definition import (
    END,
    BodyKind,
    CallStep,
    Connector,
    DecideStep,
    Definition,
    DelayStep,
    FieldType,
    Policy,
    RespondStep,
    Retry,
    ScriptStep,
    SplitStep,
    WaitAllStep,
    WaitUntilStep,
    WebhookStep,
    functions,
)
from protocol.duration import UNITS_NS, parse_duration
from protocol.expression import Expression, Template, compile_expression, compile_template
from protocol.fields import Contract, path_of, split_location
from protocol.flow import flow
from protocol.loading import encode_definition

SCOPE_NAMES = ("vars", "cycle", "transaction", "hit", "last_success")
COLLECTED_NS = parse_duration("24 hours")  # A hit for a stopped cycle waits a day, as the contract promises.
RETRY_GAPS_NS = tuple(minutes * UNITS_NS["minute"] for minutes in (5, 35, 95, 275, 635))
SCRIPT = "SCRIPT"  # The method of a call that a function of the project answers.
HOOK = "HOOK"  # The same of an `after_webhook`, which is given the data of its own step and says what becomes of it.
SCRIPT_NS = 60 * UNITS_NS["second"]  # A script may take; longer work belongs behind an HTTP call of its own.
LINK_PREFIX = "cycle:"
MATCHED_CHARACTERS_MAX = 512  # Of one value that is matched by; it is a key of indexes, and no real one is longer.
_MENTIONED = re.compile(rb"(?:\b|\\[bfnrt])(hit|transaction|last_success)\b")  # In JSON, after a line's end too.

Scope = Mapping[str, Any]


class MatchPair(Struct, frozen=True):
    """One pair of `match`: a location in the request and the value of an earlier step it must equal."""

    location: str
    path: tuple[str, ...]  # The names that lead to it in the request's own data.
    type: FieldType
    earlier: Expression


class Mark(Struct, frozen=True):
    """The field by which requests of one transaction have an order: `newer_than`."""

    location: str
    path: tuple[str, ...]
    type: FieldType


class WebhookPlan(Struct, frozen=True):
    """A webhook step, ready to run; lengths are nanoseconds."""

    step: WebhookStep
    contract: Contract
    match: tuple[MatchPair, ...]
    park: int
    hold: int  # 0 is without end.
    answer_within: int
    window: int
    on_timeout: str  # A step, `end` or `fail`.
    answers: bool  # Whether a pass from here can reach a respond before it holds.
    newer: Mark | None
    policy: Policy  # Of what happens to the data of a request; a hold that can not be reached always fails.
    gaps: tuple[int, ...]
    after: str

    def key(self, data: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The canonical values a request carries for `match`; None when one is null, missing, empty or too long."""
        return _key([canonical(lookup(pair.path, data), pair.type) for pair in self.match])

    def mark(self, data: Mapping[str, Any]) -> str | None:
        """The canonical value by which a request is newer than others; "" for none, None for one that is too long."""
        if self.newer is None:
            return ""
        text = canonical(lookup(self.newer.path, data), self.newer.type) or ""
        return text if len(text) <= MATCHED_CHARACTERS_MAX else None

    def key_of(self, scope: Scope) -> tuple[str, ...] | None:
        """The canonical values the earlier steps give; None when one is null, missing, empty or too long."""
        return _key([canonical(pair.earlier.evaluate(scope), pair.type) for pair in self.match])


def _key(values: list[str | None]) -> tuple[str, ...] | None:
    found = tuple(value for value in values if value is not None and len(value) <= MATCHED_CHARACTERS_MAX)
    return found if len(found) == len(values) else None


class CallPlan(Struct, frozen=True):
    """A step that calls a remote system, ready to run; the timeout is nanoseconds."""

    step: CallStep
    connector: Connector
    contract: Contract
    url: Template
    query: Template
    headers: Template
    body: Template
    body_as: BodyKind
    timeout: int
    safe_to_repeat: bool
    link: tuple[str, str] | None
    policy: Policy
    gaps: tuple[int, ...]  # Nanoseconds before each attempt after the first, with the policy `retry`.
    after: str


class RespondPlan(Struct, frozen=True):
    """A step that answers the caller, ready to run."""

    status: Template
    headers: Template
    body: Template
    body_as: BodyKind
    policy: Policy
    after: str


class DecidePlan(Struct, frozen=True):
    """A branch, ready to run: `choose` gives the id of the next step."""

    choose: Callable[[Scope], str]
    policy: Policy
    after: str


class WaitPlan(Struct, frozen=True):
    """A step that waits, ready to run: for `delay` nanoseconds, or until the instant that `until` gives."""

    delay: int
    until: Template | None
    policy: Policy
    after: str


class ScriptPlan(Struct, frozen=True):
    """A step that calls a function of the project, ready to run."""

    function: str
    safe_to_repeat: bool
    policy: Policy
    gaps: tuple[int, ...]
    after: str


class SplitPlan(Struct, frozen=True):
    """A step that runs each item of a list as a transaction of its own."""

    items: Expression
    policy: Policy
    after: str


class GatherPlan(Struct, frozen=True):
    """A `wait_all`, ready to run; `awaits` are the other ones whose transactions may still come here."""

    awaits: frozenset[str]
    policy: Policy
    after: str


Plan = WebhookPlan | CallPlan | RespondPlan | DecidePlan | WaitPlan | SplitPlan | GatherPlan | ScriptPlan


class Program(Struct, frozen=True, eq=False):
    """One version of a cycle, ready to run; a state has one of each, so they are compared by identity."""

    definition: Definition
    hash: str
    trigger: str
    plans: dict[str, Plan]
    mentions: frozenset[str]  # Of `hit` and `transaction`, what any text or function of the definition may read.
    notes_success: frozenset[str]  # Steps that may read when they last succeeded.
    sensitive: dict[str, frozenset[tuple[str, ...]]] = {}  # What must not be shown, by name of the scope.

    def webhook(self, step: str) -> WebhookPlan:
        """The plan of a webhook step; `KeyError` when there is no such webhook in this version."""
        plan = self.plans[step]
        if not isinstance(plan, WebhookPlan):
            raise KeyError(step)
        return plan


def lookup(path: Sequence[str], data: Mapping[str, Any]) -> Any:
    """The value at a location of a request, None where it leads nowhere."""
    value: Any = data
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def compile_program(definition: Definition, definition_hash: str) -> Program:
    """Make a definition ready to run.

    Raises:
        ValueError: the definition has a fault that `check` reports; a deployed one has none.
    """
    flows = flow(definition)
    names = frozenset(definition.steps) | frozenset(SCOPE_NAMES)
    plans: dict[str, Plan] = {}
    for name, step in definition.steps.items():
        after = flows.after.get(name, END)
        said_policy = definition.settings.on_error if step.on_error is UNSET else step.on_error
        policy: Policy = "retry" if isinstance(said_policy, Retry) else said_policy
        match step:
            case WebhookStep():
                gaps = _gaps(said_policy)
                answers = name in flows.answers
                plans[name] = _webhook(step, names, after, policy, gaps, flows.resolve, answers=answers)
            case CallStep():
                gaps = _gaps(said_policy)
                plans[name] = _call(step, definition.connectors[step.connector], names, after, policy, gaps)
            case RespondStep(respond=said):
                plans[name] = RespondPlan(
                    compile_template(said.status, names),
                    compile_template(said.headers, names),
                    compile_template(said.body, names),
                    said.body_as,
                    policy,
                    after,
                )
            case DecideStep():
                plans[name] = DecidePlan(_chooser(step, names, after, flows.resolve), policy, after)
            case DelayStep(delay=length):
                plans[name] = WaitPlan(parse_duration(length), None, policy, after)
            case WaitUntilStep(wait_until=instant):
                plans[name] = WaitPlan(0, compile_template(instant, names), policy, after)
            case SplitStep(split=path):
                plans[name] = SplitPlan(compile_expression(path, names), policy, after)
            case ScriptStep(script=function, safe_to_repeat=safe):
                plans[name] = ScriptPlan(function, safe in (True, "yes"), policy, _gaps(said_policy), after)
            case WaitAllStep():
                awaits = (other for other in flows.gathers if other != name and name in flows.gathers[other])
                plans[name] = GatherPlan(frozenset(awaits), policy, after)
            case _:
                continue  # A note never runs.
    mentions = _mentioned(encode_definition(definition))
    if any(functions(step) for step in definition.steps.values()):
        mentions |= {"transaction"}
    notes_success = frozenset(
        name for name in plans if "last_success" in _mentioned(msgspec.json.encode(definition.steps[name]))
    )
    return Program(definition, definition_hash, flows.trigger, plans, mentions, notes_success, _sensitive(plans))


def _mentioned(packed: bytes) -> frozenset[str]:
    """The names around the data that some text of a definition may mean."""
    return frozenset(name.decode() for name in _MENTIONED.findall(packed))


def _sensitive(plans: Mapping[str, Plan]) -> dict[str, frozenset[tuple[str, ...]]]:
    """The sensitive fields of each step; with one, also all that is made from data: lists, scripts, the request."""
    found: dict[str, frozenset[tuple[str, ...]]] = {}
    for name, plan in plans.items():
        if isinstance(plan, WebhookPlan | CallPlan) and plan.contract.sensitive:
            paths = (split_location(location) for location in plan.contract.sensitive)
            found[name] = frozenset(tuple(part for part, _ in path) for path in paths)
    made = [name for name, plan in plans.items() if isinstance(plan, SplitPlan | ScriptPlan)]
    return {**found, **dict.fromkeys([*made, "hit"], frozenset({()}))} if found else {}


def _webhook(
    step: WebhookStep,
    names: frozenset[str],
    after: str,
    policy: Policy,
    gaps: tuple[int, ...],
    resolve: Mapping[str, str],
    *,
    answers: bool,
) -> WebhookPlan:
    contract = Contract(step.fields)
    newer = step.newer_than
    pairs = tuple(
        MatchPair(
            location,
            path_of(location),
            contract.type_at(location),
            compile_expression(earlier, names),
        )
        for location, earlier in step.match.items()
    )
    return WebhookPlan(
        step,
        contract,
        pairs,
        parse_duration(step.park),
        0 if step.hold_for is UNSET else parse_duration(step.hold_for),
        parse_duration(step.answer_within),
        0 if step.dedupe == "off" else parse_duration(step.dedupe.window),
        resolve.get(step.on_timeout, step.on_timeout),
        answers,
        Mark(newer, path_of(newer), contract.type_at(newer)) if newer else None,
        policy,
        gaps,
        after,
    )


def _gaps(policy: Policy | Retry) -> tuple[int, ...]:
    if isinstance(policy, Retry):
        return tuple(map(parse_duration, policy.retry))
    return RETRY_GAPS_NS if policy == "retry" else ()


def _call(
    step: CallStep, connector: Connector, names: frozenset[str], after: str, policy: Policy, gaps: tuple[int, ...]
) -> CallPlan:
    link = None
    if step.url.startswith(LINK_PREFIX):
        target, _, webhook = step.url.removeprefix(LINK_PREFIX).partition("/")
        link = (target, webhook)
    repeat = step.safe_to_repeat
    return CallPlan(
        step,
        connector,
        Contract(step.fields),
        compile_template(step.url or step.path, names),
        compile_template(step.query, names),
        compile_template(step.headers, names),
        compile_template(step.body, names),
        step.body_as,
        parse_duration(connector.timeout if step.timeout is UNSET else step.timeout),
        True if repeat is UNSET else repeat in (True, "yes"),
        link,
        policy,
        gaps,
        after,
    )


def _chooser(step: DecideStep, names: frozenset[str], after: str, resolve: Mapping[str, str]) -> Callable[[Scope], str]:
    if step.cases and isinstance(step.decide, str):
        value = compile_expression(step.decide, names)
        default = resolve.get(step.default, step.default) or after
        cases = {case: resolve.get(target, target) for case, target in step.cases.items()}

        def switch(scope: Scope) -> str:
            text = canonical(value.evaluate(scope), "text")
            return cases.get(text, default) if text is not None else default

        return switch
    holds = compile_condition(step.decide, names)
    then = resolve.get(step.then, step.then) or after
    otherwise = resolve.get(step.else_, step.else_) or after
    return lambda scope: then if holds(scope) else otherwise
