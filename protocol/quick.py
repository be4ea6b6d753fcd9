"""The fast way for the commonest expressions: comparisons and sums of paths, numbers and texts, with `&&`, `||`, `!`.

CEL takes 5 µs and more for each of them; this takes one. It decides nothing: wherever an operand is not of the type
for which both surely agree (64-bit integers that stay such, equality of texts and truths), or leads nowhere, it is
`Unsure`, and CEL is asked. A property test holds what is sure against CEL.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Quick = Callable[[Mapping[str, Any]], Any]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,18})(?![\w.])|\"(?P<text>[^\"\\\0\1\r\n]*)\"|'(?P<quoted>[^'\\\0\1\r\n]*)'"
    r"|(?P<path>[a-z_][a-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)(?![\w.\[({'\"])"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*<>()!]))"
)
_WORDS: dict[str, Any] = {"true": True, "false": False}
_UNREAD = frozenset({"null", "in"})  # Words that are no names, and that only CEL reads.
_ORDERS: dict[str, Callable[[int, int], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_SUMS: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}
_EQUALS = {"==": True, "!=": False}
_COMPARABLE = (int, str, bool)
INT_MIN, INT_MAX = -(2**63), 2**63 - 1  # Of CEL.
LEVELS_MAX = 20  # Of brackets; deeper ones are CEL's.


class Unsure(Exception):
    """Only CEL can say."""


def compile_quick(text: str) -> Quick | None:
    """The fast way of an expression that CEL has compiled; None when it holds anything else than the above."""
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            return None
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    reader = _Reader(tokens)
    try:
        quick = reader.either(0)
    except Unsure:
        return None
    return quick if reader.at == len(tokens) else None


class _Reader:
    """Reads tokens by CEL's precedence, lowest first."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def _sign(self, *signs: str) -> str:
        """The sign that comes next, taken, if it is one of these."""
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "sign" and self.tokens[self.at][1] in signs:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return ""

    def either(self, level: int) -> Quick:
        left = self._both(level)
        while self._sign("||"):
            left = _joined(left, self._both(level), ends_at=True)
        return left

    def _both(self, level: int) -> Quick:
        left = self._relation(level)
        while self._sign("&&"):
            left = _joined(left, self._relation(level), ends_at=False)
        return left

    def _relation(self, level: int) -> Quick:
        left = self._sum(level)
        while sign := self._sign(*_ORDERS, *_EQUALS):
            right = self._sum(level)
            left = _equal(left, right, _EQUALS[sign]) if sign in _EQUALS else _integers(left, right, _ORDERS[sign])
        return left

    def _sum(self, level: int) -> Quick:
        left = self._product(level)
        while sign := self._sign("+", "-"):
            left = _integers(left, self._product(level), _SUMS[sign])
        return left

    def _product(self, level: int) -> Quick:
        left = self._operand(level)
        while self._sign("*"):
            left = _integers(left, self._operand(level), _SUMS["*"])
        return left

    def _operand(self, level: int) -> Quick:
        if level > LEVELS_MAX or self.at == len(self.tokens):
            raise Unsure
        if self._sign("!"):
            return _negated(self._operand(level + 1))
        if self._sign("("):
            inner = self.either(level + 1)
            if not self._sign(")"):
                raise Unsure
            return inner
        kind, said = self.tokens[self.at]
        self.at += 1
        match kind:
            case "number":
                return _constant(int(said))
            case "text" | "quoted":
                return _constant(said)
            case "path" if said in _WORDS:
                return _constant(_WORDS[said])
            case "path" if said not in _UNREAD:
                return _path(said.split("."))
            case _:
                raise Unsure


def _constant(value: Any) -> Quick:
    return lambda _: value


def _path(names: list[str]) -> Quick:
    first, rest = names[0], tuple(names[1:])

    def walk(scope: Mapping[str, Any]) -> Any:
        try:
            value = scope[first]
            for name in rest:
                value = value[name]
        except (KeyError, TypeError):
            raise Unsure from None
        return value

    return walk


def _integers(left: Quick, right: Quick, work: Callable[[int, int], int]) -> Quick:
    """Two integers compared or added up; a result beyond 64 bits is an error, which CEL words."""

    def evaluate(scope: Mapping[str, Any]) -> Any:
        one, other = left(scope), right(scope)
        if type(one) is not int or type(other) is not int:
            raise Unsure
        result = work(one, other)
        if not INT_MIN <= result <= INT_MAX:
            raise Unsure
        return result

    return evaluate


def _equal(left: Quick, right: Quick, meant: bool) -> Quick:
    def evaluate(scope: Mapping[str, Any]) -> Any:
        one, other = left(scope), right(scope)
        if type(one) is not type(other) or type(one) not in _COMPARABLE:
            raise Unsure
        return (one == other) is meant

    return evaluate


def _joined(left: Quick, right: Quick, *, ends_at: bool) -> Quick:
    """`&&` and `||`: the left side may settle it, and then no error of the right one counts (CEL, 5.2)."""

    def evaluate(scope: Mapping[str, Any]) -> Any:
        first = left(scope)
        if type(first) is not bool:
            raise Unsure
        if first is ends_at:
            return first
        second = right(scope)
        if type(second) is not bool:
            raise Unsure
        return second

    return evaluate


def _negated(inner: Quick) -> Quick:
    def evaluate(scope: Mapping[str, Any]) -> Any:
        value = inner(scope)
        if type(value) is not bool:
            raise Unsure
        return not value

    return evaluate
