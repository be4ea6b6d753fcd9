"""The door in processes of its own: real ones, real sockets, one engine in the process of the test."""

import os
import signal
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import HitRow
from runtime.config import TOKEN_VARIABLE, Settings
from runtime.door.door import Door
from runtime.door.entrance import entrance
from runtime.scripts import Scripts
from runtime.store.rows import TABLES
from tests.runtime.door.test_lane import BAD, CYCLES, GOOD, HOSTILE, LIMITS, QUOTES, SLOW, quote, talk, thing
from tests.runtime.rig import Rig, answer, running

LATE = """
cycle: late
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  asked: {webhook: shop, identifier: late-asked, answer_within: 100 milliseconds}
  work: {post: remote, path: /work}
  answer: {respond: {}}
"""


class Doors:
    """An engine and what listens for it."""

    def __init__(self, rig: Rig, door: Door) -> None:
        self.rig = rig
        self.door = door
        self.port = 0
        self.url = ""

    async def fate(self) -> str:
        """What became of the only answer there is, once that is recorded."""
        with trio.fail_after(5):
            while True:
                await self.rig.engine.checkpointed()
                (hit,) = self.rig.engine.state.database.rows(TABLES[HitRow])
                if hit.fate != "waiting":
                    return str(hit.fate)
                await trio.sleep(0.01)

    @staticmethod
    def processes() -> list[int]:
        """The processes that the test has started."""
        mine = [
            one for thread in Path("/proc/self/task").iterdir() for one in (thread / "children").read_text().split()
        ]
        return [int(one) for one in mine if b"runtime.door.worker" in Path(f"/proc/{one}/cmdline").read_bytes()]


@asynccontextmanager
async def doors(rig: Rig, **more: object) -> AsyncGenerator[Doors]:
    """One process of the door, unless the settings say another number."""
    settings = Settings(**{"bind": "127.0.0.1:0", "workers": 1, **more})  # type: ignore[arg-type]  # Settings of a test.
    door = Door(settings, "token", "key")
    door.open(rig.engine)
    there, stop = Doors(rig, door), trio.Event()
    async with trio.open_nursery() as nursery:
        there.url = await nursery.start(entrance(settings, door).run, stop)
        there.port = int(there.url.rpartition(":")[2])
        yield there
        stop.set()
    assert not settings.workers or not there.processes()


async def test_each_process_answers_as_the_lane_of_the_engine_does(tmp_path: Path) -> None:
    """Given the same request, good, bad or hostile, then the answers are the same, and so many of them."""
    async with (
        running(tmp_path, CYCLES, QUOTES) as rig,
        doors(rig, **LIMITS) as theirs,
        doors(rig, **LIMITS, workers=0) as ours,
    ):
        for name, raw in {**GOOD, **BAD, **HOSTILE}.items():
            there, here = [await talk(port, [raw + quote()], 2) for port in (theirs.port, ours.port)]
            told = [[(one.status, one.lasting, one.headers.get("x-kind")) for one in way] for way in (there, here)]
            assert told[0] == told[1], name


async def test_a_connection_goes_to_the_process_of_the_engine_with_what_was_read_from_it(tmp_path: Path) -> None:
    """Given a webhook and other requests in one write, then each is answered, in order."""
    async with running(tmp_path, QUOTES) as rig, doors(rig) as there:
        health = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        said = await talk(there.port, [quote() + quote(body=b'{"amount": 2}') + health + quote()], 4)
        assert [one.body for one in said] == [b'{"price":2}', b'{"price":4}', b'{"status":"alive"}', b'{"price":2}']


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
async def test_tls_ends_in_the_process_of_the_door(tmp_path: Path, *, http2: bool, version: str) -> None:
    """Given a certificate, then webhooks and looks are answered over TLS, by the version that was agreed on."""
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    more = {"project": str(tmp_path), "tls_certificate": "server.pem"}
    async with running(tmp_path, QUOTES) as rig, doors(rig, **more) as there:
        url = there.url.replace("127.0.0.1", "localhost")
        async with httpx.AsyncClient(verify=trusted, http2=http2) as client:
            for amount in (1, 2):
                said = await client.post(f"{url}/webhook/quotes-asked", json={"amount": amount})
                assert (said.status_code, said.json(), said.http_version) == (201, {"price": 2 * amount}, version)
            assert (await client.get(f"{url}/healthz")).json() == {"status": "alive"}


@pytest.mark.parametrize("end", ["the caller hangs up", "the process is killed"])
async def test_5_4_who_waits_is_gone_with_his_connection_and_his_run_goes_on(tmp_path: Path, end: str) -> None:
    """5.4: given a caller who waits for a remote, when he or his process is gone, then his answer is recorded gone."""
    asked, answers = trio.Event(), trio.Event()

    async def remote(_: CallIntended) -> CallAnswer | CallFailure:
        asked.set()
        await answers.wait()
        return answer({})

    async with running(tmp_path, SLOW, remote=remote) as rig, doors(rig) as there:
        stream = await trio.open_tcp_stream("127.0.0.1", there.port)
        await stream.send_all(thing(path=b"/webhook/slow-asked"))
        await asked.wait()
        if end == "the caller hangs up":
            await stream.aclose()
        else:
            (process,) = there.processes()
            os.kill(process, signal.SIGKILL)
        assert await there.fate() == "gone"
        answers.set()
        await stream.aclose()


async def test_5_4_an_answer_that_was_taken_is_sent(tmp_path: Path) -> None:
    """5.4: given a built answer, when its process has handed it on, then that is recorded."""
    async with running(tmp_path, QUOTES) as rig, doors(rig) as there:
        (said,) = await talk(there.port, [quote()])
        assert (said.status, await there.fate()) == (201, "sent")


async def test_5_1_who_waits_for_long_enough_is_told_where_to_look(tmp_path: Path) -> None:
    """5.1: given a bound of 100 ms, when the remote is silent, then 504 with the address of the run, which is there."""

    async def remote(_: CallIntended) -> CallAnswer | CallFailure:
        await trio.sleep_forever()
        raise AssertionError

    async with running(tmp_path, LATE, remote=remote) as rig, doors(rig) as there:
        (said,) = await talk(there.port, [thing(path=b"/webhook/late-asked")])
        assert said.status == 504
        (look,) = await talk(there.port, [b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % said.headers["location"].encode()])
        assert look.status == 200


async def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    """Given a process that is killed, then requests are answered again within moments, by another."""
    async with running(tmp_path, QUOTES) as rig, doors(rig) as there:
        await talk(there.port, [quote()])
        (process,) = there.processes()
        os.kill(process, signal.SIGKILL)
        (said,) = await talk(there.port, [quote()])  # It waits in the listener until then.
        assert said.status == 201
        assert there.processes() != [process]


async def test_a_process_of_the_door_has_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a token in the environment, then neither environment nor arguments of the process have it."""
    monkeypatch.setenv(TOKEN_VARIABLE, "secret-4711")
    async with running(tmp_path, QUOTES) as rig, doors(rig, public_url="http://secret-4712") as there:
        await talk(there.port, [quote()])
        (process,) = there.processes()
        told = b"".join([await trio.Path(f"/proc/{process}/{one}").read_bytes() for one in ("environ", "cmdline")])
        assert b"PATH" in told
        assert b"secret" not in told


async def test_what_a_process_refuses_is_counted(tmp_path: Path) -> None:
    """Given a body past its bound, then 413 is counted where all answers are."""
    async with running(tmp_path, QUOTES) as rig, doors(rig, body_bytes_max=10) as there:
        (said,) = await talk(there.port, [quote()])
        assert said.status == 413
        with trio.fail_after(5):
            while not there.door.hits["", "413"]:  # noqa: ASYNC110 - Told by another process.
                await trio.sleep(0.01)


async def test_connections_past_the_bound_are_told_503_whichever_process_has_them(tmp_path: Path) -> None:
    """Given room for one connection with each process, then the second is told to come again."""
    async with running(tmp_path, QUOTES) as rig, doors(rig, connections_max=1) as there:
        for raw in (quote(), b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"):
            async with await trio.open_tcp_stream("127.0.0.1", there.port) as first:
                await first.send_all(raw)
                assert b"20" in await first.receive_some()
                (said,) = await talk(there.port, [raw])
                assert (said.status, said.headers["retry-after"]) == (503, "1")
            await trio.sleep(0.1)  # Until that it is closed is seen.


async def test_a_request_that_fails_for_a_defect_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a request at which the server fails, then it is told 500, and the next one is answered."""
    async with running(tmp_path, QUOTES) as rig, doors(rig) as there:
        with monkeypatch.context() as broken:
            broken.setattr("runtime.door.own.receive_now", lambda *_: 1 / 0)
            (said,) = await talk(there.port, [quote()])
            assert said.status == 500
        (said,) = await talk(there.port, [quote()])
        assert said.status == 201


SLOW_SCRIPT = """
import trio
async def look(request):
    await trio.sleep(0.2)
"""


async def test_9_a_script_looks_at_what_another_process_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 9, 5.4: given a script that takes its time, who waits is answered, and who hangs up is recorded gone."""
    (tmp_path / "slow_script_of_workers.py").write_text(SLOW_SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    looked = QUOTES.replace("webhook: shop,", 'webhook: shop, before_webhook: "slow_script_of_workers:look",')
    async with running(tmp_path / "data", looked) as rig, doors(rig) as there:
        rig.engine.scripts = Scripts(tmp_path)
        assert not rig.engine.scripts.load(["slow_script_of_workers:look"])
        async with await trio.open_tcp_stream("127.0.0.1", there.port) as stream:
            await stream.send_all(quote())
            await trio.sleep(0.05)
        assert await there.fate() == "gone"
        (said,) = await talk(there.port, [quote()])
        assert (said.status, said.body) == (201, b'{"price":2}')
