"""`check --against`: a project's versions beside the transactions of a journal, whether a server writes it or not.

The journal is only read: no socket, no lock, and nothing in its folder changes.
"""

from collections.abc import Mapping
from pathlib import Path

from journal import LOCAL_PARTITION, LocalLog
from protocol.definition import Definition
from runtime.cli.journal import journal_folder
from runtime.cli.output import print_line, print_table, progress_bar
from runtime.forecast import Forecast, forecast
from runtime.replay import fold, forbid_sockets

VERSION_SHOWN = 12  # Characters of a version's hash in a table; JSON has all of it.


def forecast_of(folder: Path, definitions: Mapping[str, Definition]) -> Forecast:
    """Fold a journal and weigh what it holds."""
    with forbid_sockets():
        reader = LocalLog.open_reader(journal_folder(folder))
        with progress_bar("replay", reader.next_seq) as show:
            found = fold(reader.read(LOCAL_PARTITION, -1), progress=show)
        return forecast(found.state, found.seq, definitions)


def print_forecast(told: Forecast) -> None:
    """A row for each group, and below them why some stay."""
    columns = ("cycle", "version", "webhook", "held", "completed", "would move", "would stay")
    rows = [
        (one.cycle, one.version[:VERSION_SHOWN], one.step, one.held, one.completed, one.move, one.stay)
        for one in told.groups
    ]
    if rows:
        print_table(columns, rows)
    for one in told.groups:
        for reason, count in one.reasons.items():
            print_line(f"{one.cycle} {one.version[:VERSION_SHOWN]} at {one.step}: {count} would stay: {reason}")
    print_line(f"as of event {told.seq}: {told.move} would move at their next pass, {told.stay} would stay")
