"""Replay (section 14): any moment of the past, without a socket, and without what is sensitive."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from journal import LOCAL_PARTITION, LocalLog
from protocol.evolve import evolve
from protocol.memory import MemoryState
from runtime.masking import hidden_of
from runtime.replay import SocketRefused, fold, forbid_sockets, transaction_at
from runtime.store import digest
from tests.protocol.story import Story
from tests.runtime.commands import Cli
from tests.runtime.journals import journaled, payments
from tests.runtime.test_state import eventful
from tests.system.harness import ROOT


def test_given_a_journal_when_folded_then_the_state_is_the_live_one(tmp_path: Path) -> None:
    """Invariant 5, over the bytes of a real folder; the number and the instant reached are told."""
    story = eventful()
    reader = LocalLog.open_reader(journaled(tmp_path, story) / "journal")
    told: list[int] = []
    found = fold(reader.read(LOCAL_PARTITION), progress=told.append)
    assert digest(found.state) == digest(story.state)
    assert (found.seq, found.at) == (len(story.journal) - 1, story.journal[-1].at)
    assert told[-1] == found.seq


def test_given_any_moment_when_folded_until_it_then_the_state_is_what_it_was(tmp_path: Path) -> None:
    """The number asked for is the last one folded, wherever frames begin and end."""
    story = eventful()
    reader = LocalLog.open_reader(journaled(tmp_path, story) / "journal")
    state = MemoryState()
    for seq, event in enumerate(story.journal):
        evolve(state, event, seq)
        if seq % 7 == 0:
            found = fold(reader.read(LOCAL_PARTITION, -1, seq), seq)
            assert (found.seq, digest(found.state)) == (seq, digest(state))
    assert fold(reader.read(LOCAL_PARTITION, -1, 10**9), 10**9).seq == len(story.journal) - 1


def moments(story: Story) -> list[dict[str, Any]]:
    """The first transaction of a story after each of its events, as it is read."""
    views: list[dict[str, Any]] = []
    state = MemoryState()
    for seq, event in enumerate(story.journal):
        evolve(state, event, seq)
        row = next(iter(state.transactions.values()), None)
        if row is not None:
            views.append({"seq": seq, **transaction_at(state, row, hidden_of(state.program(row.definition_hash)))})
    return views


def test_given_a_transaction_when_looked_at_over_time_then_call_timer_match_and_fate_are_told() -> None:
    """The data of each step, the open call, the hold, the key it matches by, and what became of the connection."""
    story = payments()
    called = next(view for view in moments(story) if view["call"])
    assert called["call"] == {
        "step": "charge",
        "attempt": 1,
        "unknown": False,
        "idempotency_key": f"{called['transaction']}.charge.1",
        "method": "POST",
        "url": "/charges",
        "link": None,
    }
    assert called["steps"]["asked"] == {"order": "A1", "card": "••••"}
    held = next(view for view in moments(story) if view["status"] == "held")
    assert (held["step"], held["matches_by"], held["call"]) == ("settled", {"settled": ["7"]}, None)
    assert held["hold_until"] == "2026-01-03T12:00:00.000+00:00"
    last = moments(story)[-1]
    passes = [(one["pass"], one["step"], one["reply"], one["fate"]) for one in last["passes"]]
    assert passes == [(1, "asked", None, "none"), (2, "settled", 200, "none")]


def test_given_a_match_of_several_when_replayed_then_all_candidates_are_named(cli: Cli, tmp_path: Path) -> None:
    """Both payments wait for 7; the later one takes the request."""
    story = payments()
    data = journaled(tmp_path, story)
    first, second, third = sorted(story.state.transactions)
    done = cli("replay", data, "--transaction", f"pay-{second}", "--json")
    assert done.json["passes"][-1]["ambiguous"] == [f"pay-{second}", f"pay-{first}"]
    text = cli("replay", data, "--transaction", f"pay-{second}").out
    assert f"matched several: pay-{second}, pay-{first}" in text
    assert "secret" not in text + done.out
    assert '  asked: {"order":"A2","card":"••••"}\n' in text
    open_call = cli("replay", data, "--transaction", f"pay-{third}").out
    assert "call charge is open: attempt 1, POST /charges" in open_call


def test_given_a_moment_when_replayed_until_it_then_the_transaction_is_shown_as_it_was(
    cli: Cli, tmp_path: Path
) -> None:
    """Before it began there was none."""
    story = payments()
    data = journaled(tmp_path, story)
    first = min(story.state.transactions)
    for view in moments(story)[::5]:
        done = cli("replay", data, "--transaction", f"pay-{first}", "--until", view["seq"], "--json")
        assert msgspec.json.decode(msgspec.json.encode(view)).items() <= done.json.items()
    before = cli("replay", data, "--transaction", f"pay-{first}", "--until", first - 1)
    assert before.code == 1
    assert f"there was no transaction pay-{first} at event {first - 1} (2026-01-01T12:00:00" in before.err
    assert cli("replay", data, "--transaction", f"other-{first}").code == 1


def test_given_a_journal_when_replayed_then_cycles_are_counted_and_compared(cli: Cli, tmp_path: Path) -> None:
    """The digest of the whole; a store is compared only when there is one, at the same event."""
    story = payments()
    data = journaled(tmp_path, story)
    done = cli("replay", data, "--json")
    assert (done.json["digest"], done.json["seq"]) == (digest(story.state), len(story.journal) - 1)
    assert [(one["completed"], one["running"]) for one in done.json["cycles"]] == [(2, 1)]
    assert digest(story.state) in cli("replay", data, "--cycle", "pay").out
    wrong = cli("replay", data, "--cycle", "pya")
    assert (wrong.code, "did you mean pay?" in wrong.err) == (1, True)
    none = cli("replay", data, "--compare")
    assert (none.code, "there is no store.sqlite" in none.err) == (1, True)
    assert cli("replay", data, "--compare", "--until", "3").code == 2


def test_given_the_guard_when_something_opens_a_socket_then_it_is_refused() -> None:
    """Inside the block only: a test, or a server, goes on behind it."""
    with forbid_sockets(), pytest.raises(SocketRefused, match=r"socket\.__new__"):
        socket.socket()
    socket.socket().close()


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', 1))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import threading, socket; t = threading.Thread(target=socket.socket); t.start(); t.join(); socket.socket()",
        "import httpx; httpx.get('http://127.0.0.1:1')",
        "import trio; trio.run(trio.sleep, 0)",
    ],
)
def test_given_the_guard_in_a_process_of_its_own_then_nothing_reaches_the_network(attempt: str) -> None:
    """Whichever way something asks: a socket, a name, another thread, a client, a loop."""
    code = f"from runtime.replay import forbid_sockets\nwith forbid_sockets():\n    {attempt}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=30
    )
    assert done.returncode == 1
    assert "SocketRefused: a replay opens no socket" in done.stderr


def test_given_the_command_when_it_replays_then_the_guard_holds(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold itself runs under it."""
    data = journaled(tmp_path, payments())
    monkeypatch.setattr("runtime.cli.replaying.fold_journal", lambda *_: socket.socket())
    done = cli("replay", data)
    assert done.code == 1
    assert "SocketRefused" in done.err
