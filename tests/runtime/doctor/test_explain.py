"""Why a transaction waits: each way to wait, with since, until, what wakes it, and commands to paste."""

import shlex
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure, Stop
from protocol.state import TransactionRow
from runtime.config import Settings
from runtime.doctor import Waiting
from runtime.door import Door, make_app
from tests.runtime.doctor.patients import JOBS, lived, settled
from tests.runtime.rig import Rig, answer, running

WAITS = """
cycle: waits
connectors: {shop: {}, remote: {base_url: "http://remote.example", concurrency: 1}}
settings: {on_error: {retry: [1 hour]}}
steps:
  asked: {webhook: shop, fields: {id: {type: integer, required: true}, pin: {type: text, sensitive: true}}}
  work: {post: remote, path: "/{{ asked.id }}", safe_to_repeat: no}
  linked: {post: shop, url: "cycle:target/given", body: {id: "{{ asked.id }}"}}
  rest: {delay: 3 hours}
  back: {webhook: shop, fields: {pin: text}, match: {pin: asked.pin}}
"""
TARGET = """
cycle: target
connectors: {shop: {}}
steps:
  given: {webhook: shop, fields: {id: integer}, answer_within: 20 minutes}
  pause: {delay: 5 minutes}
  told: {respond: {body: {ok: true}}}
"""


class Asking:
    """Who asks the doctor of a running engine."""

    def __init__(self, rig: Rig) -> None:
        door = Door(Settings(), "token", "key")
        door.open(rig.engine)
        self.client: Any = make_app(door).test_client()
        self.rig = rig

    async def why(self, transaction: int, cycle: str = "waits") -> Waiting:
        """What it waits for, as the API tells it."""
        said = await self.client.get(f"/api/doctor/{cycle}-{transaction}", headers={"authorization": "Bearer token"})
        assert said.status_code == 200
        return msgspec.json.decode(await said.get_data(), type=Waiting)

    def latest(self, cycle: str = "waits") -> int:
        """The newest transaction of a cycle."""
        rows = self.rig.engine.state.database.rows(_table())
        return int(max(row.id for row in rows if row.cycle == cycle))


async def test_given_a_hold_then_the_request_it_waits_for_can_be_pasted(tmp_path: Path, virtual_time: object) -> None:
    """With the values to match by and the other required fields; a parked one may have been meant for it."""
    del virtual_time
    async with lived(tmp_path) as rig:
        asking = Asking(rig)
        held = next(row.id for row in rig.engine.state.database.rows(_table(), "status = 'held'"))
        told = await asking.why(held, "jobs")
        assert (told.waits_for, told.step) == ("request", "back")
        assert told.said == "a request at back with job = 2"
        assert told.until is not None
        assert told.then == "the pass ends"
        assert told.do[0] == "cyclewright hit jobs/back --json " + shlex.quote('{"job":2,"note":null}')
        assert told.do[1].startswith("cyclewright parked aim ")
        assert told.do[1].endswith(f" jobs-{held}")
        assert "/webhook/" in told.wakes[0]
        await rig.engine.order(Stop("jobs", rig.engine.clock(), "stop")).decided()
        told = await asking.why(held, "jobs")
        assert told.do[0] == "cyclewright start jobs"
        assert "stopped" in told.notes[0]


def _table() -> Any:
    from runtime.store.rows import TABLES

    return TABLES[TransactionRow]


async def test_given_what_is_over_then_it_waits_for_nothing(tmp_path: Path, virtual_time: object) -> None:
    """What failed can be redriven, what completed can be matched."""
    del virtual_time
    async with lived(tmp_path) as rig:
        asking = Asking(rig)
        found = {row.status: row.id for row in rig.engine.state.database.rows(_table())}
        failed = await asking.why(found["failed"], "jobs")
        assert failed.waits_for == "nothing"
        assert failed.do == [f"cyclewright redrive {verb} jobs-{found['failed']}" for verb in ("resume", "rerun")]
        completed = await asking.why(found["completed"], "jobs")
        assert not completed.do
        assert completed.wakes == ["a request that matches at back runs it again"]


async def test_given_a_call_then_the_answer_its_retry_and_its_place_are_told(
    tmp_path: Path, virtual_time: object
) -> None:
    """Under way until its timeout; one that failed until its next attempt; one behind a limit for its place."""
    del virtual_time
    answers = trio.Event()

    async def slow(_: CallIntended) -> CallAnswer | CallFailure:
        await answers.wait()
        return CallFailure("connect", "refused")

    async with running(tmp_path, WAITS, TARGET, remote=slow) as rig:
        asking = Asking(rig)
        await rig.hit("waits", "asked", {"id": 1}).decided()
        first = await _seen(asking)
        assert first.waits_for == "answer"
        assert first.said.startswith("the answer to POST /1 of work, attempt 1")
        assert first.then is not None
        await rig.hit("waits", "asked", {"id": 2}).decided()
        second = await _seen(asking)
        assert "1 calls are under way and 1 wait for their place" in second.said
        assert second.until is None
        answers.set()
        again = await _seen(asking)
        assert (again.waits_for, again.said, again.then) == ("time", "the next attempt", "work is tried again")


async def _seen(asking: Asking) -> Waiting:
    await _stored(asking.rig)
    return await asking.why(asking.latest())


async def _stored(rig: Rig) -> None:
    """Calls may go on; what was decided is in the store."""
    await trio.testing.wait_all_tasks_blocked()
    await rig.engine.checkpointed()


async def test_given_a_link_a_delay_and_a_hold_then_each_is_told_in_its_turn(
    tmp_path: Path, virtual_time: object
) -> None:
    """A link names the transaction that it waits for; what a hold matches by is masked where it is sensitive."""
    del virtual_time

    async def good(_: CallIntended) -> CallAnswer | CallFailure:
        return answer({})

    async with running(tmp_path, WAITS, TARGET, remote=good) as rig:
        asking = Asking(rig)
        await rig.hit("waits", "asked", {"id": 1, "pin": "4711"}).decided()
        told = await _seen(asking)
        assert told.waits_for == "cycle"
        assert told.do == [f"cyclewright doctor target-{asking.latest('target')}"]
        await trio.sleep(301)
        told = await _seen(asking)
        assert (told.waits_for, told.said) == ("time", "the end of a delay")
        await trio.sleep(3 * 3600 + 1)
        told = await _seen(asking)
        assert told.waits_for == "request"
        assert "4711" not in msgspec.json.encode(told).decode()
        assert told.do[0].endswith("# with the value that is masked here")
        assert len(told.wakes) == 1


async def test_given_a_call_that_a_crash_left_unknown_then_a_person_is_asked(
    tmp_path: Path, virtual_time: object
) -> None:
    """The three answers, ready to paste."""
    del virtual_time

    async def never(_: CallIntended) -> CallAnswer | CallFailure:
        await trio.sleep_forever()
        raise AssertionError

    async with running(tmp_path, WAITS, TARGET, remote=never) as rig:
        await rig.hit("waits", "asked", {"id": 1}).decided()
        await _stored(rig)
    async with running(tmp_path, WAITS, TARGET, remote=never) as rig:
        await _stored(rig)
        row = next(iter(rig.engine.state.database.rows(_table())))
        told = await Asking(rig).why(row.id)
        assert (told.waits_for, told.status) == ("person", "held")
        assert told.do == [
            f"cyclewright transactions settle waits-{row.id} {one}" for one in ("resend", "done", "fail")
        ]


async def test_given_no_such_transaction_then_404(tmp_path: Path, virtual_time: object) -> None:
    """As everywhere."""
    del virtual_time
    async with running(tmp_path, JOBS) as rig:
        await settled(rig)
        client = Asking(rig).client
        said = await client.get("/api/doctor/jobs-99", headers={"authorization": "Bearer token"})
        assert said.status_code == 404
