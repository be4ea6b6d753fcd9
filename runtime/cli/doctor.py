"""`cyclewright doctor`: whether what must be true is true, of a running server or of a stopped project.

And what one transaction waits for. It only reads: a stopped project gets no lock, and nothing in it is written.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter

from journal import JournalDamaged, JournalError, JournalNewer, LocalLog, LogReader
from protocol.loading import decode_definition
from protocol.program import Program, compile_program
from protocol.state import CycleRow, DefinitionRow, TransactionRow
from runtime.cli.output import (
    DAMAGED,
    FAULTS,
    UNREACHABLE,
    USAGE,
    CommandFailed,
    Json,
    err,
    fail,
    print_json,
    print_line,
    progress_bar,
)
from runtime.cli.remote import Api, Project, ServerUrl
from runtime.clock import wall_clock
from runtime.config import JOURNAL_FOLDER, STORE_FILE, Settings, load_settings
from runtime.doctor import Check, Looking, Report, Waiting, explain, look_through
from runtime.doctor.advice import cycles_checks, settings_check
from runtime.doctor.explain import Surroundings
from runtime.doctor.history import applied_check, compare_check, epochs_check, journal_check
from runtime.doctor.machine import machine_checks
from runtime.doctor.rest import caught_up, invariant_checks
from runtime.store import Look, StoreError
from runtime.store.database import look_at
from runtime.store.rows import TABLES

MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "broken": "BROKEN", "skipped": "skipped"}
JOURNAL_CHECKS = ("journal", "invariant 7", "invariant 2", "store", "digest")


def add_doctor(app: App) -> None:
    """Add the command to the application."""
    app.command(doctor)


def doctor(
    transaction: Annotated[str, Parameter(help="Say what this one waits for, and what can be done about it.")] = "",
    /,
    *,
    project: Project = Path(),
    server: ServerUrl = "",
    compare: Annotated[bool, Parameter(help="Also fold the whole journal, and compare the store with that.")] = False,
    json: Json = False,
) -> None:
    """Check invariants, journal, disk, files, room, clock and settings; exit 1 when something is wrong.

    Of a running server, else of the stopped project. With a transaction: what it waits for.
    """
    if transaction:
        if compare:
            fail(USAGE, "--compare looks at everything: leave the transaction out")
        _print_waiting(_waiting(transaction, project, server), json=json)
        return
    settings = load_settings(project)
    report, live = _live(project, server)
    checks = [] if report is None else list(report.checks)
    folder = Path(settings.data) / JOURNAL_FOLDER
    if (folder / "MANIFEST").exists() and not server:
        checks += _of_folder(settings, live=report is not None, compare=compare)
    elif report is None:
        fail(
            FAULTS, f"no server answers, and {folder} holds no journal: serve the project once, or name it by --project"
        )
    else:
        checks.append(Check("journal", "skipped", "it is not on this machine"))
    whole = report is None or report.whole
    told = Report(report.applied if report is not None else -1, whole, [live, *checks])
    if json:
        print_json(told)
    else:
        _print(told)
    if any(one.level == "broken" and one.name == "journal" for one in told.checks):
        fail(DAMAGED, "the journal is damaged: restore it from a copy, or serve with --salvage")
    if told.sick:
        fail(
            FAULTS,
            f"{sum(one.level in ('warning', 'broken') for one in told.checks)} of {len(told.checks)} need a look",
        )


def _live(project: Path, server: str) -> tuple[Report | None, Check]:
    """What the server says of itself, if there is one."""
    api = Api(project, server)
    try:
        answer = api.call("GET", "/api/doctor")
        if answer.status_code == 503:
            return None, Check("server", "note", f"it answers at {api.url}, and does not take requests now")
        return msgspec.convert(api.said(answer), Report), Check("server", "ok", f"it answers at {api.url}")
    except CommandFailed as failed:
        if failed.code != UNREACHABLE or server:
            raise
        return None, Check("server", "note", f"none answers at {api.url}, so the folder was looked at")


def _of_folder(settings: Settings, *, live: bool, compare: bool) -> list[Check]:
    """What the folder says: the journal always, the rest when no server has said it."""
    return list(_checks_of(settings, live=live, compare=compare))


def _checks_of(settings: Settings, *, live: bool, compare: bool) -> Iterator[Check]:
    data = Path(settings.data)
    with err.status("reading every byte of the journal"):
        yield journal_check(data / JOURNAL_FOLDER)
    try:
        reader = LocalLog.open_reader(data / JOURNAL_FOLDER)
    except JournalNewer:
        raise
    except JournalError as fault:
        yield Check("store", "skipped", f"the journal can not be opened: {fault}")
        return
    try:
        with progress_bar("epochs", reader.next_seq) as show:
            yield epochs_check(reader, show)
        if not live:
            segments = reader.segments()
            yield from _at_rest(settings, reader, segments[-1].last_at if segments else 0)
        if compare:
            with look_at(data / STORE_FILE) as look, progress_bar("replay", reader.next_seq) as show:
                yield from compare_check(look, reader, show)
    except StoreError as fault:
        yield Check("store", "note", f"{fault}: the next start builds it from the journal")
    except JournalDamaged as fault:
        yield Check("store", "skipped", f"the journal can not be read to its end: {fault}")
    finally:
        reader.close()


def _at_rest(settings: Settings, reader: LogReader, last: int) -> Iterator[Check]:
    """The state of a stopped project, and the machine under it."""
    yield from machine_checks(settings, wall_clock()(), last)
    yield settings_check(settings)
    data = Path(settings.data)
    with look_at(data / STORE_FILE) as look:
        yield applied_check(look, reader)
    with caught_up(data / STORE_FILE, reader) as look:
        yield from invariant_checks(look_through(Looking(look), seconds=math.inf))
        versions = {row.hash: row for row in look.rows(TABLES[DefinitionRow])}
        current = [versions[row.definition_hash] for row in look.rows(TABLES[CycleRow])]
        yield from cycles_checks([decode_definition(row.definition) for row in current], settings, None)


def _waiting(name: str, project: Path, server: str) -> Waiting:
    api = Api(project, server)
    try:
        return msgspec.convert(api.get(f"/api/doctor/{quote(name, safe='')}"), Waiting)
    except CommandFailed as failed:
        if failed.code != UNREACHABLE or server:
            raise
    settings = load_settings(project)
    folder = Path(settings.data) / JOURNAL_FOLDER
    if not (folder / "MANIFEST").exists():
        fail(FAULTS, f"no server answers, and {folder} holds no journal: name the project by --project")
    reader = LocalLog.open_reader(folder)
    base = settings.public_url.rstrip("/") or settings.local_url
    with caught_up(Path(settings.data) / STORE_FILE, reader) as look:
        cycle, _, number = name.rpartition("-")
        found = look.row(TABLES[TransactionRow], int(number)) if number.isascii() and number.isdecimal() else None
        if not isinstance(found, TransactionRow) or found.cycle != cycle:
            return fail(FAULTS, f"there is no transaction {name}")
        around = Surroundings(
            look,
            lambda one: _program(look, one),
            lambda identifier: f"{base}/webhook/{identifier}",
            lambda _: "",
            wall_clock()(),
            live=False,
        )
        return explain(found, around)


def _program(look: Look, name: str) -> Program:
    row: DefinitionRow = look.row(TABLES[DefinitionRow], name)
    return compile_program(decode_definition(row.definition), name)


def _print(report: Report) -> None:
    wide = max(len(check.name) for check in report.checks)
    for check in report.checks:
        print_line(f"{MARKS[check.level]:<8} {check.name:<{wide}}  {check.said}")
        for one in check.found:
            print_line(f"         {'':<{wide}}  - {one}")
        if check.more:
            print_line(f"         {'':<{wide}}  - and {check.more} more")


def _print_waiting(told: Waiting, *, json: bool) -> None:
    if json:
        print_json(told)
        return
    at = f" at {told.step}" if told.waits_for != "nothing" else ""
    print_line(f"{told.transaction} is {told.status}{at}")
    lines = [("waits for", told.said), ("since", told.since or ""), ("until", _until(told))]
    lines += [("wakes it", one) for one in told.wakes]
    lines += [("note", one) for one in told.notes]
    lines += [("do", one) for one in told.do]
    for name, said in lines:
        if said:
            print_line(f"  {name:<10} {said}")


def _until(told: Waiting) -> str:
    if told.waits_for == "nothing":
        return ""
    if told.until is None:
        return "no end of its own"
    return f"{told.until}, then {told.then}" if told.then else told.until
