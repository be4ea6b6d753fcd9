"""What commands print: tables for people, JSON for machines; and how they end."""

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import msgspec
from cyclopts import Parameter
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

OK, FAULTS, USAGE, UNREACHABLE, DAMAGED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 4, 130, 141

CODES = (
    "Exit codes: 0 done, 1 faults or changes found or refused, 2 usage, 3 no server answers, 4 the journal is damaged, "
    "130 interrupted, 141 nobody reads the output any more."
)
BAR_EVERY = 1000  # Steps between two looks of a progress bar, which cost more than a step does.

Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for machines.")]

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


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest valid name, or at all there are."""
    names = sorted(known)
    near = get_close_matches(name, names, 1)
    return f" (did you mean {near[0]}?)" if near else f"; there are {', '.join(names) or 'none'}"


def plain(text: str) -> str:
    """A text that a terminal takes as text: what would steer it is written as Python writes it."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def print_line(text: str) -> None:
    """One line, as it is; data of others goes through here, never through markup."""
    sys.stdout.write(plain(text) + "\n")


def print_json(value: Any) -> None:
    """One JSON value, on one line when the output is no terminal."""
    packed = msgspec.json.encode(value)
    if sys.stdout.isatty():
        packed = msgspec.json.format(packed, indent=2)
    sys.stdout.write(packed.decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows under their names, each on one line: a narrow terminal wraps it itself, and what is copied is whole."""
    lines = [["" if cell is None else plain(str(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    sys.stdout.flush()
    for number, line in enumerate(lines):
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        out.print(Text("  ".join(padded).rstrip(), style="" if number else "bold"))


@contextmanager
def progress_bar(words: str, total: int) -> Generator[Callable[[int], None]]:
    """A bar on a terminal's stderr while something long goes on; elsewhere nothing is shown."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(words, total=total)
        shown = 0

        def show(done: int) -> None:
            nonlocal shown
            if done - shown >= BAR_EVERY:
                shown = done
                bar.update(task, completed=done)

        yield show
