"""How a failure tells what it found: not at all where that is, or was made from, something sensitive.

Messages are journaled, logged, answered and sent as alerts, so this is decided where they are made.
"""

import re
from collections.abc import Iterable
from typing import Any

from protocol.expression import Expression, ExpressionError, is_path, path_parts
from protocol.fields import HIDDEN, show
from protocol.program import Program

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def shown(program: Program, expressions: Iterable[Expression], value: Any) -> str:
    """A value that these expressions gave."""
    return HIDDEN if any(_reads_hidden(program, one) for one in expressions) else show(value)


def _reads_hidden(program: Program, expression: Expression) -> bool:
    if not expression.is_plain_path:
        return not expression.references.isdisjoint(program.sensitive)
    step, *names = (part for part in path_parts(expression.text) if isinstance(part, str))
    if names[:1] == ["body"]:  # The raw body of a call's answer.
        names = names[1:]
    return any(path[: len(names)] == tuple(names[: len(path)]) for path in program.sensitive.get(step, ()))


def told(program: Program, fault: ExpressionError) -> str:
    """What is wrong with an expression; CEL may quote what it was evaluated over."""
    if is_path(fault.expression) or program.sensitive.keys().isdisjoint(_NAME.findall(fault.expression)):
        return str(fault)
    return f"{fault.shown}: it fails on {HIDDEN}"
