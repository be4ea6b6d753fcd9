"""`check --against` (section 11): what a deploy would mean for the transactions of a journal, which is only read."""

from pathlib import Path
from typing import Any

import pytest

from journal import LOCAL_PARTITION, LocalLog
from protocol.inputs import Deploy
from protocol.loading import Source, encode_definition, load_project, version_name
from tests.protocol.story import Story
from tests.protocol.test_moving import ASKED, BACK, BOOK, MOVES, OLD, TELL, ask, call_back, version
from tests.runtime.commands import Cli
from tests.runtime.journals import journaled


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three that hold, one of which was run before; one that is completed, one in the middle of a pass, one failed."""
    story = Story(OLD)
    rows = [ask(story, number, "ada") for number in range(6)]
    for at in (0, 1):
        call_back(story, at)
        story.answer({}, transaction=rows[at].id)
    call_back(story, 2)
    call_back(story, 3)
    story.answer(None, 500, transaction=rows[3].id)
    return journaled(tmp_path / "data", story)


def project(folder: Path, text: str) -> Path:
    """A project of one cycle."""
    folder.mkdir()
    (folder / "moves.cycle.yaml").write_text(text)
    return folder


def against(cli: Cli, tmp_path: Path, data: Path, text: str) -> Any:
    """What is told of a project, as JSON."""
    done = cli("check", project(tmp_path / "project", text), "--against", data, "--json")
    assert done.code == 0, done.err
    return done.json["against"]


def test_given_a_version_that_has_everything_then_all_that_can_be_run_again_would_move(
    cli: Cli, tmp_path: Path, data: Path
) -> None:
    """Held and completed ones; not a pass in progress, and not what has failed."""
    told = against(cli, tmp_path, data, MOVES)
    assert (told["move"], told["stay"]) == (4, 0)
    (group,) = told["groups"]
    assert group == {
        "cycle": "moves",
        "version": "hash-moves",
        "step": "back",
        "held": 2,
        "completed": 2,
        "move": 4,
        "stay": 0,
        "reasons": {},
    }


def test_11_given_a_version_that_maps_what_is_not_there_then_it_says_what_and_how_many(
    cli: Cli, tmp_path: Path, data: Path
) -> None:
    """By step and field; the exit code is 0, since to stay is no fault."""
    text = OLD.replace("name: text", "name: text, vip: text").replace("asked.name", "asked.vip")
    folder = project(tmp_path / "project", text)
    done = cli("check", folder, "--against", data / "journal")
    assert done.code == 0
    assert done.out.splitlines()[0] == "1 cycle(s), no faults"
    assert "tell maps asked.vip, and its version does not declare asked.vip" in done.out
    assert done.out.splitlines()[-1].endswith("0 would move at their next pass, 4 would stay")


def test_given_a_cycle_that_the_project_does_not_have_then_its_transactions_would_stay(
    cli: Cli, tmp_path: Path, data: Path
) -> None:
    """A cycle that is gone is left as it is."""
    told = against(cli, tmp_path, data, version(ASKED, BOOK, BACK, TELL).replace("cycle: moves", "cycle: other"))
    assert told["groups"][0]["reasons"] == {"the project has no such cycle": 4}


def test_given_the_version_that_they_run_then_nothing_is_to_be_told(cli: Cli, tmp_path: Path) -> None:
    """Transactions that run the project's version are in no group; a deployed version is named by its content."""
    folder = project(tmp_path / "project", OLD)
    story = Story(OLD)
    packed = encode_definition(load_project([Source("moves.cycle.yaml", OLD)])[0]["moves"])
    story.put(Deploy("moves", story.at, packed, version_name(packed), {}))
    ask(story)
    data = journaled(tmp_path / "data", story)
    told = cli("check", folder, "--against", data, "--json").json["against"]
    assert (told["groups"], told["seq"]) == ([], len(story.journal) - 1)


def test_given_a_project_with_faults_then_they_are_told_and_nothing_else(cli: Cli, tmp_path: Path, data: Path) -> None:
    """Exit 1, as without a journal: what can not be deployed moves nobody."""
    folder = project(tmp_path / "project", OLD.replace("post: remote, path: /tell", "post: remot, path: /tell"))
    done = cli("check", folder, "--against", data)
    assert (done.code, "would" in done.out, "names no connector" in done.out) == (1, False, True)


def test_given_no_journal_then_a_line_says_so(cli: Cli, tmp_path: Path) -> None:
    """Exit 1."""
    done = cli("check", project(tmp_path / "project", OLD), "--against", tmp_path / "nowhere")
    assert (done.code, "nowhere is no folder" in done.err) == (1, True)


def test_given_a_journal_that_a_server_writes_then_it_is_read_beside_it_and_nothing_changes(
    cli: Cli, tmp_path: Path, data: Path
) -> None:
    """No lock is taken, and no byte of the folder is touched."""
    folder = project(tmp_path / "project", MOVES)
    with LocalLog.open(data / "journal") as log:
        owner = log.own(LOCAL_PARTITION)
        before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (data / "journal").iterdir()}
        assert cli("check", folder, "--against", data).code == 0
        assert {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (data / "journal").iterdir()
        } == before
        owner.close()
