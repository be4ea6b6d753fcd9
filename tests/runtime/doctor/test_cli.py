"""`cyclewright doctor` of a stopped project: what it prints, and the code it ends with."""

from pathlib import Path

import pytest
import trio

from protocol.state import TransactionRow
from tests.runtime.commands import Cli
from tests.runtime.doctor.patients import JOBS, change, execute, lived, transaction_id
from tests.system.harness import free_port


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that was served and is stopped now, at an address where nobody listens."""
    (tmp_path / "jobs.cycle.yaml").write_text(JOBS)
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{free_port()}"\nconnections_max = 100\n')
    data = tmp_path / ".cyclewright"
    data.mkdir(mode=0o700)
    trio.run(_live, data)
    return tmp_path


async def _live(data: Path) -> None:
    async with lived(data):
        pass


def test_given_a_good_project_then_every_check_is_told_and_the_code_is_0(cli: Cli, project: Path) -> None:
    """One line for each of the eight, the journal and the machine."""
    done = cli("doctor", "--project", project, "--compare", "--json")
    checks = {one["name"]: one for one in done.json["checks"]}
    assert {f"invariant {rule}" for rule in range(1, 9)} <= checks.keys()
    assert {"journal", "digest", "store", "disk", "file modes", "room", "clock", "settings"} <= checks.keys()
    sick = [one for one in checks.values() if one["level"] in ("warning", "broken") and one["name"] != "disk"]
    assert not sick
    if checks["disk"]["level"] in ("ok", "note"):
        assert done.code == 0
    shown = cli("doctor", "--project", project).out
    assert "ok       invariant 3" in shown
    assert "none answers at" in shown


def test_given_a_broken_row_then_the_doctor_names_it_and_ends_with_1(cli: Cli, project: Path) -> None:
    """The rule, the row, what is wrong."""
    store = project / ".cyclewright" / "store.sqlite"
    held = change(store, TransactionRow, "held", lambda row: setattr(row, "step", "nowhere"))
    done = cli("doctor", "--project", project)
    assert done.code == 1
    assert "BROKEN   invariant 3" in done.out
    assert f"it holds where no request can reach it [jobs-{held} (held at nowhere)]" in done.out


def test_given_a_store_that_differs_then_only_the_comparison_finds_it(cli: Cli, project: Path) -> None:
    """Data that no rule knows of: it costs a replay to see."""
    store = project / ".cyclewright" / "store.sqlite"
    change(store, TransactionRow, "held", lambda row: row.data["asked"].update(job=99))
    plain = {one["name"]: one["level"] for one in cli("doctor", "--project", project, "--json").json["checks"]}
    assert "broken" not in plain.values()
    done = cli("doctor", "--project", project, "--compare", "--json")
    assert done.code == 1
    assert {one["name"]: one["level"] for one in done.json["checks"]}["digest"] == "broken"


def test_given_a_damaged_journal_then_the_code_is_4(cli: Cli, project: Path) -> None:
    """As `journal verify` has it."""
    (segment,) = (project / ".cyclewright" / "journal").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[content.index(b"cycle: jobs") if b"cycle: jobs" in content else 4096 + 80] ^= 1
    segment.write_bytes(content)
    done = cli("doctor", "--project", project)
    assert done.code == 4
    assert "BROKEN   journal" in done.out


def test_given_no_store_then_the_next_start_builds_it(cli: Cli, project: Path) -> None:
    """Nothing is wrong with that."""
    for path in (project / ".cyclewright").glob("store.sqlite*"):
        path.unlink()
    done = cli("doctor", "--project", project, "--json")
    checks = {one["name"]: one["level"] for one in done.json["checks"]}
    assert checks["store"] == "note"


def test_given_a_store_ahead_of_its_journal_then_it_is_told(cli: Cli, project: Path) -> None:
    """One that was put back from another day, say."""
    execute(project / ".cyclewright" / "store.sqlite", "UPDATE meta SET value = 99999 WHERE name = 'applied'")
    done = cli("doctor", "--project", project)
    assert done.code == 1
    assert "the store has what the journal has not" in done.out


def test_given_a_transaction_then_why_it_waits_is_told_of_a_stopped_project_too(cli: Cli, project: Path) -> None:
    """And that nothing moves until a server runs."""
    held = transaction_id(project / ".cyclewright" / "store.sqlite", "held")
    done = cli("doctor", f"jobs-{held}", "--project", project)
    assert done.code == 0
    assert f"jobs-{held} is held at back" in done.out
    assert "no server runs" in done.out
    assert "cyclewright hit jobs/back --json" in done.out
    assert cli("doctor", "jobs-99999", "--project", project).code == 1
    assert cli("doctor", f"jobs-{held}", "--compare", "--project", project).code == 2


def test_given_a_folder_without_a_journal_then_it_is_told(cli: Cli, tmp_path: Path) -> None:
    """A doctor of nothing."""
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{free_port()}"\n')
    done = cli("doctor", "--project", tmp_path)
    assert done.code == 1
    assert "holds no journal" in done.err
