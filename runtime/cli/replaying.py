"""The command `replay`: the journal folded in memory, and what it gives shown as it was at any moment."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from journal import LocalLog
from protocol.canonical import EPOCH, instant_of
from protocol.duration import parse_duration
from protocol.memory import MemoryState
from protocol.state import TransactionRow
from runtime.cli.journal import Folder, journal_folder, known_of
from runtime.cli.output import DAMAGED, FAULTS, USAGE, Json, fail, nearest, out, print_json, print_table, progress_bar
from runtime.cli.transactions import print_transaction
from runtime.cli.whatif import try_draft
from runtime.clock import instant, wall_clock
from runtime.config import STORE_FILE
from runtime.deployed import Known
from runtime.event_view import event_view
from runtime.replay import Replayed, fold_journal, forbid_sockets, transaction_at
from runtime.store import Database, digest
from runtime.whatif import Window

MOMENT = "a sequence number, an instant such as 2026-01-31T12:00:00Z, or a length of time ago such as '7 days'"
ENDLESS = 2**62


def add_replay(app: App) -> None:
    """Add the command to the application."""
    app.command(replay)


def replay(
    folder: Folder,
    *,
    cycle: Annotated[str, Parameter(help="Only this cycle; with --what-if, only its draft.")] = "",
    transaction: Annotated[str, Parameter(help="Show this transaction.")] = "",
    until: Annotated[str, Parameter(help=f"The last moment: {MOMENT}.")] = "",
    what_if: Annotated[Path | None, Parameter(help="Run the recorded requests with the cycles of this folder.")] = None,
    since: Annotated[str, Parameter(help="With --what-if, the first moment; what came before is as it was.")] = "",
    compare: Annotated[bool, Parameter(help="Compare the digest with the store beside the journal.")] = False,
    json: Json = False,
) -> None:
    """Fold a journal without opening a socket, and show cycles or one transaction as they were at a moment.

    With --what-if it runs the recorded requests with other cycles, with the recorded answers, and lists what changes;
    then it ends with 1 if anything does.
    """
    if compare and until:
        fail(USAGE, "--compare needs the whole journal: leave --until out")
    if since and what_if is None:
        fail(USAGE, "--since is for --what-if: a replay folds a journal from its beginning")
    if what_if is not None and (compare or transaction):
        fail(USAGE, "--what-if lists what changes: leave --compare and --transaction out")
    last, last_at = moment("until", until)
    with forbid_sockets():
        place = journal_folder(folder)
        reader = LocalLog.open_reader(place)
        known = known_of(place, reader)
        if what_if is not None:
            first, first_at = moment("since", since)
            try_draft(reader, known, what_if, cycle, Window(first, last, first_at, last_at), json=json)
            return
        with progress_bar("replay", min(reader.next_seq, last + 1)) as show:
            found = fold_journal(reader, last, show, last_at)
        if transaction:
            _show_transaction(found, transaction, known, json=json)
        else:
            _show_cycles(found, cycle, json=json)
        if compare:
            _compare(place.parent / STORE_FILE, found, json=json)


def moment(name: str, said: str) -> tuple[int, int]:
    """A moment as a sequence number and an instant, of which one is open: 0 for `since`, else without end."""
    is_first = name == "since"
    nothing = 0 if is_first else ENDLESS
    if said.isascii() and said.isdecimal():
        return int(said), nothing
    if not said:
        return nothing, nothing
    found = instant_of(said)
    if found is not None:
        return nothing, (found - EPOCH) // timedelta(microseconds=1) * 1000
    try:
        return nothing, wall_clock()() - parse_duration(said.strip().removesuffix("ago"))
    except ValueError:
        return fail(USAGE, f"--{name} takes {MOMENT}, not {said!r}")


def _moment(found: Replayed) -> str:
    return f"event {found.seq} ({instant(found.at)})" if found.at else "the beginning"


def _show_transaction(found: Replayed, name: str, known: Known, *, json: bool) -> None:
    row = _find(found.state, name)
    if row is None:
        fail(FAULTS, f"there was no transaction {name} at {_moment(found)}")
    view = transaction_at(found.state, row, known.hidden(row.cycle))
    assert found.event is not None, "an event began the transaction"
    event = event_view(found.seq, found.event, known.hidden(found.event.cycle))
    if json:
        print_json({"seq": found.seq, "at": instant(found.at), "event": event, **view})
        return
    out.print(f"as of {_moment(found)}, {event['event']}", markup=False)
    print_transaction(view)


def _find(state: MemoryState, name: str) -> TransactionRow | None:
    cycle, _, number = name.rpartition("-")
    row = state.transactions.get(int(number)) if number.isascii() and number.isdecimal() else None
    return row if row is not None and row.cycle == cycle else None


def _show_cycles(found: Replayed, cycle: str, *, json: bool) -> None:
    cycles = found.state.cycles
    if cycle and cycle not in cycles:
        fail(FAULTS, f"there was no cycle {cycle} at {_moment(found)}{nearest(cycle, cycles)}")
    rows = [row for row in cycles.values() if cycle in ("", row.name)]
    total = digest(found.state)
    if json:
        shown = [msgspec.structs.asdict(row) for row in rows]
        print_json({"seq": found.seq, "at": instant(found.at), "digest": total, "cycles": shown})
        return
    out.print(f"{found.seq + 1} events, digest {total}, as of {_moment(found)}", markup=False)
    columns = ("name", "status", "running", "held", "completed", "failed", "stopped", "parked")
    print_table(columns, ([getattr(row, name) for name in columns] for row in rows))


def _compare(path: Path, found: Replayed, *, json: bool) -> None:
    if not path.exists():
        fail(FAULTS, f"there is no {path.name} beside the journal: the server makes it at its next start")
    database = Database(path)
    try:
        applied = database.meta("applied")
        if applied != found.seq:
            cure = "stop the server first" if applied > found.seq else "start and stop the server, which catches it up"
            fail(FAULTS, f"the store is at event {applied}, the replay at {found.seq}: {cure}")
        if digest(database) != digest(found.state):
            fail(DAMAGED, "the store's digest differs from the replay's: delete the store, the next start rebuilds it")
    finally:
        database.close()
    if not json:
        out.print("the store gives the same digest")
