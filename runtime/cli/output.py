"""What commands print: tables for people, JSON for machines; and how they end."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.table import Table

OK, FAULTS, USAGE, UNREACHABLE, DAMAGED = 0, 1, 2, 3, 4

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class CommandFailed(Exception):
    """A command can not do what it was told; the message is for the person, the code for the shell."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def fail(code: int, message: str) -> NoReturn:
    """End the command."""
    raise CommandFailed(code, message)


def print_json(value: Any) -> None:
    """One JSON value, on one line when the output is no terminal."""
    packed = msgspec.json.encode(value)
    if sys.stdout.isatty():
        packed = msgspec.json.format(packed, indent=2)
    sys.stdout.write(packed.decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows under their names."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table)
