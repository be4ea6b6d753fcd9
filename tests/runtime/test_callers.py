"""Callers who do not wait for their answers: what is recorded of them, whenever they leave."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import structs

from protocol.cycle import decide
from protocol.inputs import Hit
from protocol.loading import Source, load_project
from protocol.state import HitRow
from runtime.config import Settings
from runtime.deploying import deploy
from runtime.door import Door, SentNotes, make_app
from runtime.door.webhook import Answer, Waiting, deliver
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
            waiting = deliver(rig.engine, ask(1), 10.0, "accept")
            assert isinstance(waiting, Waiting)
            connection.start_soon(waiting.answered)
            await trio.testing.wait_all_tasks_blocked()
            connection.cancel_scope.cancel()
        await disk.sync_one()
        monkeypatch.undo()
        await disk.sync_one()
        with trio.fail_after(10):
            while not rig.engine.idle:  # What became of the answer is an input of its own.
                await trio.lowlevel.checkpoint()
        await rig.engine.checkpointed()
        (hit,) = rig.engine.state.database.rows(TABLES[HitRow])
        assert (hit.fate, hit.reply.status) == ("gone", 200)


@pytest.mark.parametrize("stuck_at", ["http.response.start", "http.response.body"])
async def test_5_4_who_does_not_take_his_answer_is_gone(tmp_path: Path, stuck_at: str) -> None:
    """5.4: given an answer that is there, when its caller hangs up or takes nothing, then its fate is `gone`."""
    async with running(tmp_path, QUOTES) as rig:
        door = Door(Settings(), "token", "key")
        door.open(rig.engine)
        hung_up = trio.Event()
        messages = [{"type": "http.request", "body": b'{"amount": 1}', "more_body": False}]

        async def receive() -> Any:
            if not messages:
                await hung_up.wait()
                return {"type": "http.disconnect"}
            return messages.pop()

        async def send(message: Any) -> None:
            if message["type"] == stuck_at:
                hung_up.set()
                await trio.sleep_forever()

        (identifier,) = rig.engine.state.cycle("quotes").identifiers.values()
        scope = {
            "type": "http",
            "http_version": "2",
            "method": "POST",
            "scheme": "http",
            "path": f"/webhook/{identifier}",
            "raw_path": b"",
            "query_string": b"",
            "headers": [],
        }
        with trio.fail_after(10):
            await SentNotes(make_app(door), answer_timeout_s=0.05)(scope, receive, send)
        with trio.fail_after(10):
            while not rig.engine.idle:  # What became of the answer is an input of its own.
                await trio.lowlevel.checkpoint()
        await rig.engine.checkpointed()
        (hit,) = rig.engine.state.database.rows(TABLES[HitRow])
        assert (hit.fate, hit.reply.status) == ("gone", 200)


async def test_4_1_a_full_mailbox_answers_503_with_retry_after(tmp_path: Path) -> None:
    """4.1: given a mailbox that holds one request, when two come at once, then the second is told 503 and when."""
    async with running(tmp_path, QUOTES, mailbox_items_max=1) as rig:
        rig.engine.accept(ask(1))
        refused = deliver(rig.engine, ask(2), 10.0, "accept")
        assert isinstance(refused, Answer)
        assert (refused.reply.status, refused.reply.headers["retry-after"]) == (503, "1")
        await trio.testing.wait_all_tasks_blocked()
        waiting = deliver(rig.engine, ask(3), 10.0, "accept")
        assert isinstance(waiting, Waiting)
        assert (await waiting.answered()).reply.status == 200


async def test_4_1_retry_after_comes_from_the_measured_rate(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4.1: given ten turns a second at most, when twenty requests wait, then two seconds."""
    async with running(tmp_path, QUOTES, mailbox_items_max=20) as rig:

        def slow(*arguments: Any) -> Any:
            autojump_clock.jump(0.1)
            return decide(*arguments)

        monkeypatch.setattr("runtime.engine.decide", slow)
        for _ in range(20):
            rig.engine.accept(ask(1))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(20):
            rig.engine.accept(ask(1))
        refused = deliver(rig.engine, ask(2), 10.0, "accept")
        assert isinstance(refused, Answer)
        assert (refused.reply.status, refused.reply.headers["retry-after"]) == (503, "2")


async def test_4_1_a_burst_after_a_quiet_hour_is_told_a_true_retry_after(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """4.1: given a server that had nothing to do, when a burst fills it, then the wait is that of a server at work."""
    del autojump_clock
    async with running(tmp_path, QUOTES, mailbox_items_max=500) as rig:
        for amount in range(3):
            await trio.sleep(3600)
            await rig.engine.accept(ask(amount)).decided()
        for amount in range(500):
            rig.engine.accept(ask(amount))
        refused = deliver(rig.engine, ask(501), 10.0, "accept")
        assert isinstance(refused, Answer)
        assert (refused.reply.status, refused.reply.headers["retry-after"]) == (503, "1")


async def test_5_1_who_is_late_is_told_so_though_a_deploy_has_dropped_his_step(tmp_path: Path) -> None:
    """5.1: given a caller who waits, when a deploy drops the webhook he came by, then he is told 504 in time."""
    asked = QUOTES.replace("  answer:", '  work: {delay: "1 hour"}\n  answer:')
    async with running(tmp_path, asked) as rig:
        waiting = deliver(rig.engine, structs.replace(ask(1), at=rig.engine.clock()), 0.01, "problem")
        assert isinstance(waiting, Waiting)
        await waiting.ticket.decided()
        newer, faults = load_project([Source("quotes.cycle.yaml", asked.replace("asked", "other"))])
        assert not faults
        await deploy(rig.engine, newer)
        assert (await waiting.answered()).reply.status == 504
