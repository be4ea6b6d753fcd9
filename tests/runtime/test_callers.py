"""Callers who do not wait for their answers: what is recorded of them, whenever they leave."""

from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.inputs import Hit
from protocol.state import HitRow
from runtime.door.app import deliver
from runtime.store.rows import TABLES
from tests.runtime.disk import SlowDisk
from tests.runtime.rig import running

QUOTES = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {amount: {type: integer, required: true}}}
  answer: {respond: {body: "{{ asked.amount }}"}}
"""


def ask(amount: int) -> Hit:
    """A request of a caller who waits for his answer."""
    return Hit(
        cycle="quotes",
        step="asked",
        at=1,
        method="POST",
        headers={},
        query={},
        body=b"{}",
        content_type="application/json",
        data={"amount": amount},
        key=(),
        delivery="",
        digest="",
        wants_reply=True,
    )


async def test_5_4_who_hangs_up_before_the_verdict_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5.4: given a request that is not durable yet, when its caller hangs up, then the answer's fate is `gone`."""
    async with running(tmp_path, QUOTES) as rig:
        disk = SlowDisk(monkeypatch)
        async with trio.open_nursery() as connection:
            connection.start_soon(deliver, rig.engine, ask(1))
            await trio.testing.wait_all_tasks_blocked()
            connection.cancel_scope.cancel()
        await disk.sync_one()
        monkeypatch.undo()
        await disk.sync_one()
        await rig.engine.checkpointed()
        (hit,) = rig.engine.state.database.rows(TABLES[HitRow])
        assert (hit.fate, hit.reply.status) == ("gone", 200)
