"""The graph of a cycle: what follows each step, and what that means for callers."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from protocol.definition import (
    END,
    DecideStep,
    Definition,
    DelayStep,
    NoteStep,
    RespondStep,
    WaitAllStep,
    WaitUntilStep,
    WebhookStep,
)

PAUSES = (WebhookStep, DelayStep, WaitUntilStep)  # A loop through one of these can not spin.


class Flow(Struct, frozen=True):
    """The steps as a graph; notes are left out.

    Attributes:
        trigger: the step that starts transactions, "" when there is none.
        resolve: the step that really runs when a step is named: notes lead to what follows them.
        after: what runs after a step that makes no choice.
        targets: everything that may run right after a step.
        answers: webhooks from which a pass can reach a respond before it holds.
        gathers: each `wait_all`, and the other ones that lie after it.
    """

    trigger: str
    resolve: dict[str, str]
    after: dict[str, str]
    targets: dict[str, tuple[str, ...]]
    answers: frozenset[str]
    gathers: dict[str, frozenset[str]]


def flow(definition: Definition) -> Flow:
    """The graph of a definition; targets that do not exist are kept as they are written."""
    steps = definition.steps
    names = list(steps)
    written = dict(zip(names, [*names, END][1:], strict=True))

    def runnable(target: str) -> str:
        seen: set[str] = set()
        while target in steps and isinstance(steps[target], NoteStep) and target not in seen:
            seen.add(target)
            target = steps[target].next or written[target]
        return target

    after = {name: runnable(steps[name].next or written[name]) for name in names if runnable(name) == name}
    targets = {name: _targets(definition, name, after[name], runnable) for name in after}
    first = next((name for name in after), "")
    trigger = first if first and isinstance(steps[first], WebhookStep) else ""
    webhooks = [name for name in after if isinstance(steps[name], WebhookStep)]
    resolve = {name: runnable(name) for name in names}
    gathers = {
        name: frozenset(one for one in reachable(targets, name) if isinstance(steps.get(one), WaitAllStep))
        for name in after
        if isinstance(steps[name], WaitAllStep)
    }
    answers = frozenset(name for name in webhooks if _answers(definition, targets, name))
    return Flow(trigger, resolve, after, targets, answers, gathers)


def reachable(targets: Mapping[str, tuple[str, ...]], step: str) -> set[str]:
    """Every step that may run after a step."""
    found: set[str] = set()
    ahead = list(targets.get(step, ()))
    while ahead:
        name = ahead.pop()
        if name in targets and name not in found:
            found.add(name)
            ahead += targets[name]
    return found


def before(definition: Definition, targets: Mapping[str, tuple[str, ...]], step: str) -> set[str]:
    """The steps whose data a step may use: all that lead to it. Nothing is mapped from before a `wait_all`."""
    leading: dict[str, list[str]] = {}
    for name, following in targets.items():
        for target in following:
            leading.setdefault(target, []).append(name)
    found: set[str] = set()
    ahead = [step]
    while ahead:
        for name in leading.get(ahead.pop(), ()):
            if name not in found:
                found.add(name)
                if not isinstance(definition.steps[name], WaitAllStep):
                    ahead.append(name)
    return found


def _targets(definition: Definition, name: str, after: str, runnable: Callable[[str], str]) -> tuple[str, ...]:
    step = definition.steps[name]
    match step:
        case DecideStep():
            if step.cases:
                chosen = [*step.cases.values(), step.default or after]
            else:
                chosen = [step.then or after, step.else_ or after]
        case WebhookStep() if step.match and step.hold_for and step.on_timeout not in ("fail", END):
            chosen = [after, step.on_timeout]
        case _:
            chosen = [after]
    return tuple(dict.fromkeys(runnable(target) for target in chosen))


def _answers(definition: Definition, targets: dict[str, tuple[str, ...]], webhook: str) -> bool:
    """Whether a respond can be reached from a webhook without passing another one."""
    seen: set[str] = set()
    ahead = list(targets[webhook])
    while ahead:
        name = ahead.pop()
        step = definition.steps.get(name)
        if isinstance(step, RespondStep):
            return True
        if step is None or isinstance(step, WebhookStep | WaitAllStep) or name in seen:
            continue
        seen.add(name)
        ahead += targets[name]
    return False


def passless_loop(found: Flow, definition: Definition) -> list[str]:
    """A loop of steps that passes no webhook and no wait, as the names on it; empty when there is none."""
    done: set[str] = set()
    for start in found.after:
        path: list[str] = []
        ahead = [iter((start,))]  # A stack of our own: a cycle may have more steps than Python nests calls.
        while ahead:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                return path[path.index(name) :]
            elif name in found.targets and name not in done and not isinstance(definition.steps[name], PAUSES):
                path.append(name)
                ahead.append(iter(found.targets[name]))
    return []
