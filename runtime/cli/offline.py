"""Commands that read a journal folder, of a running server or of a stopped one, and open no socket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from rich.progress import Progress

from journal import LOCAL_PARTITION, Frame, LocalLog, verify
from protocol.events import AnyEvent, decode_events
from runtime.cli.output import DAMAGED, FAULTS, err, fail, out, print_json, print_table
from runtime.config import JOURNAL_FOLDER, STORE_FILE
from runtime.replay import fold, forbid_sockets, transaction_at
from runtime.store import Database, digest

Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for machines.")]


def journal_folder(folder: Path) -> Path:
    """The segments' folder, given it or the data folder or the project."""
    for found in (folder / JOURNAL_FOLDER, folder / ".cyclewright" / JOURNAL_FOLDER, folder):
        if (found / "MANIFEST").exists():
            return found
    return fail(FAULTS, f"there is no journal in {folder}")


def add_offline(app: App) -> None:
    """Add these commands to the application."""
    journal = App(name="journal", help="Look into a journal folder.")
    for command, name in ((segments, "ls"), (cat, "cat"), (tail, "tail"), (check, "verify"), (stats, "stats")):
        journal.command(command, name=name)
    app.command(journal)
    app.command(replay)


def _numbered(frames: Iterator[Frame], after: int, until: int | None) -> Iterator[tuple[int, AnyEvent]]:
    for frame in frames:
        for seq, event in enumerate(decode_events(frame.payload), frame.base_seq):
            if seq > after and (until is None or seq <= until):
                yield seq, event


def event_view(seq: int, event: AnyEvent) -> dict[str, Any]:
    """An event for reading: its number, its name and its fields, bytes as text."""
    fields = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else msgspec.to_builtins(value)
        for name, value in ((name, getattr(event, name)) for name in event.__struct_fields__)
    }
    return {"seq": seq, "event": type(event).__name__, **fields}


def segments(folder: Path, *, json: Json = False) -> None:
    """List the segments."""
    infos = LocalLog.open_reader(journal_folder(folder)).segments()
    if json:
        print_json(infos)
        return
    columns = ("name", "base_seq", "next_seq", "bytes_used", "sealed")
    print_table(columns, ([getattr(info, name) for name in columns] for info in infos))


def cat(
    folder: Path,
    *,
    after: Annotated[int, Parameter(name="--from")] = 0,
    until: int | None = None,
    cycle: str = "",
    json: Json = False,
) -> None:
    """Print events, one a line."""
    reader = LocalLog.open_reader(journal_folder(folder))
    for seq, event in _numbered(reader.read(LOCAL_PARTITION, after - 1, until), after - 1, until):
        if not cycle or event.cycle == cycle:
            _print_event(seq, event, json=json)


def tail(folder: Path, *, count: int = 10, json: Json = False) -> None:
    """Print the latest events."""
    reader = LocalLog.open_reader(journal_folder(folder))
    after = max(-1, reader.next_seq - 1 - count)
    for seq, event in _numbered(reader.read(LOCAL_PARTITION, after), after, None):
        _print_event(seq, event, json=json)


def _print_event(seq: int, event: AnyEvent, *, json: bool) -> None:
    view = event_view(seq, event)
    if json:
        print_json(view)
        return
    shown = " ".join(f"{name}={value!r}" for name, value in view.items() if name not in ("seq", "event", "definition"))
    out.print(f"{seq:>8} {view['event']} {shown}", markup=False)


def check(folder: Path, *, json: Json = False) -> None:
    """Check every byte of a journal; exit 4 when a fault is found."""
    report = verify(journal_folder(folder))
    if json:
        print_json(report)
    else:
        out.print(f"{report.segments} segments, {report.frames} frames, {report.records} events")
        for fault in report.faults:
            out.print(f"{fault.segment} at {fault.offset}: {fault.message}", markup=False)
    if report.faults:
        fail(DAMAGED, f"the journal has {len(report.faults)} fault(s)")


def stats(folder: Path, *, json: Json = False) -> None:
    """Print the figures of a journal."""
    found = LocalLog.open_reader(journal_folder(folder)).stats()
    if json:
        print_json(found)
    else:
        print_table(("figure", "value"), ((name, getattr(found, name)) for name in found.__struct_fields__))


def replay(
    folder: Path,
    *,
    cycle: str = "",
    transaction: str = "",
    until: int | None = None,
    compare: Annotated[bool, Parameter(help="Compare the digest with the store beside the journal.")] = False,
    json: Json = False,
) -> None:
    """Fold a journal without opening a socket, and show cycles or one transaction as they were at a moment."""
    place = journal_folder(folder)
    forbid_sockets()
    reader = LocalLog.open_reader(place)
    total = reader.next_seq if until is None else min(reader.next_seq, until + 1)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("replay", total=total)
        found = fold(reader.read(LOCAL_PARTITION, -1, until), until, lambda seq: bar.update(task, completed=seq + 1))
    state = found.state
    if transaction:
        row = state.transactions.get(int(number)) if (number := transaction.rpartition("-")[2]).isdecimal() else None
        if row is None:
            fail(FAULTS, f"there was no transaction {transaction} at {found.seq}")
        view = transaction_at(state, row)
        if json:
            print_json(view)
            return
        out.print(f"{view['transaction']} {view['status']} at step {view['step']}, pass {view['pass']}")
        for step, data in row.data.items():
            out.print(f"  {step}: {msgspec.json.encode(data).decode()}", markup=False)
        return
    rows = [row for row in state.cycles.values() if not cycle or row.name == cycle]
    summary = {"seq": found.seq, "digest": digest(state), "cycles": [msgspec.structs.asdict(row) for row in rows]}
    if json:
        print_json(summary)
    else:
        out.print(f"{found.seq + 1} events, digest {summary['digest']}")
        columns = ("name", "status", "running", "held", "completed", "failed", "stopped", "parked")
        print_table(columns, ([getattr(row, name) for name in columns] for row in rows))
    if compare:
        _compare(place.parent / STORE_FILE, digest(state), found.seq)


def _compare(path: Path, mine: str, seq: int) -> None:
    if not path.exists():
        fail(FAULTS, "there is no store beside the journal")
    database = Database(path)
    try:
        if database.meta("applied") != seq:
            fail(FAULTS, f"the store is at {database.meta('applied')}, the replay at {seq}: stop the server first")
        if digest(database) != mine:
            fail(DAMAGED, "the store's digest differs from the replay's: delete the store, the next start rebuilds it")
    finally:
        database.close()
    out.print("the store gives the same digest")
