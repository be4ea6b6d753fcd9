"""Redrive inside the server (section 13): what is read from the journal, what is gone, and what bounds an order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from journal import Frame, JournalTrimmed
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import HitRow
from runtime.config import Quota
from runtime.redriving import Gone, Order, Told, fixed, read_event, redrive_item
from runtime.store.rows import TABLES
from tests.runtime.rig import Rig, answer, running

CYCLE = """
cycle: c
connectors: {shop: {}, remote: {base_url: "http://127.0.0.1:9000"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {id: text}}
  work: {post: remote, path: /w, body: {id: "{{ asked.id }}"}}
"""
READS = CYCLE.replace("{{ asked.id }}", "{{ hit.body.id }}")
BIG = "x" * 100_000


class Trimmed:
    """A journal of which retention left nothing."""

    def read(self, _partition: str, after: int = -1, _until: int | None = None) -> Iterator[Frame]:
        """Nothing is left below 1,000."""
        raise JournalTrimmed(after + 1, 1000)


def order(action: Any, name: str = "o1", *, page: str = "", digest: str = "d", again: bool = False) -> Order:
    """An order with the original definition."""
    return Order(name=name, page=page, action=action, digest=digest, current=False, again=again)


async def failed(rig: Rig, body: Any = None) -> int:
    """The transaction of a request whose call was refused."""
    await rig.ask("c", "asked", body or {"id": "A1"})
    await rig.engine.checkpointed()
    (row,) = rig.engine.state.database.select("SELECT id FROM transactions WHERE status = 'failed'")
    return int(row[0])


async def redrive(rig: Rig, action: Any, item: int, name: str = "o1", *, preview: bool = False) -> Told:
    """What became of one item."""
    return await redrive_item(rig.engine, order(action, name), item, preview=preview)


async def refusing(_call: object) -> CallAnswer | CallFailure:
    """A remote that refuses everything."""
    return answer(None, 422)


@pytest.mark.parametrize("action", ["redeliver", "rerun"])
async def test_13_a_body_that_the_store_dropped_is_read_from_the_journal(
    tmp_path: Path, autojump_clock: object, action: Any
) -> None:
    """Section 13: given a pass that has ended, when its request comes again, then it is whole."""
    del autojump_clock
    async with running(tmp_path, CYCLE, remote=refusing) as rig:
        item = await failed(rig, {"id": BIG})
        row = rig.engine.state.transaction(item)
        stored = rig.engine.state.database.row(TABLES[HitRow], row.hit)
        assert (stored.body, stored.headers) == (b"", {})
        told = await redrive(rig, action, row.hit if action == "redeliver" else item)
        assert (told.outcome, told.step) == ("done", "asked")
        await rig.engine.checkpointed()
        assert rig.engine.state.transaction(int(str(told.transaction).partition("-")[2])).data["asked"] == {"id": BIG}


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("action", ["redeliver", "rerun"])
async def test_13_a_request_that_retention_removed_is_said_to_be_gone(
    tmp_path: Path, autojump_clock: object, action: Any, preview: bool
) -> None:
    """Section 13: clearly, also in a preview, and nothing is redriven."""
    del autojump_clock
    async with running(tmp_path, CYCLE, remote=refusing) as rig:
        item = await failed(rig)
        before = rig.engine.next_seq
        rig.engine.journal = Trimmed()  # type: ignore[assignment]  # Of the log, only reading matters here.
        hit = rig.engine.state.transaction(item).hit
        told = await redrive(rig, action, hit if action == "redeliver" else item, preview=preview)
        assert told.outcome == "refused"
        assert told.reason == f"The request is gone: retention has removed number {hit}: the journal begins at 1000 now"
        assert rig.engine.next_seq == before


@pytest.mark.parametrize(("text", "outcome"), [(CYCLE, "done"), (READS, "refused")])
async def test_13_a_resume_does_without_the_request_unless_the_definition_reads_it(
    tmp_path: Path, autojump_clock: object, text: str, outcome: str
) -> None:
    """Section 13: the data so far stands in the transaction; only `hit` needs the request itself."""
    del autojump_clock
    async with running(tmp_path, text, remote=refusing) as rig:
        item = await failed(rig)
        rig.engine.journal = Trimmed()  # type: ignore[assignment]  # The same.
        told = await redrive(rig, "resume", item)
        assert (told.outcome, told.hit) == (outcome, None)


async def test_13_what_the_state_does_not_have_is_said_to_be_removed(tmp_path: Path, autojump_clock: object) -> None:
    """Section 13: an order that was fixed before retention came by."""
    del autojump_clock
    async with running(tmp_path, CYCLE) as rig:
        for action in ("redeliver", "resume", "rerun"):
            assert (await redrive(rig, action, 77)).reason == "retention has removed it"
        with pytest.raises(Gone, match="no number 99999"):
            read_event(rig.engine.journal, 99_999)


async def test_12_past_the_quota_nothing_is_redriven(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sections 12 and 13: a redrive is metered, and refused, as any request."""
    del autojump_clock
    monkeypatch.setattr("runtime.metering.LOOK_NS", 0)
    async with running(tmp_path, CYCLE, remote=refusing, quota=Quota(tasks_per_month=4)) as rig:
        item = await failed(rig)
        assert (await redrive(rig, "rerun", item)).outcome == "done"
        await rig.engine.checkpointed()
        told = await redrive(rig, "redeliver", rig.engine.state.transaction(item).hit, "o2")
        assert (told.outcome, "quota" in str(told.reason)) == ("refused", True)


async def test_13_a_full_mailbox_refuses_a_redrive_and_takes_it_later(tmp_path: Path, autojump_clock: object) -> None:
    """Section 13 and the bounds of the mailbox: the bytes of a redriven body count, and are given back."""
    del autojump_clock
    async with running(tmp_path, CYCLE, remote=refusing, mailbox_bytes_max=150_000) as rig:
        item = await failed(rig, {"id": BIG})
        roomy = rig.engine.settings
        rig.engine.settings = replace(roomy, mailbox_bytes_max=50_000)
        told = await redrive(rig, "rerun", item)
        assert (told.outcome, "backlog" in str(told.reason)) == ("refused", True)
        rig.engine.settings = roomy
        for name in ("o1", "o2", "o3"):
            told = await redrive_item(rig.engine, order("rerun", name, again=True), item, preview=False)
            assert told.outcome == "done"


async def test_13_the_items_of_a_page_stand_in_the_journal_across_a_restart(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Section 13: given a page again, then the items of the first time are its items, and where it went on."""
    del autojump_clock
    async with running(tmp_path, CYCLE) as rig:
        first = await fixed(rig.engine, order("resume"), [3, 4], 3)
    async with running(tmp_path, CYCLE) as rig:
        assert await fixed(rig.engine, order("resume"), [5], 0) == first
        other = await fixed(rig.engine, order("resume", digest="e"), [5], 0)
        assert getattr(other, "status", 0) == 409
        rig.engine.journal = Trimmed()  # type: ignore[assignment]  # The same.
        old = await fixed(rig.engine, order("resume"), [5], 0)
        assert getattr(old, "status", 0) == 410
