"""Commands that look into a journal folder, of a running server or of a stopped one, and open no socket."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from msgspec import structs

from journal import LOCAL_PARTITION, JournalError, JournalNewer, LocalLog, LogReader, verify
from protocol.ages import Retention
from protocol.events import AnyEvent, CycleDeployed
from runtime.cli.output import (
    DAMAGED,
    FAULTS,
    Json,
    err,
    fail,
    out,
    plain,
    print_json,
    print_line,
    print_table,
    progress_bar,
)
from runtime.clock import instant
from runtime.config import CONFIG_FILE, JOURNAL_FOLDER, STORE_FILE, load_settings
from runtime.deployed import Known, read_known
from runtime.event_view import event_view
from runtime.kept import cycle_line, kept_cycles, kept_segments
from runtime.replay import events_of
from runtime.store import StoreError
from runtime.store.database import look_at

POLL_S = 0.2  # Between looks of `tail --follow`, each of which reads what is new; a person does not notice.

Folder = Annotated[Path, Parameter(help="A project, its data folder or the journal's own folder.")]
Seq = Annotated[int | None, Parameter(validator=Number(gte=0))]


def journal_folder(folder: Path) -> Path:
    """The segments' folder, given it or the data folder or the project."""
    for found in (folder / JOURNAL_FOLDER, folder / ".cyclewright" / JOURNAL_FOLDER, folder):
        if (found / "MANIFEST").exists():
            return found
    what = "holds no journal" if folder.is_dir() else "is no folder"
    return fail(FAULTS, f"{folder} {what}: name a project that was served, its data folder or the journal's own")


def known_of(place: Path, reader: LogReader) -> Known:
    """What the journal knows of its cycles."""
    with progress_bar("definitions", reader.next_seq) as show:
        return read_known(reader, place.parent / STORE_FILE, show)


def add_journal(app: App) -> None:
    """Add these commands to the application."""
    journal = App(name="journal", help="Look into a journal folder.")
    for command, name in ((segments, "ls"), (cat, "cat"), (tail, "tail"), (check, "verify"), (stats, "stats")):
        journal.command(command, name=name)
    app.command(journal)


def numbered(reader: LogReader, after: int, until: int | None = None) -> Iterator[tuple[int, AnyEvent]]:
    """Events with their sequence numbers, above one and up to another."""
    for frame in reader.read(LOCAL_PARTITION, after, until):
        for seq, event in events_of(frame):
            if seq > after and (until is None or seq <= until):
                yield seq, event


def segments(folder: Folder, *, json: Json = False) -> None:
    """List the segments."""
    infos = LocalLog.open_reader(journal_folder(folder)).segments()
    if json:
        print_json(infos)
        return
    columns = ("name", "base_seq", "next_seq", "bytes_used", "sealed")
    print_table(columns, ([getattr(info, name) for name in columns] for info in infos))


def cat(
    folder: Folder,
    *,
    first: Annotated[Seq, Parameter(name="--from", help="The first sequence number to print.")] = None,
    until: Annotated[Seq, Parameter(help="The last sequence number to print.")] = None,
    cycle: Annotated[str, Parameter(help="Only events of this cycle.")] = "",
    json: Json = False,
) -> None:
    """Print events, one a line; sensitive fields are masked."""
    place = journal_folder(folder)
    reader = LocalLog.open_reader(place)
    known = known_of(place, reader)
    for seq, event in numbered(reader, (reader.first_seq if first is None else first) - 1, until):
        if not cycle or event.cycle == cycle:
            _print_event(seq, event, known, json=json)


def tail(
    folder: Folder,
    *,
    count: Annotated[int, Parameter(name=["--count", "-n"], help="How many.", validator=Number(gte=0))] = 10,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on until Ctrl-C.")] = False,
    cycle: Annotated[str, Parameter(help="Only events of this cycle.")] = "",
    json: Json = False,
) -> None:
    """Print the latest events; sensitive fields are masked."""
    place = journal_folder(folder)
    reader = LocalLog.open_reader(place)
    known = known_of(place, reader)
    after = max(reader.first_seq, reader.next_seq - count) - 1
    while True:
        for seq, event in numbered(reader, after):
            after = seq
            if isinstance(event, CycleDeployed):
                known.learn(event)
            if not cycle or event.cycle == cycle:
                _print_event(seq, event, known, json=json)
        if not follow:
            return
        sys.stdout.flush()
        time.sleep(POLL_S)


def _print_event(seq: int, event: AnyEvent, known: Known, *, json: bool) -> None:
    view = event_view(seq, event, known.hidden(event.cycle))
    if json:
        print_json(view)
        return
    told = ("seq", "event", "at", "definition")
    shown = " ".join(f"{name}={value!r}" for name, value in view.items() if name not in told)
    print_line(f"{seq:>8} {instant(event.at)} {view['event']} {shown}")


def check(folder: Folder, *, json: Json = False) -> None:
    """Check every byte of a journal; exit 4 when a fault is found."""
    place = journal_folder(folder)
    try:
        LocalLog.open_reader(place).close()
    except JournalNewer:
        raise  # What this build can not read is no fault of the journal.
    except JournalError:
        pass  # Told below, with everything else that is wrong.
    with err.status("reading every byte"):
        report = verify(place)
    if json:
        print_json(report)
    else:
        out.print(f"{report.segments} segments, {report.frames} frames, {report.records} events")
        for fault in report.faults:
            print_line(f"{fault.segment} at byte {fault.offset}: {fault.message}")
        for note in report.notes:
            print_line(f"note: {note}")
    if report.faults:
        fail(DAMAGED, f"the journal has {len(report.faults)} fault(s): restore it from a copy, or serve with --salvage")


def stats(folder: Folder, *, json: Json = False) -> None:
    """Print the figures of a journal, and what of it is kept and why."""
    place = journal_folder(folder)
    reader = LocalLog.open_reader(place)
    found, snapshots = reader.stats(), reader.snapshots(LOCAL_PARTITION)
    try:
        with look_at(place.parent / STORE_FILE) as store:
            kept, cycles = (
                kept_segments(reader.segments(), store),
                kept_cycles(store, _server_ages(place.parent.parent)),
            )
    except StoreError as fault:
        err.print(plain(f"nothing is known of what is kept: {fault}"), markup=False)
        kept, cycles = kept_segments(reader.segments(), None), []
    if json:
        print_json({**structs.asdict(found), "snapshots": snapshots, "kept": kept, "cycles": cycles})
        return
    figures = [(name, getattr(found, name)) for name in found.__struct_fields__]
    print_table(("figure", "value"), [*figures, ("snapshots", " ".join(map(str, snapshots)) or "none")])
    for segment in kept:
        print_line(f"{segment.name}: {segment.bytes} bytes, {segment.first or '-'} to {segment.last or '-'}")
        for why in segment.why:
            print_line(f"    {why}")
    for cycle in cycles:
        print_line(cycle_line(cycle))


def _server_ages(project: Path) -> Retention:
    """The ages that the server of a project says; none where the data folder lies elsewhere."""
    return load_settings(project).retention if (project / CONFIG_FILE).exists() else Retention()
