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
from protocol.inputs import ReplySettled
from protocol.memory import MemoryState
from runtime.masking import hidden_of
from runtime.replay import SocketRefused, fold, forbid_sockets, transaction_at
from runtime.store import digest
from tests.protocol.story import Story
from tests.runtime.commands import Cli
from tests.runtime.journals import PAY, journaled, payments
from tests.runtime.test_state import eventful
from tests.system.harness import ROOT


def test_14_given_a_journal_when_folded_then_the_state_is_the_live_one(tmp_path: Path) -> None:
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


def test_14_given_a_transaction_when_looked_at_over_time_then_call_timer_match_and_fate_are_told() -> None:
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
        "failures": 0,
        "refusals": 0,
    }
    assert called["steps"]["asked"] == {"order": "A1", "card": "••••"}
    held = next(view for view in moments(story) if view["status"] == "held")
    assert (held["step"], held["matches_by"], held["call"]) == ("settled", {"settled": ["7"]}, None)
    assert held["hold_until"] == "2026-01-03T12:00:00.000+00:00"
    last = moments(story)[-1]
    passes = [(one["pass"], one["step"], one["reply"], one["fate"]) for one in last["passes"]]
    assert passes == [(1, "asked", None, "none"), (2, "settled", 200, "none")]
    assert [one["candidates"] for one in last["passes"]] == [[], [last["transaction"]]]


WAITS = """
cycle: waits
connectors: {shop: {}, bank: {base_url: "https://bank.example"}}
steps:
  asked: {webhook: shop, fields: {id: {type: integer, required: true}}}
  charge: {post: bank, path: /charges, on_error: {retry: [1 minute]}}
  pause: {delay: 1 hour}
  settled: {webhook: shop, fields: {id: integer}, match: {id: asked.id}, hold_for: 1 day}
  more: {post: bank, path: /more}
  answer: {respond: {status: 201}}
"""


def test_14_given_each_moment_then_the_timers_and_the_fate_of_the_connection_are_told() -> None:
    """Section 14: a retry, patience with a remote, a delay, a hold, and the caller who waits, each while it lasts."""
    story = Story(WAITS)
    story.hit("asked", {"id": 1})
    story.no_answer()
    story.later(60)
    story.answer(None, 429, headers={"retry-after": "7"})
    story.later(7)
    story.answer({})
    story.later(3600)
    story.hit("settled", {"id": 1})
    story.answer({})
    told = [(timer["for"], timer["hit"]) for view in moments(story) for timer in view["timers"]]
    hit = story.only().hit
    assert list(dict.fromkeys(told)) == [
        ("retry", None),
        ("patience", None),
        ("delay", None),
        ("hold", None),
        ("answer", hit),
    ]
    waiting = [view for view in moments(story) if any(timer["for"] == "answer" for timer in view["timers"])]
    assert {view["passes"][-1]["fate"] for view in waiting} == {"waiting"}
    story.put(ReplySettled("waits", story.at, hit, "gone"))
    last = moments(story)[-1]
    assert (last["passes"][-1]["reply"], last["passes"][-1]["fate"], last["timers"]) == (201, "gone", [])
    calls = [view["call"] for view in moments(story) if view["call"] is not None]
    assert {(call["failures"], call["refusals"]) for call in calls} >= {(0, 0), (1, 0), (1, 1)}


def test_14_given_a_moment_then_the_event_that_made_it_is_told(cli: Cli, tmp_path: Path) -> None:
    """Section 14: what happened there, masked, and the timers as a person reads them."""
    story = payments()
    data = journaled(tmp_path, story)
    first = min(story.state.transactions)
    held = next(view for view in moments(story) if view["status"] == "held")
    done = cli("replay", data, "--transaction", f"pay-{first}", "--until", held["seq"], "--json")
    assert done.json["event"]["event"] == "TransactionHeld"
    told = cli("replay", data, "--transaction", f"pay-{first}", "--until", held["seq"])
    assert f"as of event {held['seq']} (2026-01-01T12:00:00.000+00:00), TransactionHeld\n" in told.out
    assert "  the hold ends at 2026-01-03T12:00:00.000+00:00\n" in told.out
    by_time = cli("replay", data, "--transaction", f"pay-{first}", "--until", "2026-01-01T12:00:00Z", "--json")
    assert by_time.json["at"] == "2026-01-01T12:00:00.000+00:00"
    assert by_time.json["seq"] < len(story.journal) - 1


def test_14_given_a_match_of_several_when_replayed_then_all_candidates_are_named(cli: Cli, tmp_path: Path) -> None:
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


def test_14_given_a_journal_when_replayed_then_cycles_are_counted_and_compared(cli: Cli, tmp_path: Path) -> None:
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
def test_14_given_the_guard_in_a_process_of_its_own_then_nothing_reaches_the_network(attempt: str) -> None:
    """Whichever way something asks: a socket, a name, another thread, a client, a loop."""
    code = f"from runtime.replay import forbid_sockets\nwith forbid_sockets():\n    {attempt}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=30
    )
    assert done.returncode == 1
    assert "SocketRefused: a replay opens no socket" in done.stderr


def test_14_given_the_command_when_it_replays_then_the_guard_holds(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold itself runs under it."""
    data = journaled(tmp_path, payments())
    monkeypatch.setattr("runtime.cli.replaying.fold_journal", lambda *_: socket.socket())
    done = cli("replay", data)
    assert done.code == 1
    assert "SocketRefused" in done.err


def draft(folder: Path, text: str) -> Path:
    """A project folder of one cycle."""
    folder.mkdir()
    (folder / "pay.cycle.yaml").write_text(text)
    return folder


def test_14_given_a_draft_when_tried_by_command_then_the_exit_code_says_whether_anything_changes(
    cli: Cli, tmp_path: Path
) -> None:
    """0 when nothing does, 1 when something does, as `diff` has it; what is sensitive is masked on both sides."""
    data = journaled(tmp_path / "data", payments())
    same = cli("replay", data, "--what-if", draft(tmp_path / "same", PAY))
    assert (same.code, same.err) == (0, "")
    assert "5 requests run: 0 transaction(s) differ" in same.out
    changed = draft(tmp_path / "changed", PAY.replace("/charges", "/charge").replace("settled.state }", "settled.id }"))
    done = cli("replay", data, "--what-if", changed)
    assert (done.code, done.err) == (1, "the draft changes what happens\n")
    assert "  call charge: url /charges → /charge\n" in done.out
    assert "  tasks of pay: 10 → 10\n" in done.out
    told = cli("replay", data, "--what-if", changed, "--json")
    *each, outcome = told.lines
    assert outcome["transactions"] == 3
    assert {one["what"] for found in each for one in found["differences"]} == {"call", "answer"}
    assert "secret-4111" not in done.out + told.out
    assert "••••" in told.out


def test_14_given_a_draft_and_a_window_when_tried_then_only_that_part_runs(cli: Cli, tmp_path: Path) -> None:
    """Numbers, instants and lengths of time ago; a draft with faults is not tried."""
    story = payments()
    data = journaled(tmp_path / "data", story)
    changed = draft(tmp_path / "changed", PAY.replace("/charges", "/charge"))
    later = cli("replay", data, "--what-if", changed, "--since", "2026-01-01T12:00:01Z", "--json")
    assert later.lines[-1]["hits"] == 3
    assert cli("replay", data, "--what-if", changed, "--since", len(story.journal)).code == 0
    assert cli("replay", data, "--what-if", changed, "--until", "1").code == 0
    assert cli("replay", data, "--what-if", changed, "--until", "99 weeks ago", "--cycle", "pay").code == 0
    assert cli("replay", data, "--what-if", changed, "--cycle", "pya").code == 1
    for wrong in (("--since", "yesterday"), ("--compare",), ("--transaction", "pay-1")):
        assert cli("replay", data, "--what-if", changed, *wrong).code == 2
    assert cli("replay", data, "--since", "3").code == 2
    faulty = cli("replay", data, "--what-if", draft(tmp_path / "faulty", PAY.replace("charge.id", "charged.id")))
    assert (faulty.code, "nothing was tried" in faulty.err) == (1, True)
