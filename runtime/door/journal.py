"""The journal over the API: events as JSON lines, from a number on, with sensitive fields masked."""

from functools import partial

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from journal import LOCAL_PARTITION, JournalTrimmed, LogReader
from protocol.answers import problem
from protocol.loading import decode_definition
from protocol.state import DefinitionRow
from runtime.door.door import Door, as_response, engine_of
from runtime.door.openapi import QUERIES
from runtime.door.parameters import NUMBER_MAX, Parameters
from runtime.event_view import event_view
from runtime.masking import Hidden
from runtime.replay import events_of
from runtime.store import Database
from runtime.store.rows import TABLES

LINES_DEFAULT, LINES_MAX = 1000, 10_000
BYTES_MAX = 8 << 20  # Of one answer; the next one goes on where it ends.
NEXT_HEADER = "cyclewright-next"


class _Hiding:
    """What every version of every cycle hides, learnt as versions come."""

    def __init__(self) -> None:
        self._learnt: set[str] = set()
        self._hidden: dict[str, Hidden] = {}

    def learn(self, database: Database) -> None:
        """Learn the versions that the store has."""
        for (name,) in database.select("SELECT hash FROM definitions"):
            if name not in self._learnt:
                self._learnt.add(name)
                row: DefinitionRow = database.row(TABLES[DefinitionRow], name)
                definition = decode_definition(row.definition)
                self._hidden.setdefault(definition.cycle, Hidden()).learn(definition)

    def of(self, cycle: str) -> Hidden:
        """What must not be shown of a cycle."""
        return self._hidden.get(cycle) or Hidden()


def add_journal(app: QuartTrio, door: Door) -> None:
    """Add the route to an application."""
    hiding = _Hiding()

    @app.get("/api/journal")
    async def journal() -> Response:
        engine = engine_of(door)
        given = Parameters(request.args, QUERIES["/api/journal"])
        first = given.number("from", 0, 0, NUMBER_MAX)
        limit = given.number("limit", LINES_DEFAULT, 1, LINES_MAX)
        cycle = given.one_of("cycle", [row.name for row in engine.state.cycles()])
        given.close()
        await engine.checkpointed()  # So the definitions that its events need are known.
        hiding.learn(engine.state.database)
        try:
            lines, after = await trio.to_thread.run_sync(partial(_read, engine.journal, hiding, first, limit, cycle))
        except JournalTrimmed as trimmed:
            return as_response(problem(410, "No longer kept", str(trimmed)))
        headers = {NEXT_HEADER: str(after)}
        return Response(b"".join(lines), 200, headers, content_type="application/jsonl")


def _read(reader: LogReader, hiding: _Hiding, first: int, limit: int, cycle: str) -> tuple[list[bytes], int]:
    """Lines, and the number to go on from. Blocks."""
    lines: list[bytes] = []
    size, after = 0, first
    for frame in reader.read(LOCAL_PARTITION, first - 1):
        for seq, event in events_of(frame):
            if seq < first:
                continue
            if len(lines) == limit or size >= BYTES_MAX:
                return lines, after
            after = seq + 1
            if cycle in ("", event.cycle):
                lines.append(msgspec.json.encode(event_view(seq, event, hiding.of(event.cycle))) + b"\n")
                size += len(lines[-1])
    return lines, after
