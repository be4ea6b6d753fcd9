"""Requests and holds brought together (section 6.2), also across versions that match by other locations or types.

A hold is filed under the values by which its own version matches, and a request comes to the current one. So a request
looks under what it gives to each of the forms in which versions of its cycle match, and a transaction that it finds
must be of that form: each is matched as its own version says, however the current one does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.admission import QUERY_METHODS
from protocol.bodies import BodyError, repeats_names
from protocol.canonical import canonical
from protocol.cloudevents import read_event
from protocol.definition import FieldType
from protocol.expression import ExpressionError
from protocol.fields import Fault
from protocol.inputs import Deploy, Hit
from protocol.loading import decode_definition
from protocol.program import MATCHED_CHARACTERS_MAX, Program, WebhookPlan, compile_program
from protocol.state import CycleRow, HitRow, State, TransactionRow
from protocol.turn import scope

FORMS_MAX = 8  # Older forms of one webhook that are looked under: a request pays for each. Holds of others expire.

Form = tuple[tuple[str, FieldType], ...]
"""What a webhook matches by: locations in the order of the key, each with the type by which values are compared."""


def read_hit(plan: WebhookPlan, hit: Hit | HitRow) -> tuple[dict[str, Any], list[Fault]]:
    """What a hit gives its step, and its faults: the declared fields of its body, or of its query for GET and DELETE.

    A body that can not be read gives nothing: the step does not check its requests (`check: off`).
    """
    if hit.method in QUERY_METHODS:
        return plan.contract.read(hit.query, repeats=True)
    try:
        body, _ = read_event(hit.headers, hit.body, hit.content_type)
        return plan.contract.read(body, repeats=repeats_names(hit.content_type))
    except BodyError:
        return {}, []


def form_of(program: Program, step: str) -> Form:
    """The form in which a version matches requests to a step; empty when it holds no transaction there."""
    plan = program.plans.get(step)
    return tuple((pair.location, pair.type) for pair in plan.match) if isinstance(plan, WebhookPlan) else ()


def forms_after(state: State, cycle: CycleRow, given: Deploy) -> dict[str, list[str]]:
    """The older versions, one for each form, that requests look under once a definition is the current one."""
    if cycle.definition_hash == given.hash:
        return cycle.forms
    before = state.program(cycle.definition_hash)
    new = compile_program(decode_definition(given.definition), given.hash)
    found: dict[str, list[str]] = {}
    for step in dict.fromkeys([*cycle.forms, *before.plans]):
        forms: dict[Form, str] = {}
        for version in (cycle.definition_hash, *reversed(cycle.forms.get(step, ()))):
            forms.setdefault(form_of(state.program(version), step), version)
        forms.pop(form_of(new, step), None)
        forms.pop((), None)
        if forms:
            found[step] = list(forms.values())[:FORMS_MAX][::-1]
    return found


def find_candidates(state: State, hit: Hit | HitRow, key: tuple[str, ...], limit: int) -> list[int]:
    """The transactions that match a hit, most recent first; `key` is what it gives to the current version."""
    cycle, step = state.cycle(hit.cycle), hit.step
    versions = cycle.forms.get(step)
    if not versions:
        return state.find_latest("reached", (hit.cycle, step, *key), limit)
    keys: list[tuple[str, tuple[str, ...] | None]] = [(cycle.definition_hash, key)]
    for version in versions:
        plan = state.program(version).webhook(step)
        keys.append((version, plan.key(read_hit(plan, hit)[0])))
    found: set[int] = set()
    for version, values in keys:
        if values is None:
            continue
        form = form_of(state.program(version), step)
        for one in state.find_latest("reached", (hit.cycle, step, *values), limit):
            if form_of(state.program(state.transaction(one).definition_hash), step) == form:
                found.add(one)
    return sorted(found, reverse=True)[:limit]


def find_parked(state: State, row: TransactionRow, step: str, key: Sequence[str], limit: int) -> list[int]:
    """The hits that wait for a transaction at a hold, which its key is of, in order of arrival.

    Each is filed under what it gave to the version that was current when it came.
    """
    cycle = state.cycle(row.cycle)
    versions = cycle.forms.get(step)
    if not versions:
        return state.find("parked", (row.cycle, step, *key), limit)
    plan = state.program(row.definition_hash).webhook(step)
    keys = {tuple(key)}
    for version in (cycle.definition_hash, *versions):
        keys |= _filed(plan, scope(state, row), form_of(state.program(version), step))
    found = {one for filed in keys for one in state.find("parked", (row.cycle, step, *filed), limit)}
    return sorted(one for one in found if plan.key(read_hit(plan, state.hit(one))[0]) == tuple(key))[:limit]


def _filed(plan: WebhookPlan, names: Mapping[str, Any], form: Form) -> set[tuple[str, ...]]:
    """What a hit of a form is filed under if it is for a transaction with this data; none when that can not be told."""
    try:
        values = {pair.location: pair.earlier.evaluate(names) for pair in plan.match}
    except ExpressionError:
        return set()
    texts = [canonical(values.get(location), kind) for location, kind in form]
    filed = tuple(text for text in texts if text is not None and len(text) <= MATCHED_CHARACTERS_MAX)
    return {filed} if filed and len(filed) == len(texts) else set()
