"""The command line without a server: what each command prints, and the code it ends with (README, section 15)."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from journal import LocalLog
from protocol.events import encode_event
from tests.runtime.commands import Cli
from tests.runtime.journals import journaled, payments
from tests.system.harness import ROOT

PROJECT = {
    "a.cycle.yaml": "cycle: a\nsteps:\n  t: {webhook: shop}\n  g:\n    get: remot\n    path: /x\n",
    "b.cycle.json": '{"cycle": "b",\n "steps": {\n  "t": {"webhook": "shop"},\n  "n": {"note": "x", "nxt": "end"}}}',
    "c.cycle.toml": 'cycle = "c"\nsteps = \n',
    "connectors.yaml": "shop: {}\nremote: {base_url: 'http://x'}\n",
    "cyclewright.toml": 'bnd = "127.0.0.1:8080"\n',
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a project with three payments."""
    return journaled(tmp_path / "data", payments())


def damage(data: Path) -> None:
    """Let a byte rot in the middle of the journal's records."""
    (segment,) = (data / "journal").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[content.index(b"secret-4111")] ^= 1
    segment.write_bytes(content)


# -- projects


def test_1_a_project_is_its_cycle_files_connectors_and_settings(cli: Cli, tmp_path: Path) -> None:
    """File, line, step, rule, the value found and the nearest name; settings too; exit 1."""
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(text)
    done = cli("check", tmp_path)
    assert done.code == 1
    assert done.out.splitlines() == [
        "a.cycle.yaml:5: step g: get names no connector, found remot (did you mean remote?)",
        "b.cycle.json:4: step n: nxt is no key here, found nxt (did you mean next?)",
        "c.cycle.toml:2: can not be read: Invalid value (at line 2, column 9)",
        "cyclewright.toml:1: bnd is no key here, found bnd (did you mean bind?)",
    ]
    assert done.err == "4 fault(s)\n"
    faults = cli("check", tmp_path, "--json").json["faults"]
    assert faults[0] == {
        "file": "a.cycle.yaml",
        "line": 5,
        "step": "g",
        "rule": "get names no connector",
        "found": "remot",
        "nearest": "remote",
    }


def test_given_a_new_project_when_checked_then_it_has_no_faults(cli: Cli, tmp_path: Path) -> None:
    """And a second `new` overwrites nothing."""
    made = cli("new", tmp_path / "shop")
    assert (made.code, len(made.out.splitlines())) == (0, 3)
    assert cli("check", tmp_path / "shop").out == "1 cycle(s), no faults\n"
    (tmp_path / "shop" / "README.md").write_text("mine")
    again = cli("new", tmp_path / "shop")
    assert (again.code, again.out) == (1, "")
    assert "exists already: nothing was written" in again.err
    assert (tmp_path / "shop" / "README.md").read_text() == "mine"


def test_2_the_schema_is_json_schema(cli: Cli) -> None:
    """For editors."""
    assert cli("schema").json["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("command", ["check", "serve", "urls"])
def test_given_no_such_folder_then_a_line_says_so(cli: Cli, tmp_path: Path, command: str) -> None:
    """Exit 1, and what to name instead."""
    done = cli(command, tmp_path / "nowhere")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "nowhere" in done.err


def test_given_settings_that_are_no_toml_then_a_line_says_where(cli: Cli, tmp_path: Path) -> None:
    """Exit 1 from every command that reads them."""
    cli("new", tmp_path)
    (tmp_path / "cyclewright.toml").write_text("bind = \n")
    for command in (["serve", tmp_path], ["urls", tmp_path], ["start", "hello", "--project", tmp_path]):
        done = cli(*command)
        assert (done.code, done.err) == (1, "cyclewright.toml: Invalid value (at line 1, column 8)\n")


def test_given_a_project_with_faults_when_served_then_nothing_is_started(cli: Cli, tmp_path: Path) -> None:
    """Every fault is told, and no journal is made."""
    (tmp_path / "a.cycle.yaml").write_text(PROJECT["a.cycle.yaml"])
    done = cli("serve", tmp_path)
    assert done.code == 1
    assert "a.cycle.yaml:5: step g: get names no connector" in done.err
    assert not (tmp_path / ".cyclewright").exists()


# -- journals


def test_given_a_journal_when_listed_then_its_segments_and_figures_are_shown(cli: Cli, data: Path) -> None:
    """The journal's folder is found from the project, from its data and by itself."""
    events = len(payments().journal)
    assert f"{events}" in cli("journal", "ls", data).out
    for folder in (data, data / "journal"):
        (segment,) = cli("journal", "ls", folder, "--json").json
        assert (segment["base_seq"], segment["next_seq"]) == (0, events)
    assert cli("journal", "stats", data, "--json").json["next_seq"] == events
    assert re.search(rf"next_seq +{events}", cli("journal", "stats", data).out)
    assert cli("journal", "verify", data).out.endswith(f" {events} events\n")
    assert cli("journal", "verify", data, "--json").json["faults"] == []


def test_given_a_journal_when_printed_then_each_event_is_a_line_without_its_secrets(cli: Cli, data: Path) -> None:
    """`--from` and `--until` bound it, `--cycle` chooses, whether or not the definition lies within the bounds."""
    everything = cli("journal", "cat", data, "--json").lines
    assert [one["seq"] for one in everything] == list(range(len(payments().journal)))
    accepted = [one for one in everything if one["event"] == "HitAccepted"][1]
    assert msgspec.json.decode(accepted["body"]) == {"order": "A1", "card": "••••"}
    part = cli("journal", "cat", data, "--from", accepted["seq"], "--until", accepted["seq"] + 2)
    assert [line.split()[2] for line in part.out.splitlines()] == ["HitAccepted", "TransactionStarted", "PassStarted"]
    assert "secret" not in cli("journal", "cat", data).out + part.out
    assert cli("journal", "cat", data, "--cycle", "other").out == ""
    latest = cli("journal", "tail", data, "-n", "2", "--json").lines
    assert latest == everything[-2:]
    assert len(cli("journal", "tail", data).out.splitlines()) == 10
    assert cli("journal", "tail", data, "--count", "0").out == ""


def test_given_text_that_would_steer_a_terminal_when_printed_then_it_is_shown_as_text(cli: Cli, tmp_path: Path) -> None:
    """Whoever sends a request does not paint the operator's screen."""
    story = payments()
    story.hit("asked", {"order": "\x1b[2J\x9b2J[bold]", "card": "x"})
    data = journaled(tmp_path, story)
    shown = cli("journal", "cat", data).out
    shown += cli("replay", data, "--transaction", f"pay-{max(story.state.transactions)}").out
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "[bold]" in shown


def test_given_a_damaged_journal_then_its_place_is_named_and_the_code_is_4(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    """Whichever command meets the damage; a server does not start."""
    damage(data)
    cli("new", tmp_path / "shop")
    for command in (
        ["journal", "verify", data],
        ["journal", "cat", data],
        ["replay", data],
        ["serve", tmp_path / "shop", "--journal", data, "--bind", "127.0.0.1:0"],
    ):
        done = cli(*command)
        assert done.code == 4, command
        assert ".seg at byte " in done.out + done.err


def test_given_a_journal_that_another_process_owns_when_served_then_it_is_named(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    """One journal has one writer; readers are not held up."""
    cli("new", tmp_path / "shop")
    with LocalLog.open(data / "journal"):
        done = cli("serve", tmp_path / "shop", "--journal", data, "--bind", "127.0.0.1:0")
        assert done.code == 1
        assert f"process {os.getpid()} owns the journal" in done.err
        assert cli("journal", "stats", data).code == 0


def test_given_events_of_a_newer_build_when_read_then_the_newer_build_is_asked_for(cli: Cli, tmp_path: Path) -> None:
    """A tag that this build does not know is no damage."""
    story = payments()
    data = journaled(tmp_path, story)
    with LocalLog.open(data / "journal") as log:
        owner = log.own("local")
        owner.append([[msgspec.msgpack.encode([99, "pay", 0])], [encode_event(story.journal[0])]], at=story.at)
        owner.close()
    cli("new", tmp_path / "shop")
    serve = ["serve", tmp_path / "shop", "--journal", data, "--bind", "127.0.0.1:0"]
    for command in (["replay", data], ["journal", "cat", data], serve):
        done = cli(*command)
        assert done.code == 1
        assert "use the newer build" in done.err


def test_given_a_stopped_server_then_its_urls_are_read_from_the_journal(cli: Cli, tmp_path: Path) -> None:
    """No server, no store: the journal alone says them."""
    cli("new", tmp_path)
    journaled(tmp_path / ".cyclewright", payments())
    (tmp_path / "cyclewright.toml").write_text('public_url = "https://hooks.example/"\nbind = "127.0.0.1:1"\n')
    expected = {
        "pay": {
            "asked": "https://hooks.example/webhook/pay-asked",
            "settled": "https://hooks.example/webhook/pay-settled",
        }
    }
    done = cli("urls", tmp_path, "--json")
    assert (done.code, done.json) == (0, expected)
    assert done.err == "no server answers at http://127.0.0.1:1: these are as journal and settings have them\n"
    assert "https://hooks.example/webhook/pay-settled\n" in cli("urls", tmp_path).out.replace(" \n", "\n")


# -- endings


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["journal", "cat"],
        ["journal", "cat", ".", "--from", "x"],
        ["journal", "tail", ".", "--count", "-1"],
        ["replay", ".", "--until", "-1"],
        ["hit", "cycle"],
        ["hit", "/step"],
    ],
)
def test_given_a_command_line_that_is_none_then_the_code_is_2(cli: Cli, arguments: list[str]) -> None:
    """Usage."""
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err


@pytest.mark.parametrize("command", [["transactions", "ls"], ["hit", "a/b"], ["stop", "a"], ["urls", "."]])
def test_given_no_server_then_the_code_is_3(cli: Cli, command: list[str]) -> None:
    """And the address that was tried is named."""
    done = cli(*command, "--server", "http://127.0.0.1:1")
    assert (done.code, done.out) == (3, "")
    assert "no server answers at http://127.0.0.1:1" in done.err


def test_given_ctrl_c_then_the_code_is_130(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tail --follow` ends so; what it printed stays."""

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    done = cli("journal", "tail", data, "--follow", "-n", "3")
    assert (done.code, len(done.out.splitlines()), done.err) == (130, 3, "")


def test_given_an_output_that_nobody_reads_any_more_then_the_code_is_141(data: Path) -> None:
    """`cyclewright journal cat … | head` says nothing of its own."""
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "runtime.cli", "journal", "cat", str(data)]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, check=False, cwd=ROOT, timeout=30)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


def test_given_a_defect_of_ours_then_a_line_says_how_to_see_more(
    cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is, it is no traceback."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("runtime.cli.journal.event_view", broken)
    done = cli("journal", "cat", data)
    assert (done.code, done.out) == (1, "")
    assert done.err == "cyclewright failed: ZeroDivisionError: ours (set CYCLEWRIGHT_DEBUG=1 to see where)\n"
