"""`journal stats`: what is kept and why, of a running server or of none (section 11)."""

from pathlib import Path
from typing import Any

import trio.testing

from runtime.config import CONFIG_FILE
from tests.runtime.commands import Cli
from tests.runtime.rig import running
from tests.runtime.test_retention import DAY, HOLDS, NOTES, SMALL, forget_store, later, note, retaining

ONCE = NOTES.replace("cycle: notes", "cycle: once").replace(
    "fields:", "dedupe: {header: x-id, window: 60 days}, fields:"
)


async def test_11_each_segment_says_why_it_is_kept(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, cli: Cli
) -> None:
    """The oldest hold, what is within its age, parked requests, delivery keys; and what nothing needs any more."""
    patient = HOLDS.replace("{job: asked.job}}", "{job: asked.job}, park: 30 days}")  # Threads let the clock run ahead.
    async with running(tmp_path, NOTES, patient, ONCE, **SMALL) as rig:
        held = await rig.hit("holds", "asked", {"job": 1}).decided()
        await note(rig, 60)
        keyed = await rig.hit("once", "noted", {"n": 1}, **{"x-id": "d1"}).decided()
        rig.engine.settle("once", keyed.waits, "sent")
        await later(autojump_clock, 31 * DAY)
        rig.hit("holds", "back", {"job": 9})
        await note(rig, 60)
        await retaining(rig).round()
        await rig.engine.checkpointed()
        shown = _stats(cli, tmp_path)
        reasons = [segment["why"] for segment in shown["kept"]]
        assert reasons[0] == [f"holds: 1 held, from holds-{held.verdict.transaction} on"]  # type: ignore[union-attr]
        assert ["follows what is kept"] in reasons
        told = [why for one in reasons for why in one]
        assert "once: 1 requests whose delivery keys are remembered" in told
        assert "holds: 1 parked requests" in told
        assert any(why.startswith("notes: ") and " completed, from notes-" in why for why in told)
        assert told[-1] == "is being written"
        assert not any("nothing in it is kept" in why for why in told)
        (cycle,) = (one for one in shown["cycles"] if one["cycle"] == "holds")
        assert cycle["oldest_held"].startswith(f"holds-{held.verdict.transaction}, since 2026-")  # type: ignore[union-attr]
        assert cycle["ages"] == {"completed": "30 days", "failed": "50 days", "held": "40 days", "bodies": "forever"}
        assert "follows what is kept" in cli("journal", "stats", tmp_path).out


async def test_11_what_was_dropped_is_seen_by_where_the_journal_begins(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, cli: Cli
) -> None:
    """Every command that looks into a journal understands one that begins late, with its store or without."""
    project = tmp_path / "project"
    data = project / ".cyclewright"
    data.mkdir(parents=True)
    (project / CONFIG_FILE).write_text('[retention]\ncompleted = "10 days"\n')
    async with running(data, NOTES, **SMALL) as rig:
        await note(rig, 100)
        await later(autojump_clock, 11 * DAY)
        unneeded = _stats(cli, project)["kept"][0]["why"]
        assert unneeded[0].startswith("notes: "), "no round came by yet"
        await retaining(rig, completed="10 days").round()
        first = rig.log.first_seq
        await note(rig, 2)
    shown = _stats(cli, project)
    assert shown["first_seq"] == first > 0
    assert len(shown["snapshots"]) == 1
    assert shown["cycles"][0]["ages"]["completed"] == "10 days"
    assert cli("journal", "ls", project, "--json").json[0]["base_seq"] == first
    assert cli("journal", "verify", project).code == 0
    assert f"{first:>8} " in cli("journal", "cat", project).out
    compared = cli("replay", project, "--compare")
    assert (compared.code, "the store gives the same digest" in compared.out) == (0, True)
    early = cli("replay", project, "--until", 3)
    assert (early.code, "the earliest moment that can be shown" in early.err) == (1, True)
    forget_store(data)
    assert "notes" in cli("replay", project).out
    assert cli("journal", "tail", project).code == 0
    lost = cli("journal", "stats", project)
    assert "no store says what is in it" in lost.out
    assert "nothing is known of what is kept" in lost.err


def _stats(cli: Cli, folder: Path) -> Any:
    return cli("journal", "stats", folder, "--json").json
