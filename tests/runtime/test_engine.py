"""The engine: what callers are told at the instant it is durable, and turns that outgrow a frame of the journal."""

from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from journal import LOCAL_PARTITION
from protocol.events import SCHEMA, CallIntended, WriterStarted, decode_events
from protocol.inputs import Accepted, CallAnswer, CallFailure, Parked, Receipt, Start, Stop
from runtime.config import BODY_BYTES_LIMIT
from runtime.outbound import ANSWER_BYTES_MAX
from runtime.store import StoreFull
from runtime.ticket import Overloaded
from tests.runtime.rig import Rig, answer, running

ASK = """
cycle: asks
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  placed: {webhook: shop, fields: {job: {type: integer, required: true}}}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}, n: integer}
    match: {job: placed.job}
  work: {post: remote, path: /work, body: {n: "{{ back.n }}"}}
  answer: {respond: {body: {n: "{{ back.n }}"}}}
"""
PARENT = """
cycle: parent
connectors: {inner: {}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: inner, fields: {job: {type: integer, required: true}}}
  down: {post: inner, url: "cycle:asks/back", body: {job: "{{ asked.job }}", n: 3}}
  said: {respond: {body: "{{ down.body }}"}}
"""


class Gate:
    """A remote that answers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[CallIntended] = []
        self.called = trio.Event()
        self.open = trio.Event()
        self.outcome: CallAnswer | CallFailure = answer({})

    async def __call__(self, call: CallIntended) -> CallAnswer | CallFailure:
        """Wait for the test."""
        self.calls.append(call)
        self.called.set()
        await self.open.wait()
        return self.outcome


async def test_5_2_a_caller_behind_a_pass_that_fails_is_told_that_his_request_is_parked(tmp_path: Path) -> None:
    """Given a caller whose request waits behind a pass, when that pass fails, then he is told 202 parked at once."""
    gate = Gate()
    async with running(tmp_path, ASK, remote=gate) as rig, trio.open_nursery() as nursery:
        await rig.hit("asks", "placed", {"job": 1}).decided()
        nursery.start_soon(rig.ask, "asks", "back", {"job": 1, "n": 1})
        await gate.called.wait()
        waiting = rig.hit("asks", "back", {"job": 1, "n": 2})
        assert (await waiting.decided()).reply is None
        gate.outcome = CallFailure("sent", "reset")
        gate.open.set()
        with trio.fail_after(1):
            told = await waiting.answered()
        assert (told.status, msgspec.json.decode(told.body)["status"]) == (202, "parked")


async def test_5_2_a_caller_behind_a_pass_that_is_stopped_is_told_that_his_request_is_kept(tmp_path: Path) -> None:
    """Given a caller whose request waits behind a pass, when the cycle is stopped, then he is told 202 at once."""
    gate = Gate()
    async with running(tmp_path, ASK, remote=gate) as rig:
        await rig.hit("asks", "placed", {"job": 1}).decided()
        first = rig.hit("asks", "back", {"job": 1, "n": 1})
        await gate.called.wait()
        waiting = rig.hit("asks", "back", {"job": 1, "n": 2})
        await waiting.decided()
        receipt = (await rig.engine.order(Stop("asks", rig.engine.clock(), "stop")).decided()).verdict
        assert receipt == Receipt("stopped", cut=1, kept=1, held=0)
        with trio.fail_after(1):
            assert (await first.answered()).status == 409
            assert (await waiting.answered()).status == 202


async def test_8_a_link_behind_a_pass_that_fails_is_answered(tmp_path: Path) -> None:
    """Given a step that waits for a linked cycle, when its request finds no place there, then the step goes on."""
    gate = Gate()
    async with running(tmp_path, ASK, PARENT, remote=gate) as rig, trio.open_nursery() as nursery:
        await rig.hit("asks", "placed", {"job": 1}).decided()
        nursery.start_soon(rig.ask, "asks", "back", {"job": 1, "n": 1})
        await gate.called.wait()
        parent = rig.hit("parent", "asked", {"job": 1})
        await parent.decided()
        gate.outcome = CallFailure("sent", "reset")
        gate.open.set()
        with trio.fail_after(1):
            told = await parent.answered()
        assert (told.status, msgspec.json.decode(told.body)["status"]) == (200, "parked")


BULKY = """
cycle: bulky
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {while_stopped: collect}
steps:
  placed: {webhook: shop, fields: {job: {type: integer, required: true}, numbers: list}}
  fetched: {post: remote, path: /fetch, fields: {numbers: list}}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}, numbers: list}
    match: {job: placed.job}
"""


def bulk(job: int, size: int) -> bytes:
    """JSON that takes more than twice its size in the journal: `1e5,` is 4 bytes there and 9 here."""
    return b'{"job":%d,"numbers":[%s]}' % (job, b",".join([b"1e5"] * ((size - 40) // 4)))


async def test_the_largest_answer_and_the_largest_requests_fit_the_journal(tmp_path: Path) -> None:
    """Given parked requests of the largest size, when the largest answer leads to their hold, then all of them run."""

    async def remote(_: CallIntended) -> CallAnswer:
        return CallAnswer(200, {"content-type": "application/json"}, bulk(7, ANSWER_BYTES_MAX))

    async with running(tmp_path, BULKY, remote=remote) as rig:
        for _ in range(5):
            await rig.hit("bulky", "back", bulk(7, BODY_BYTES_LIMIT)).decided()
        verdict = (await rig.hit("bulky", "placed", {"job": 7}).decided()).verdict
        assert isinstance(verdict, Accepted)
        await settled(rig)
        assert rig.engine.state.transaction(verdict.transaction).number == 6


async def test_11_a_start_runs_every_kept_hit_whatever_a_turn_can_hold(tmp_path: Path) -> None:
    """Given a stopped cycle that keeps more than a frame can hold, when it starts, then all of it runs, in order."""
    async with running(tmp_path, BULKY) as rig:
        engine = rig.engine
        await engine.order(Stop("bulky", engine.clock(), "stop")).decided()
        for job in range(10):
            verdict = (await rig.hit("bulky", "placed", bulk(job, BODY_BYTES_LIMIT)).decided()).verdict
            assert isinstance(verdict, Parked)
        assert (await engine.order(Start("bulky", engine.clock())).decided()).verdict == Receipt("running", resumed=10)
        await settled(rig)
        cycle = engine.state.cycle("bulky")
        assert (cycle.held, cycle.parked) == (10, 0)


async def test_a_restart_sends_every_open_call_again_whatever_a_turn_can_hold(tmp_path: Path) -> None:
    """Given open calls whose requests outgrow a frame, when the process starts again, then each is sent again."""
    text = BULKY.replace("path: /fetch", 'path: /fetch, body: "{{ placed }}"')
    gate = Gate()
    async with running(tmp_path, text, remote=gate) as rig:
        for job in range(10):
            await rig.hit("bulky", "placed", bulk(job, BODY_BYTES_LIMIT // 3)).decided()
        await rig.engine.committer.flushed()
    before = [call.idempotency_key for call in gate.calls]
    gate = Gate()
    async with running(tmp_path, text, remote=gate) as rig:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sorted(call.idempotency_key for call in gate.calls) == sorted(before)
        assert {call.attempt for call in gate.calls} == {2}


async def test_11_a_stop_that_one_turn_can_not_hold_answers_when_all_is_stopped(tmp_path: Path) -> None:
    """Given more callers than a frame can answer, when the cycle is stopped, then the receipt counts them all."""
    gate = Gate()
    wide = BULKY.replace("  back:", '  answer: {respond: {body: "x"}}\n  back:')
    async with running(tmp_path, wide, remote=gate) as rig:
        tickets = [rig.hit("bulky", "placed", {"job": job}) for job in range(300)]
        for ticket in tickets:
            await ticket.decided()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("protocol.turn.TURN_BYTES", 4096)
            receipt = (await rig.engine.order(Stop("bulky", rig.engine.clock(), "stop")).decided()).verdict
        assert receipt == Receipt("stopped", cut=300, kept=0, held=0)
        assert {(await ticket.answered()).status for ticket in tickets} == {409}


async def test_a_store_without_room_refuses_what_is_new_and_recovers_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a full disk under the store, then requests are refused, nothing is lost, and the next try writes it all."""
    monkeypatch.setattr("runtime.checkpoints.STORE_RETRY_S", 0.01)
    async with running(tmp_path, BULKY) as rig:
        jobs = iter(range(100_000))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rig.engine.state.database, "write", no_room)
            with trio.fail_after(5), pytest.raises(Overloaded):
                while True:
                    await rig.hit("bulky", "placed", {"job": next(jobs)}).decided()
        accepted = next(jobs) - 1
        await rig.engine.checkpointed()
        await rig.hit("bulky", "placed", {"job": -1}).decided()
        await settled(rig)
        assert rig.engine.state.cycle("bulky").held == accepted + 1


def no_room(*_: object) -> None:
    """What the store's file says on a full disk."""
    raise StoreFull("store.sqlite can not be written: database or disk is full")


async def settled(rig: Rig) -> None:
    """Wait until nothing is in progress."""
    with trio.fail_after(30):
        while not rig.engine.idle:
            await trio.lowlevel.checkpoint()


async def test_a_journal_says_which_build_wrote_it_and_up_to_which_schema_of_events(tmp_path: Path) -> None:
    """What another build needs, to say why it can not read the journal: the writer's own numbers, not those of old."""
    async with running(tmp_path, ASK) as rig:
        await rig.engine.committer.flushed()
        first = decode_events(next(iter(rig.log.read(LOCAL_PARTITION))).payload)[0]
        assert isinstance(first, WriterStarted)
        assert (first.build, first.schema) == (version("cyclewright"), SCHEMA)
