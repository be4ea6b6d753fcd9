"""The shape of the code, held by tests: where packages lie, which way imports go, and how long things may be.

1. `protocol` ← `journal` ← `runtime`: an import goes left, never right.
2. `protocol` imports only what can not see a clock, chance, a file, a socket or a thread.
3. `runtime` meets `journal` at its front door.
4. A file has at most 400 lines, a function at most 70.
"""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "protocol": {"protocol"},
    "journal": {"protocol", "journal"},
    "runtime": {"protocol", "journal", "runtime"},
}
PURE = {
    "abc", "base64", "binascii", "bisect", "collections", "collections.abc", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "difflib",
    "email.message", "email.parser", "email.policy", "email.utils", "enum", "fractions", "functools", "hashlib",
    "heapq", "hmac",
    "html", "http", "io", "itertools", "json", "math", "operator", "re", "string", "struct", "textwrap", "tomllib",
    "types", "typing", "unicodedata", "urllib.parse", "zlib",
    "xml.parsers.expat", "xmltodict",
    "cel_expr_python", "cel_expr_python.ext", "msgspec", "msgspec.json", "msgspec.msgpack", "msgspec.structs",
    "ruamel.yaml", "ruamel.yaml.comments", "ruamel.yaml.composer", "ruamel.yaml.error",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "input", "print", "exec", "eval", "__import__", "breakpoint"}
CLOCK_METHODS = {
    "now",
    "utcnow",
    "today",
    "formatdate",
    "localtime",
    "make_msgid",
}  # Of modules that are pure otherwise.
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    """A file as a person names it."""
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    """The top-level package of a file."""
    return path.relative_to(ROOT).parts[0]


def tree_of(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(), name_of(path))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full module name of every import, those inside functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def impure(tree: ast.Module) -> list[str]:
    """What in a file reaches out of the pure core: imports that are not known to be pure, and telling calls."""
    found = [
        f"line {line} imports {module}"
        for line, module in imports(tree)
        if module not in PURE and module.partition(".")[0] != "protocol"
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=called) if called in IMPURE_BUILTINS:
                    found.append(f"line {node.lineno} calls {called}()")
                case ast.Attribute(attr=called) if called in CLOCK_METHODS:
                    found.append(f"line {node.lineno} calls .{called}()")
                case _:
                    pass
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_given_an_import_of_a_package_then_it_comes_from_this_repository(package: str) -> None:
    """A package of the same name elsewhere on the path would be tested in our place."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_given_a_file_then_its_imports_go_one_way(path: Path) -> None:
    """Rule 1; relative imports are refused too, since they hide where they lead."""
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package_of(path)]
    wrong = [
        f"{name_of(path)}:{line} imports {module}"
        for line, module in imports(tree_of(path))
        if module.partition(".")[0] in {*forbidden, "tests", "bench", ""}
    ]
    assert not wrong


@pytest.mark.parametrize("path", [path for path in FILES if package_of(path) == "protocol"], ids=name_of)
def test_given_a_file_of_the_core_then_it_is_pure(path: Path) -> None:
    """Rule 2; a module that is missing in PURE is added there only if it has no clock, chance or I/O."""
    assert not impure(tree_of(path))


@pytest.mark.parametrize(
    "text",
    [
        "import trio", "import socket", "import time", "import random", "import secrets", "import os", "import logging",
        "import asyncio", "import threading", "from pathlib import Path", "import os.path as p", "import http.client",
        "import uuid", "import tempfile", "import urllib.request", "def f():\n    import time",
        "import datetime\ndatetime.datetime.now()", "open('x')",
    ],
)  # fmt: skip
def test_given_something_impure_then_the_guard_sees_it(text: str) -> None:
    """A guard that never refuses anything would pass for one that holds."""
    assert impure(ast.parse(text))


@pytest.mark.parametrize("path", [path for path in FILES if package_of(path) == "journal"], ids=name_of)
def test_given_a_file_of_the_journal_then_it_knows_neither_trio_nor_http(path: Path) -> None:
    """The log blocks, and is called from a thread: it can be checked and salvaged without a server."""
    foreign = {"trio", "asyncio", "httpx", "hypercorn", "quart", "quart_trio", "socket", "http"}
    assert not [module for _, module in imports(tree_of(path)) if module.partition(".")[0] in foreign]


@pytest.mark.parametrize("path", [path for path in FILES if package_of(path) == "runtime"], ids=name_of)
def test_given_a_file_of_the_runtime_then_it_meets_the_journal_at_its_front_door(path: Path) -> None:
    """Rule 3: whatever lies behind `from journal import …` may change without the runtime."""
    tree = tree_of(path)
    behind = [module for _, module in imports(tree) if module.startswith("journal.")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "journal":
            behind += [alias.name for alias in node.names if alias.name not in journal.__all__]
    assert not behind


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_given_a_file_then_it_can_be_read_in_one_sitting(path: Path) -> None:
    """Rule 4; a function counts with the functions inside it, its decorators aside."""
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES_MAX, f"{name_of(path)} has {lines} lines: split it by concern"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{name_of(path)}:{node.lineno} {node.name} has {lines} lines"
