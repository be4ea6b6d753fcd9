"""The lines of a TOML text by the keys that stand there, which the parser of the standard library does not tell.

The shortest run of lines that is TOML by itself is one statement: a table's head, or a key and its value. So each is
given to that parser alone, and nothing of its grammar is written here again.
"""

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

SPENT_MAX = 1 << 20  # Characters given to the parser, half a second: each line of a long statement parses it again.
DEPTH_MAX = 8  # Of keys within one statement; what lies deeper stands near it.

Path = tuple[str, ...]


def toml_lines(text: str) -> dict[Path, int]:
    """The line of each key of a text that is TOML, 1-based; of a very long one those that come first."""
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    statement, begun, spent = "", 1, 0
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        spent += len(statement)
        if spent > SPENT_MAX:
            break
        with suppress(ValueError, RecursionError):  # It goes on in the next line.
            said = tomllib.loads(statement)
            head = statement.lstrip()
            if head.startswith("["):
                table = _table(said, arrays, several=head.startswith("[["))
                lines.setdefault(table, begun)
            else:
                for path in _paths(said, DEPTH_MAX):
                    lines.setdefault((*table, *path), begun)
            statement, begun = "", number + 1
    return lines


def _table(said: dict[str, Any], arrays: dict[Path, int], *, several: bool) -> Path:
    """The path of a table by its head; `arrays` has the number of the latest table of each array of them."""
    keys: list[str] = []
    inner: Any = said
    while isinstance(inner, dict) and inner:
        ((key, inner),) = inner.items()
        keys.append(key)
    path: Path = ()
    for at, key in enumerate(keys, 1):
        path = (*path, key)
        if several and at == len(keys):
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, str(arrays[path]))
    return path


def _paths(value: Any, depth: int) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items if depth else ():
        yield (str(key),)
        yield from ((str(key), *path) for path in _paths(item, depth - 1))
