"""What the steps of a definition map from each other: each expression, and the paths that it walks.

A plain path says what it reads. Of other expressions the paths are found in their text, and where one can not be told
it counts as the whole step: rather too much is taken for mapped than too little.
"""

import re
from collections.abc import Collection, Iterator

from msgspec import UNSET, Struct

from protocol.definition import (
    CallStep,
    Condition,
    DecideStep,
    RespondStep,
    SplitStep,
    Step,
    WaitUntilStep,
    WebhookStep,
)
from protocol.expression import Expression, compile_expression, compile_template, path_parts

_WALK = re.compile(
    r"""
    [rRbB]*(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')                 # A text, which names nothing,
    |(?<![\w.\])}])([a-z_]\w*)                                      # or a name, and the fields and items it leads to;
    ((?:\.[A-Za-z_]\w*(?!\w*\s*\()|\[\d{1,6}\]|\["[^"\\]*"\])*)  # a function that is called on it is none of them.
    """,
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_PART = re.compile(r"\.(\w+)|\[(\d+)\]|\[\"([^\"]*)\"\]", re.ASCII)

Path = tuple[str | int, ...]


class Mapped(Struct, frozen=True):
    """One value that a step maps from another.

    Attributes:
        text: the expression.
        step: the step whose data it is.
        path: the names and indexes that lead to it there; empty for all of it.
        soft: whether the step goes on without it: the left side of a comparison is then null.
    """

    text: str
    step: str
    path: Path
    soft: bool


def mapped_by(step: Step, names: Collection[str]) -> list[Mapped]:
    """Everything that a step maps from the named steps; a script is given whatever there is, and maps nothing."""
    found: list[Mapped] = []
    for expression, soft in _expressions(step, names):
        found += [Mapped(expression.text, *path, soft) for path in _paths(expression, names)]
    return found


def _expressions(step: Step, names: Collection[str]) -> Iterator[tuple[Expression, bool]]:
    """Each expression of a step, and whether it may lead nowhere."""
    templates: list[object] = []
    match step:
        case WebhookStep():
            for earlier in step.match.values():
                yield compile_expression(earlier, names), False
        case CallStep():
            templates = [step.url or step.path, step.query, step.headers, step.body]
        case RespondStep(respond=said):
            templates = [said.status, said.headers, said.body]
        case DecideStep(decide=condition):
            yield from _conditions(condition, names)
        case WaitUntilStep(wait_until=instant):
            templates = [instant]
        case SplitStep(split=items):
            yield compile_expression(items, names), False
        case _:
            pass
    for value in templates:
        for expression in compile_template(value, names).expressions:
            yield expression, False


def _conditions(condition: Condition | str, names: Collection[str]) -> Iterator[tuple[Expression, bool]]:
    if isinstance(condition, str):
        yield compile_expression(condition, names), False
        return
    if isinstance(condition.left, str):
        yield compile_expression(condition.left, names), True
    if condition.right is not UNSET:
        for expression in compile_template(condition.right, names).expressions:
            yield expression, False
    for parts in (condition.all, condition.any):
        for part in [] if parts is UNSET else parts:
            yield from _conditions(part, names)


def _paths(expression: Expression, names: Collection[str]) -> Iterator[tuple[str, Path]]:
    if expression.is_plain_path:
        root, *rest = path_parts(expression.text)
        yield str(root), tuple(rest)
        return
    found: set[tuple[str, Path]] = set()
    for walk in _WALK.finditer(expression.text):
        if walk[1] in names:
            parts = (int(index) if index else name or key for name, index, key in _PART.findall(walk[2]))
            found.add((walk[1], tuple(parts)))
    yield from sorted(found, key=repr)
    for root in sorted(expression.references - {root for root, _ in found}):
        yield root, ()
