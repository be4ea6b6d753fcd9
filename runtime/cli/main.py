"""The application and its ending: every failure is a line for a person and a code for the shell.

Exit codes: 0 done · 1 faults found, or refused · 2 usage · 3 no server answers · 4 the journal is damaged.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, CycloptsError, Parameter

from journal import JournalDamaged, JournalError
from protocol.schema import json_schema
from runtime.cli.offline import add_offline, journal_folder
from runtime.cli.output import (
    DAMAGED,
    FAULTS,
    OK,
    UNREACHABLE,
    USAGE,
    CommandFailed,
    err,
    fail,
    out,
    print_json,
    print_table,
)
from runtime.cli.remote import Api, Json, add_remote
from runtime.cli.scaffold import scaffold
from runtime.config import ConfigError, load_settings
from runtime.logs import configure_logs
from runtime.project import ProjectError, read_project
from runtime.replay import fold
from runtime.server import serve as serve_project

DEBUG_VARIABLE = "CYCLEWRIGHT_DEBUG"

app = App(
    name="cyclewright",
    help="Webhook-driven integration cycles that lose nothing.\n\n"
    "Exit codes: 0 done, 1 faults found or refused, 2 usage, 3 no server answers, 4 the journal is damaged.",
    version="0.1.0",
)
add_remote(app)
add_offline(app)


@app.command
def serve(
    project: Path,
    *,
    journal: Annotated[Path | None, Parameter(help="The folder of journal and store.")] = None,
    bind: Annotated[str | None, Parameter(help="HOST:PORT")] = None,
    salvage: Annotated[bool, Parameter(help="Quarantine a damaged tail instead of refusing to start.")] = False,
) -> None:
    """Run a project until SIGTERM or Ctrl-C."""
    definitions, faults = read_project(project)
    if faults:
        for fault in faults:
            err.print(str(fault), markup=False)
        fail(FAULTS, f"the project has {len(faults)} fault(s); nothing was started")
    settings = load_settings(project, bind=bind, data=journal)
    configure_logs()
    trio.run(partial(serve_project, settings, definitions, salvage=salvage))


@app.command
def check(project: Path, *, json: Json = False) -> None:
    """Report every fault of every file of a project."""
    definitions, faults = read_project(project)
    if json:
        print_json({"cycles": list(definitions), "faults": faults})
    else:
        for fault in faults:
            out.print(str(fault), markup=False)
    if faults:
        fail(FAULTS, f"{len(faults)} fault(s)")
    if not json:
        out.print(f"{len(definitions)} cycle(s), no faults")


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


@app.command
def urls(project: Path, *, server: str = "", json: Json = False) -> None:
    """Print the webhook URL of every step: from the running server, else as the journal has them."""
    try:
        found = {one["cycle"]: one["webhooks"] for one in Api(project, server).get("/api/cycles")["cycles"]}
    except CommandFailed as failed:
        if failed.code != UNREACHABLE:
            raise
        found = _journaled_urls(project)
    if json:
        print_json(found)
    else:
        rows = ((cycle, step, url) for cycle, steps in found.items() for step, url in steps.items())
        print_table(("cycle", "step", "url"), rows)


def _journaled_urls(project: Path) -> dict[str, dict[str, str]]:
    from journal import LOCAL_PARTITION, LocalLog  # noqa: PLC0415 - Only where no server answers.

    settings = load_settings(project)
    base = settings.public_url.rstrip("/") or f"http://{settings.bind}"
    reader = LocalLog.open_reader(journal_folder(Path(settings.data)))
    cycles = fold(reader.read(LOCAL_PARTITION)).state.cycles.values()
    return {
        row.name: {step: f"{base}/webhook/{identifier}" for step, identifier in row.identifiers.items()}
        for row in cycles
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code and prints no traceback unless CYCLEWRIGHT_DEBUG is set."""
    try:
        app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return USAGE
    except CommandFailed as failed:
        err.print(str(failed), markup=False)
        return failed.code
    except BaseException as fault:  # noqa: BLE001 - The last place where a failure can be put into words.
        return _explain(fault)
    return OK


def _explain(fault: BaseException) -> int:
    while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
        fault = fault.exceptions[0]
    if isinstance(fault, KeyboardInterrupt | SystemExit):
        return OK if isinstance(fault, KeyboardInterrupt) else int(fault.code or 0)
    if os.environ.get(DEBUG_VARIABLE):
        err.print_exception()
    if isinstance(fault, JournalDamaged):
        err.print(str(fault), markup=False)
        return DAMAGED
    if isinstance(fault, JournalError | ConfigError | ProjectError | OSError):
        err.print(str(fault), markup=False)
        return FAULTS
    hint = f"set {DEBUG_VARIABLE}=1 to see where"
    err.print(f"cyclewright failed: {type(fault).__name__}: {fault} ({hint})", markup=False)
    return FAULTS
