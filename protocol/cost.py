"""What an expression may cost: weighed by what it reads, before it is evaluated, since CEL can not be stopped.

CEL ends after 10,000 rounds of its macros, whatever they loop over. But each round may copy what it reads, a list that
grows by one is copied whole, and `replace` and `join` write a text as often as another one asks for it. So a sender of
a permitted body could hold the loop for many seconds, or take gigabytes, by an expression that does both well for
every real body. The bounds are of values that the expression names, not of all that came.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

ITEMS_MAX = 4_000  # Of a list that a macro goes through: a quarter of a second of the loop, growing with the square.
ROUNDS_MAX = 10_000  # CEL's own bound, of all macros of an expression together.
COPIED_MAX = 128 << 20  # Characters that rounds, `replace` and `join` may write.

_MACRO = re.compile(r"\.\s*(?:map|filter|all|exists|exists_one)\s*\(")
_FILL = re.compile(r"\.\s*(?:replace|join)\s*\(")
_TEXT = r"(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')"
_PLAIN_FILL = re.compile(rf"\.\s*(?:replace\s*\(\s*{_TEXT}\s*,\s*{_TEXT}\s*|join\s*\(\s*(?:{_TEXT})?\s*)\)")
_PATH = re.compile(r"(?<![\w.\]\"'])[a-z_][a-z0-9_]*(?:\.[A-Za-z_]\w*(?!\w|\s*\())*")

Weigh = Callable[[Mapping[str, Any]], str]


def weigher(text: str) -> Weigh | None:
    """How to weigh what an expression reads; None when its cost is bounded by its own length.

    Returns:
        A function of the data, which says what is too much, and "" when nothing is.
    """
    macros = len(_MACRO.findall(text))
    fills = len(_FILL.findall(text))
    if not macros and not fills:
        return None
    paths = [path.split(".") for path in dict.fromkeys(_PATH.findall(text))]
    parts_texts = re.search(r"\.\s*split\s*\(", text) is not None
    plain = fills == len(_PLAIN_FILL.findall(text))

    def weigh(data: Mapping[str, Any]) -> str:
        items, characters = _largest(paths, data)
        if parts_texts:
            items = max(items, characters)
        if macros and items > ITEMS_MAX:
            return f"goes through a list of {items} items, of which there are at most {ITEMS_MAX}"
        rounds = min(items**macros, ROUNDS_MAX) if macros else 0
        written = max(items, characters) * (len(text) if plain else characters) if fills else 0
        copied = max(rounds * characters, written)
        if copied > COPIED_MAX:
            return f"could copy {copied} characters, of which there are at most {COPIED_MAX}"
        return ""

    return weigh


def _largest(paths: list[list[str]], data: Mapping[str, Any]) -> tuple[int, int]:
    """The items of the longest list, and the characters of the longest text, that an expression names."""
    items = characters = 0
    for value in _values([_reached(path, data) for path in paths if path[0] in data]):
        if isinstance(value, str):
            characters = max(characters, len(value))
        else:
            items = max(items, len(value))
    return items, characters


def _reached(path: list[str], data: Any) -> Any:
    for name in path:
        if not isinstance(data, Mapping) or name not in data:
            break
        data = data[name]
    return data


def _values(ahead: list[Any]) -> Iterator[Any]:
    """Every text, list and map within."""
    while ahead:
        value = ahead.pop()
        if isinstance(value, Mapping):
            yield value
            ahead += value.values()
        elif isinstance(value, list):
            yield value
            ahead += value
        elif isinstance(value, str):
            yield value
