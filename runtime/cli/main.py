"""The application and its ending: every failure is a line for a person and a code for the shell.

Exit codes: 0 done · 1 faults or changes found, or refused · 2 usage · 3 no server answers · 4 the journal is damaged ·
130 interrupted by Ctrl-C · 141 nobody reads the output any more. `serve` takes Ctrl-C as an order to drain, and ends 0.
"""

import errno
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, CycloptsError, Parameter

from journal import JournalDamaged, JournalError, JournalNewer
from protocol.schema import json_schema
from runtime.cli.against import forecast_of, print_forecast
from runtime.cli.discovery import add_discovery
from runtime.cli.doctor import add_doctor
from runtime.cli.journal import add_journal
from runtime.cli.output import (
    CODES,
    DAMAGED,
    FAULTS,
    INTERRUPTED,
    OK,
    PIPE_CLOSED,
    USAGE,
    CommandFailed,
    Json,
    err,
    fail,
    out,
    plain,
    print_json,
    print_line,
)
from runtime.cli.parked import add_parked
from runtime.cli.recovery import recovery_bar
from runtime.cli.redrive import add_redrive
from runtime.cli.remote import add_remote
from runtime.cli.replaying import add_replay
from runtime.cli.scaffold import scaffold
from runtime.cli.transactions import add_transactions
from runtime.config import ConfigError, load_settings
from runtime.logs import configure_logs
from runtime.project import ProjectError, read_project
from runtime.replay import EventsNewer
from runtime.store import StoreError
from runtime.version import VERSION

DEBUG_VARIABLE = "CYCLEWRIGHT_DEBUG"
EXPLAINED = (JournalError, ConfigError, ProjectError, EventsNewer, StoreError, OSError)  # Their words are for people.

app = App(
    name="cyclewright",
    help=f"Webhook-driven integration cycles that lose nothing.\n\n{CODES}",
    version=VERSION,
)
add_remote(app)
add_transactions(app)
add_parked(app)
add_redrive(app)
add_journal(app)
add_replay(app)
add_discovery(app)
add_doctor(app)


@app.command
def serve(
    project: Path,
    *,
    journal: Annotated[Path | None, Parameter(help="The folder of journal and store.")] = None,
    bind: Annotated[str | None, Parameter(help="HOST:PORT")] = None,
    salvage: Annotated[bool, Parameter(help="Quarantine a damaged tail instead of refusing to start.")] = False,
) -> None:
    """Run a project until SIGTERM or Ctrl-C, which finish what is in progress."""
    from runtime.server import serve as serve_project  # noqa: PLC0415 - The web framework takes long to import.

    definitions, faults = read_project(project)
    if faults:
        for fault in faults:
            err.print(plain(str(fault)), markup=False)
        fail(FAULTS, f"the project has {len(faults)} fault(s); nothing was started")
    settings = load_settings(project, bind=bind, data=journal)
    configure_logs()
    with recovery_bar() as progress:
        trio.run(partial(serve_project, settings, definitions, salvage=salvage, progress=progress))


@app.command
def check(
    project: Path,
    *,
    against: Annotated[
        Path | None,
        Parameter(help="A journal, whose held transactions are weighed: which would move to these versions?"),
    ] = None,
    json: Json = False,
) -> None:
    """Report every fault of every file of a project; with --against, what a deploy would mean for what holds."""
    definitions, faults = read_project(project)
    try:
        load_settings(project)
    except ConfigError as fault:
        faults += fault.faults
    told = forecast_of(against, definitions) if against is not None and not faults else None
    if json:
        said = {} if told is None else {"against": told}
        print_json({"cycles": list(definitions), "faults": faults, **said})
    else:
        for one in faults:
            print_line(str(one))
    if faults:
        fail(FAULTS, f"{len(faults)} fault(s)")
    if not json:
        out.print(f"{len(definitions)} cycle(s), no faults")
        if told is not None:
            print_forecast(told)


@app.command
def schema() -> None:
    """Print the JSON Schema of a cycle file, for editors."""
    print_json(json_schema())


@app.command
def new(folder: Path) -> None:
    """Write a small project that works."""
    try:
        for path in scaffold(folder):
            out.print(str(path), markup=False)
    except FileExistsError as fault:
        fail(FAULTS, str(fault))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code and prints no traceback unless CYCLEWRIGHT_DEBUG is set."""
    try:
        app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:
        return USAGE
    except CommandFailed as failed:
        err.print(plain(str(failed)), markup=False)
        return failed.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # What Python still holds goes nowhere.
        return PIPE_CLOSED
    except BaseException as fault:  # noqa: BLE001 - The last place where a failure can be put into words.
        return _explain(fault)
    return OK


def _explain(fault: BaseException) -> int:
    if os.environ.get(DEBUG_VARIABLE) and not isinstance(fault, KeyboardInterrupt | SystemExit):
        err.print_exception()
    causes = _causes(fault)
    first = causes[0]
    if isinstance(first, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(first, SystemExit):
        return int(first.code or 0)
    for said in dict.fromkeys(map(_words, causes)):
        err.print(plain(said), markup=False)
    return DAMAGED if isinstance(first, JournalDamaged) and not isinstance(first, JournalNewer) else FAULTS


def _causes(fault: BaseException) -> list[BaseException]:
    """What failed, causes first: tasks fail together when a disk breaks, and a group of them says nothing of it."""
    if not isinstance(fault, BaseExceptionGroup):
        return [fault]
    leaves = [leaf for one in fault.exceptions for leaf in _causes(one)]
    return sorted(leaves, key=lambda leaf: (isinstance(leaf, Exception), not isinstance(leaf, JournalError)))


def _words(fault: BaseException) -> str:
    if isinstance(fault, OSError) and fault.errno == errno.EADDRINUSE:
        return f"another program listens there already: stop it, or serve at another address with --bind ({fault})"
    if not isinstance(fault, EXPLAINED):
        hint = f"set {DEBUG_VARIABLE}=1 to see where"
        return f"cyclewright failed: {type(fault).__name__}: {fault} ({hint})"
    return str(fault)
