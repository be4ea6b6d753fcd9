"""Looks at the state over the API: they show only what a crash can not take back."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from protocol.inputs import Accepted
from protocol.state import HitRow
from runtime.config import Settings
from runtime.door import Door, make_app
from runtime.store import Database
from runtime.store.rows import TABLES, encode
from tests.runtime.disk import SlowDisk
from tests.runtime.rig import Rig, running

JOBS = """
cycle: jobs
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {job: {type: integer, required: true}}}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}}
    match: {job: asked.job}
"""


class Looker:
    """Who reads the API while things happen."""

    def __init__(self, rig: Rig) -> None:
        self.door = Door(Settings(), "token", "key")
        self.door.open(rig.engine)
        self.app: QuartTrio = make_app(self.door)
        self.seen: list[Any] = []

    async def look(self, path: str, **headers: str) -> None:
        """GET, and remember what was shown."""
        answer = await self.app.test_client().get(path, headers={"authorization": "Bearer token", **headers})
        self.seen.append(await answer.get_json())


@pytest.mark.parametrize("path", ["/api/cycles", "/api/cycles/jobs"])
async def test_15_counts_of_a_cycle_are_shown_once_they_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """15: given a job that the journal does not have yet, when cycles are looked at, then the look waits for it."""
    async with running(tmp_path, JOBS) as rig, trio.open_nursery() as nursery:
        looker = Looker(rig)
        disk = SlowDisk(monkeypatch)
        rig.hit("jobs", "asked", {"job": 1})
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(looker.look, path)
        await trio.testing.wait_all_tasks_blocked()
        assert looker.seen == []
        await disk.sync_one()
        (shown,) = looker.seen
        assert (shown["cycles"][0] if "cycles" in shown else shown)["counts"]["held"] == 1
        monkeypatch.undo()


async def test_15_a_status_shows_nothing_that_came_while_it_waited_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15: given a held job, when it completes while its status waits for durability, then `held` is shown."""
    async with running(tmp_path, JOBS) as rig, trio.open_nursery() as nursery:
        looker = Looker(rig)
        verdict = (await rig.hit("jobs", "asked", {"job": 1}).decided()).verdict
        assert isinstance(verdict, Accepted)
        disk = SlowDisk(monkeypatch)
        for other in (2, 3):
            rig.hit("jobs", "asked", {"job": other})
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(looker.look, f"/status/{verdict.hit}.{looker.door.sign(verdict.hit)}")
        await trio.testing.wait_all_tasks_blocked()
        await disk.sync_one()
        rig.hit("jobs", "back", {"job": 1})
        await trio.testing.wait_all_tasks_blocked()
        assert rig.engine.state.transaction(verdict.transaction).status == "completed"
        await disk.sync_one()
        (shown,) = looker.seen
        assert (shown["status"], shown["pass"]) == ("held", 1)
        await disk.sync_one()
        monkeypatch.undo()


async def test_15_a_wait_for_a_status_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """15: given a transaction that nothing happens to, when a wait for it ends by its bound, then it is forgotten."""
    async with running(tmp_path, JOBS) as rig:
        verdict = (await rig.hit("jobs", "asked", {"job": 1}).decided()).verdict
        assert isinstance(verdict, Accepted)
        with trio.move_on_after(0.01) as bound:
            await rig.engine.watchers.changed(verdict.transaction)
        assert bound.cancelled_caught
        assert len(rig.engine.watchers) == 0


async def test_15_a_transaction_is_shown_as_it_was_at_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15: given a look at a transaction, when a checkpoint is written in the middle of it, then none of it is shown."""
    async with running(tmp_path, JOBS) as rig:
        looker = Looker(rig)
        told = (await rig.hit("jobs", "asked", {"job": 1}).decided()).verdict
        assert isinstance(told, Accepted)
        await rig.engine.checkpointed()
        read = Database.rows

        def write_and_read(database: Database, *wanted: Any) -> Any:
            monkeypatch.undo()
            (hit,) = read(database, TABLES[HitRow])
            hit.status = "expired"
            rows = [(*TABLES[HitRow].values(hit), encode(hit))]
            database.write({HitRow: rows}, [], [], database.meta("applied"))
            return read(database, *wanted)

        monkeypatch.setattr(Database, "rows", write_and_read)
        await looker.look(f"/api/transactions/jobs-{told.transaction}")
        await looker.look(f"/api/transactions/jobs-{told.transaction}")
        assert [shown["passes"][0]["status"] for shown in looker.seen] == ["done", "expired"]
