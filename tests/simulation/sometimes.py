"""What a full run must have seen at least once: each row of each table of the contract, or the table is not tested.

What the simulation can not reach is left out here, with the reason, and is tested elsewhere.
"""

from collections.abc import Iterator
from typing import get_args

from journal.verdict import TABLE, Verdict
from protocol.events import AnyEvent

UNTOLD = {
    "PartingStarted", "StepSucceeded",  # No program has what they are about.
    "CallWithheld",  # Nor fails where a call is not safe to repeat, and is resumed there.
}  # fmt: skip
ELSEWHERE = {
    "a sealed segment is whole",  # Opening reads the footer alone; `journal verify` and replay read the rest.
}
RECOVERED = ("a new journal was started", "the log ends in zeros", "the log was closed", "the segment was being sealed")
TORN = "the last commit was torn by a crash"
ANSWERS = (201, 202, 204, 400, 404, 405, 409, 415, 422, 429, 500, 502, 503, 504, 508)
"""Answers of a webhook (section 4.1) that the simulation meets; `tests/runtime/door/test_answers.py` has the others."""
PORTS = ("write", "write_durable", "sync", "sync_folder", "create", "rename", "allocate", "truncate", "unlink")
DEATHS = ("kill", "power")


def recovery_table() -> Iterator[str]:
    """Every row of the journal's recovery table: those that go on, and by damage those that refuse."""
    yield from (f"recovery: {rule}" for rule in (*RECOVERED, TORN))
    yield from (f"refused: {row.rule}" for row in TABLE if row.verdict is Verdict.REFUSE and row.rule not in ELSEWHERE)


def crash_table() -> Iterator[str]:
    """Every port at which a machine stops, both ways, and what a restart owes then."""
    for port in (*(f"disk.{name}" for name in PORTS), "store.write", "store.written"):
        yield from (f"crash at {port} by {death}" for death in DEATHS)
    for port in ("network.send", "network.effect", "network.answer"):
        yield from (f"crash at {port} by {death}" for death in DEATHS)
    yield from ("store found", "store lost", "store older than the journal", "store begun with a snapshot")
    yield from ("death by a failing disk", "a caller hung up", "a person settled a call")
    yield from (f"a caller was let go: {reason}" for reason in ("gone", "deadline", "restart"))
    yield from ("an unknown call is made again", "an unknown call waits for a person", "crash amid a snapshot")


def answers_table() -> Iterator[str]:
    """Every row of the table of answers (section 4.1), as far as it is the core's."""
    yield from (f"answer {status}" for status in ANSWERS)
    yield from (f"answer 202 {word}" for word in ("accepted", "resumed", "parked", "ignored"))
    yield from (f"answer {status} repeated" for status in (201, 202))
    yield from (f"hit {status}" for status in ("done", "parked", "expired", "ignored"))


def operators() -> Iterator[str]:
    """What people order, and what else goes on."""
    yield from (f"order {verb}" for verb in ("stop", "finish", "start", "once", "deploy", "rival"))
    yield from ("redrive resume done", "redrive rerun done", "redrive rerun already", "redrive redeliver done")
    yield from ("a call under a limit", "incidents told")


def event_names() -> set[str]:
    """Every event there is."""
    return {kind.__name__ for kind in get_args(AnyEvent)}


def must_happen() -> Iterator[str]:
    """Everything."""
    yield from recovery_table()
    yield from crash_table()
    yield from answers_table()
    yield from operators()
    yield from (f"event {name}" for name in sorted(event_names() - UNTOLD))
