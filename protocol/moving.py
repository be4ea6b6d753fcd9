"""Held transactions move to the current version of their cycle at their next pass (section 11).

1. A transaction moves when a request runs it from a webhook: not in the middle of a pass, and not when a hold expires.
2. It moves when, from every webhook at which a request can still run it, the version finds what its steps map: `weigh`.
   Otherwise it stays on its own version, and the next pass weighs again.
3. That it moved is a journaled fact: replay never weighs.

`compare` says what two versions have in common from one webhook on. It is a pure function of the two and the webhook,
so it is computed once for each; what a transaction itself must have is left to be looked up in its row.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from protocol.definition import KINDS, CallStep, Definition, FieldSpec, SplitStep, Step, WaitAllStep, WebhookStep
from protocol.events import TransactionMoved
from protocol.evolve import left_from
from protocol.expression import ExpressionError
from protocol.fields import spec_of, split_location
from protocol.flow import before, flow
from protocol.mapped import Mapped, Path, mapped_by
from protocol.matching import read_hit
from protocol.program import SCOPE_NAMES, Program, WebhookPlan
from protocol.state import HitRow, State, TransactionRow
from protocol.turn import Turn, scope

PAIRS_MAX = 4096  # Comparisons kept: those of 64 deploys of 64 webhooks.
VERSIONS_MAX = 64  # That one transaction runs in its life; then it stays on the last.

Location = tuple[tuple[str | int, bool], ...]


class Need(Struct, frozen=True):
    """A value from before the webhook that a transaction must have for the steps after it."""

    by: str
    mapped: Mapped
    required: bool  # Whether null is not enough.


class Compared(Struct, frozen=True):
    """Two versions, from one webhook on.

    Attributes:
        reasons: why no transaction can move here.
        needs: what each must have.
        same_match: whether both match by the same, so that what a hold is found by stays what it is.
    """

    reasons: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    same_match: bool = True


class Weighed(Struct, frozen=True):
    """Whether a transaction moves: why it stays, or what its holds are found by from then on."""

    reasons: list[str]
    keys: dict[str, list[str]]


def move(turn: Turn, row: TransactionRow, hit: HitRow) -> None:
    """Let a transaction whose pass begins run the current version, if that finds all it needs."""
    current = turn.state.cycle(row.cycle).definition_hash
    if row.definition_hash == current or hit.step not in row.reached:
        return  # A first pass runs the version that was asked for, also one that a redrive named.
    new = turn.state.program(current)
    weighed = weigh(turn.state, row, new, hit.step)
    if not weighed.reasons and _takes(new.webhook(hit.step), hit, weighed.keys.get(hit.step)):
        turn.emit(TransactionMoved(row.cycle, turn.at, row.id, hit.step, current, weighed.keys))


def _takes(plan: WebhookPlan, hit: HitRow, key: Sequence[str] | None) -> bool:
    """Whether the version takes the request too: one that an older version accepted may break its contract."""
    data, faults = read_hit(plan, hit)
    return not (faults and plan.step.check == "reject") and (key is None or plan.key(data) == tuple(key))


def weigh(state: State, row: TransactionRow, new: Program, step: str) -> Weighed:
    """Whether a transaction that a request runs from a webhook moves to another version."""
    old = state.program(row.definition_hash)
    data, holds = left_from(row, step)
    reasons = [f"it has run {VERSIONS_MAX} other versions"] if len(row.earlier) >= VERSIONS_MAX else []
    keys: dict[str, list[str]] = {}
    for hold in holds:
        compared = compare(old, new, hold)
        had = data[: data.index(hold)] if hold in data else data
        found = [*compared.reasons, *(lack for need in compared.needs if (lack := _lack(need, row.data, had)))]
        if not found and not compared.same_match:
            key = _key(state, row, new, hold)
            if key is None:
                found.append(f"{hold} has no value to match by in this version")
            else:
                keys[hold] = list(key)
        reasons += (reason for reason in found if reason not in reasons)
    return Weighed(reasons, {} if reasons else keys)


def _key(state: State, row: TransactionRow, new: Program, hold: str) -> tuple[str, ...] | None:
    try:
        return new.webhook(hold).key_of(scope(state, row, new))
    except ExpressionError:
        return None


def _lack(need: Need, data: Mapping[str, Any], had: Sequence[str]) -> str:
    """What a transaction does not have of what is needed; "" when it is there."""
    mapped = need.mapped
    if mapped.step in had and _leads_to(data[mapped.step], mapped.path, required=need.required):
        return ""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in mapped.path)
    return f"{need.by} maps {mapped.text}, and it has no {mapped.step}{written}"


def _leads_to(value: Any, path: Path, *, required: bool) -> bool:
    """Whether a path leads somewhere in the data of a step, as an expression walks it."""
    for part in path:
        match part, value:
            case int(), list() if part < len(value):
                value = value[part]
            case str(), dict() if part in value:
                value = value[part]
            case _:
                return False
    return not required or value is not None


@lru_cache(maxsize=PAIRS_MAX)
def compare(old: Program, new: Program, step: str) -> Compared:
    """What holds of every transaction that moves from one version to another at a webhook."""
    plan, own = new.plans.get(step), old.webhook(step)
    if not isinstance(plan, WebhookPlan) or not plan.match:
        return Compared((f"{step} is no webhook that holds in this version",))
    locations, own_locations = (sorted(pair.location for pair in one.match) for one in (plan, own))
    if locations != own_locations:
        said = f"{step} matches by {', '.join(locations)} in this version, and by {', '.join(own_locations)} in its own"
        return Compared((said,))
    reasons = list(_branches(old.definition, new.definition, step))
    needs: list[Need] = []
    varies = old.definition.variables != new.definition.variables
    same_match = _match(plan) == _match(own) and not (
        varies and any("vars" in one.earlier.references for one in own.match)
    )
    if not same_match and any("hit" in pair.earlier.references for pair in plan.match):
        reasons.append(f"{step} matches by the request of an earlier pass, which is no longer there")
    for by, mapped in _mapped_from_before(new.definition, step, same_match=same_match):
        reasons += _undeclared(by, mapped, old.definition, new.definition)
        if not mapped.soft:
            needs.append(Need(by, mapped, _is_required(new.definition, mapped)))
    return Compared(tuple(dict.fromkeys(reasons)), tuple(needs), same_match)


def _match(plan: WebhookPlan) -> list[tuple[str, str, str]]:
    return [(pair.location, pair.type, pair.earlier.text) for pair in plan.match]


def _branches(old: Definition, new: Definition, step: str) -> Iterator[str]:
    """A transaction that is an item of a list, or came from a gathering, must be the same in both versions.

    Else it would be split once more, or a `wait_all` that counts what is on its way would not know of it.
    """
    kinds = SplitStep | WaitAllStep
    found = [
        {name for name in before(one, flow(one).targets, step) if isinstance(one.steps[name], kinds)}
        for one in (old, new)
    ]
    for name in sorted(found[0] ^ found[1]):
        which = "its own version" if name in found[0] else "this version"
        yield f"{name} splits or gathers before {step} in {which} only"


def _mapped_from_before(definition: Definition, step: str, *, same_match: bool) -> Iterator[tuple[str, Mapped]]:
    """What the steps that may run from a webhook on map, and a pass from there does not surely make before.

    A step that need not have run before the webhook either, and without which the other goes on, is not asked for.
    """
    steps, targets = definition.steps, flow(definition).targets
    names = frozenset(steps) | frozenset(SCOPE_NAMES)
    earlier = before(definition, targets, step)
    ahead = _ahead(definition, targets, step)
    without: dict[str, set[str]] = {}  # What still lies ahead when a step is left out: the rest comes after it.
    for by in (name for name in steps if name in ahead or (name == step and not same_match)):
        for mapped in mapped_by(steps[by], names):
            if mapped.step not in steps or (mapped.soft and mapped.step not in earlier):
                continue
            if mapped.step not in without:
                without[mapped.step] = _ahead(definition, targets, step, mapped.step)
            made = mapped.step != by and (mapped.step == step or by not in without[mapped.step])
            if not made or (by == step and not same_match):
                yield by, mapped


def _ahead(definition: Definition, targets: Mapping[str, tuple[str, ...]], step: str, without: str = "") -> set[str]:
    """What one transaction may run from a step on: what lies behind a `wait_all` is run by another."""
    found: set[str] = set()
    ahead = list(targets[step])
    while ahead:
        name = ahead.pop()
        if name in targets and name not in found and name != without:
            found.add(name)
            ahead += () if isinstance(definition.steps[name], WaitAllStep) else targets[name]
    return found


def _undeclared(by: str, mapped: Mapped, old: Definition, new: Definition) -> Iterator[str]:
    """What a step maps, and transactions of the old version can not have, by its declarations."""
    said, step = f"{by} maps {mapped.text}", mapped.step
    if step not in old.steps:
        yield f"{said}, and its version has no step {step}"
    elif _kind(old.steps[step]) != _kind(new.steps[step]):
        yield f"{said}, and {step} is of another kind in its version: {_kind(old.steps[step])}"
    else:
        fields = _fields(old.steps[step])
        for names, (location, spec) in _fields(new.steps[step]).items():
            if not _touches(names, mapped.path):
                continue
            if names not in fields:
                yield f"{said}, and its version does not declare {step}.{location}"
            elif spec.type not in ("any", fields[names][1].type):
                yield f"{said}, and {step}.{location} is {fields[names][1].type} in its version, not {spec.type}"


def _is_required(definition: Definition, mapped: Mapped) -> bool:
    declared = _fields(definition.steps[mapped.step]).get(tuple((part, False) for part in mapped.path))
    return declared is not None and declared[1].required and declared[1].default is None


def _touches(location: Location, path: Path) -> bool:
    """Whether a declared location is, holds, or lies within what is mapped."""
    names = [part for part in path if isinstance(part, str)]
    return all(one == other for (one, _), other in zip(location, names, strict=False))


def _fields(step: Step) -> dict[Location, tuple[str, FieldSpec]]:
    if not isinstance(step, WebhookStep | CallStep):
        return {}
    return {tuple(split_location(location)): (location, spec_of(said)) for location, said in step.fields.items()}


def _kind(step: Step) -> str:
    """What sort of data a step has."""
    return "call" if isinstance(step, CallStep) else next(name for name, kind in KINDS.items() if kind is type(step))
