"""The lane beside Hypercorn: the same requests down both ways, over real sockets, to one engine.

The rule: the same status class and the same body, or the lane is stricter; never a hang, never two requests as one.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from msgspec import Struct

from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import HitRow
from runtime.config import Settings
from runtime.door import Door, Listener
from runtime.store.rows import TABLES
from tests.runtime.door.test_http1 import chunked, post
from tests.runtime.rig import Rig, answer, running

CYCLES = """
cycle: things
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: things-asked
    methods: [POST, GET]
    fields: {amount: {type: integer, required: true}}
  nothing: {decide: "true", next: end}
"""
QUOTES = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: quotes-asked, fields: {amount: {type: integer, required: true}}}
  answer: {respond: {status: 201, headers: {x-kind: "ü"}, body: {price: "{{ asked.amount * 2 }}"}}}
"""
SLOW = """
cycle: slow
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  asked: {webhook: shop, identifier: slow-asked}
  work: {post: remote, path: /work}
  answer: {respond: {}}
"""
LIMITS = {"body_bytes_max": 2000, "header_bytes_max": 1000, "idle_timeout": "1 second", "body_timeout": "1 second"}
CHANGING = re.compile(rb'"(hit|transaction|status_url)":("[^"]*"|\d+)')


class Said(Struct, frozen=True):
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def lasting(self) -> bytes:
        """The body without what differs from hit to hit."""
        return CHANGING.sub(rb'"\1":0', self.body)


class Ways:
    """Two listeners over one engine."""

    def __init__(self, rig: Rig, lane: int, plain: int) -> None:
        self.rig = rig
        self.lane = lane
        self.plain = plain

    async def both(self, raw: bytes, answers: int = 1) -> tuple[list[Said], list[Said]]:
        """What each way answers to the same bytes."""
        return await talk(self.lane, [raw], answers), await talk(self.plain, [raw], answers)


@asynccontextmanager
async def ways(folder: Path, *cycles: str, **more: object) -> AsyncGenerator[Ways]:
    """An engine, and the two doors to it."""
    async with running(folder, *(cycles or (CYCLES, QUOTES))) as rig, trio.open_nursery() as nursery:
        ports, stop = [], trio.Event()
        for lane in (True, False):
            settings = Settings(bind="127.0.0.1:0", lane=lane, **{**LIMITS, **more})  # type: ignore[arg-type]  # Settings of a test.
            door = Door(settings, "token", "key")
            door.open(rig.engine)
            url = await nursery.start(Listener(settings, door).run, stop)
            ports.append(int(url.rpartition(":")[2]))
        yield Ways(rig, *ports)
        stop.set()


async def talk(port: int, pieces: list[bytes], answers: int = 1) -> list[Said]:
    """Send pieces and read so many answers, fewer when the connection ends before."""
    found: list[Said] = []
    with trio.fail_after(10):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            for piece in pieces:
                try:
                    await stream.send_all(piece)
                except trio.BrokenResourceError:
                    break  # It was refused before it was all sent.
            buffer = b""
            while len(found) < answers:
                try:
                    data = await stream.receive_some()
                except trio.BrokenResourceError:
                    break
                if not data:
                    break
                buffer += data
                while (one := parse(buffer, bodiless=pieces[0].startswith(b"HEAD"))) is not None:
                    said, buffer = one
                    found.append(said)
    return found


def parse(buffer: bytes, *, bodiless: bool) -> tuple[Said, bytes] | None:
    """The first whole answer, and what comes after it; 100 Continue is none, and that to HEAD has no body."""
    head, separator, rest = buffer.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode().split("\r\n")
    status = int(first.split()[1])
    if status == 100:
        return parse(rest, bodiless=bodiless)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = 0 if bodiless else int(headers.get("content-length", "0"))
    return None if len(rest) < length else (Said(status, headers, rest[:length]), rest[length:])


def thing(headers: bytes = b"", body: bytes = b'{"amount": 1}', path: bytes = b"/webhook/things-asked") -> bytes:
    """A request at the trigger, with JSON."""
    return post(body, path, b"Content-Type: application/json\r\n" + headers)


def quote(headers: bytes = b"", body: bytes = b'{"amount": 1}') -> bytes:
    """A request whose answer is mapped."""
    return thing(headers, body, b"/webhook/quotes-asked")


GOOD = {
    "trigger": thing(),
    "synchronous": quote(),
    "chunks": chunked(b'{"amount": 1}', [1, 2, 3]).replace(b"/abc", b"/things-asked"),
    "no content type": post(b'{"amount": 1}', b"/webhook/things-asked"),
    "form": post(b"amount=3", b"/webhook/things-asked", b"Content-Type: application/x-www-form-urlencoded\r\n"),
    "query": b"GET /webhook/things-asked?amount=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "query with escapes": b"GET /webhook/things-asked?amount=%31&x=%C3%A9+y HTTP/1.1\r\nHost: a\r\n\r\n",
    "a name twice": b"GET /webhook/things-asked?amount=1&amount=x HTTP/1.1\r\nHost: a\r\n\r\n",
    "latin headers": thing(b"X-Name: \xe9\r\n"),
    "odd spaces": thing(b"X-Name: \t a \t \r\n"),
    "prefer async": quote(b"Prefer: respond-async\r\n"),
    "continue expected": quote(b"Expect: 100-continue\r\n"),
    "close": quote(b"Connection: close\r\n"),
    "http/1.0": thing().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "absolute form": thing(path=b"http://a/webhook/things-asked"),
    "escaped path": thing(path=b"/webhook/things%2Dasked"),
    "health": b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
}
BAD = {
    "unknown": thing(path=b"/webhook/nothing-here"),
    "empty identifier": thing(path=b"/webhook/"),
    "longer path": thing(path=b"/webhook/things-asked/more"),
    "method": thing().replace(b"POST", b"PUT", 1),
    "head": b"HEAD /webhook/things-asked HTTP/1.1\r\nHost: a\r\n\r\n",
    "options": b"OPTIONS /webhook/things-asked HTTP/1.1\r\nHost: a\r\n\r\n",
    "trace": b"TRACE /webhook/things-asked HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"FROB /webhook/things-asked HTTP/1.1\r\nHost: a\r\n\r\n",
    "no body": thing(body=b""),
    "broken json": thing(body=b'{"amount": '),
    "deep json": thing(body=b"[" * 500 + b"]" * 500),
    "huge number": thing(body=b'{"amount": 1e999}'),
    "wrong type": thing(body=b'{"amount": "many"}'),
    "nul": thing(body=b'{"amount": "\x00"}'),
    "bad utf-8": thing(body=b'{"amount": "\xff"}'),
    "content type": post(b"x", b"/webhook/things-asked", b"Content-Type: image/png\r\n"),
    "too large": thing(body=b'{"amount": "%s"}' % (b"x" * 3000)),
    "too large in chunks": chunked(b"x" * 3000, [900] * 3).replace(b"/abc", b"/things-asked"),
    "long path": thing(path=b"/webhook/" + b"x" * 700),
    "long delivery key": thing(b"Webhook-Id: " + b"x" * 300 + b"\r\n"),
    "leading blank line": b"\r\n" + thing(),
    "no host": thing().replace(b"Host: a\r\n", b""),
}
HOSTILE = {
    "long head": thing(b"X-Long: " + b"x" * 1500 + b"\r\n"),
    "two hosts": thing(b"Host: b\r\n"),
    "length and chunks": thing(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "chunks and length": chunked(b'{"amount": 1}', []).replace(b"Host: a", b"Host: a\r\nContent-Length: 3"),
    "two lengths": thing(b"Content-Length: 3\r\n"),
    "the same length twice": thing(b"Content-Length: 13\r\n"),
    "signed length": thing().replace(b"Length: 13", b"Length: +13"),
    "spaced length": thing().replace(b"Length: 13", b"Length: 1 3"),
    "negative length": thing().replace(b"Length: 13", b"Length: -1"),
    "endless length": thing().replace(b"Length: 13", b"Length: 99999999999999999999"),
    "hexadecimal length": thing().replace(b"Length: 13", b"Length: 0xd"),
    "unknown coding": thing(b"Transfer-Encoding: gzip\r\n").replace(b"Content-Length: 13\r\n", b""),
    "coding twice": chunked(b"{}", []).replace(b"chunked\r\n", b"chunked\r\nTransfer-Encoding: chunked\r\n"),
    "coding with a tab": chunked(b"{}", []).replace(b": chunked", b":\x0bchunked"),
    "bare line feeds": thing().replace(b"\r\n", b"\n"),
    "one bare line feed": thing().replace(b"Host: a\r\n", b"Host: a\n"),
    "folded header": thing(b"X-Folded: a\r\n b\r\n"),
    "nul in header": thing(b"X-Nul: a\x00b\r\n"),
    "return in header": thing(b"X-Return: a\rb\r\n"),
    "space before colon": thing(b"X-Space : a\r\n"),
    "no name": thing(b": a\r\n"),
    "space in path": thing(path=b"/webhook/things asked"),
    "nul in path": thing(path=b"/webhook/things\x00asked"),
    "two spaces": thing().replace(b"POST /", b"POST  /"),
    "version": thing().replace(b"HTTP/1.1", b"HTTP/1.9"),
    "chunk size": chunked(b'{"amount": 1}', []).replace(b"\r\nD;", b"\r\n0xD;"),
    "chunk too long": chunked(b'{"amount": 1}', []).replace(b"\r\nD;", b"\r\nC;"),
    "chunk line feeds": chunked(b'{"amount": 1}', []).replace(b"value\r\n", b"value\n"),
    "upgrade": thing(b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 30,
}


@pytest.mark.parametrize("kind", [GOOD, BAD], ids=["good", "bad"])
async def test_both_ways_answer_the_same(tmp_path: Path, kind: dict[str, bytes]) -> None:
    """Given the same request down both ways, then status and body are the same."""
    async with ways(tmp_path) as there:
        for name, raw in kind.items():
            ours, theirs = await there.both(raw)
            assert len(ours) == 1, name
            (lane,) = ours
            if not theirs:  # Hypercorn ends some connections without a word.
                assert lane.status >= 400, name
                continue
            (plain,) = theirs
            assert lane.status // 100 == plain.status // 100, name
            if lane.status == plain.status and plain.body:  # Hypercorn refuses a malformed head without a word.
                assert lane.lasting == plain.lasting, name
            assert lane.headers.get("content-type") == plain.headers.get("content-type") or not plain.body, name
            assert lane.headers.get("allow") == plain.headers.get("allow"), name
            if kind is GOOD:
                assert lane.status < 300, name
                assert lane.headers.get("x-kind") == plain.headers.get("x-kind"), name


async def test_a_machine_without_epoll_answers_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no epoll, as on macOS, then connections have tasks of their own, and the answers are the same."""
    monkeypatch.setattr("runtime.door.lane.AVAILABLE", False)
    async with ways(tmp_path) as there:
        for name, raw in GOOD.items():
            ours, theirs = await there.both(raw)
            assert [(one.status, one.lasting) for one in ours] == [(one.status, one.lasting) for one in theirs], name


async def test_a_connection_that_waits_for_a_request_has_no_task(tmp_path: Path) -> None:
    """Given connections that were answered and wait, then there are no more tasks than before."""
    async with ways(tmp_path) as there, trio.open_nursery() as nursery:
        streams = [await trio.open_tcp_stream("127.0.0.1", there.lane) for _ in range(20)]
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(3):
            for stream in streams:
                await stream.send_all(thing())
                assert b"202" in await stream.receive_some()
        assert trio.lowlevel.current_statistics().tasks_living <= before + 2, "a task that waits for work, at the most"
        for stream in streams:
            nursery.start_soon(stream.aclose)


async def test_who_sends_without_end_holds_up_nobody(tmp_path: Path) -> None:
    """Given one who sends as fast as he can what is refused at once, then others are answered meanwhile."""
    async with ways(tmp_path) as there, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", there.lane)
        refused = post(b"", b"/webhook/nothing-here") * 500

        async def send() -> None:
            while True:
                await stream.send_all(refused)

        async def read() -> None:
            while await stream.receive_some():
                pass

        nursery.start_soon(send)
        nursery.start_soon(read)
        for _ in range(5):
            (said,) = await talk(there.lane, [thing()])
            assert said.status == 202
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


async def test_half_a_head_after_another_does_not_prolong_the_wait(tmp_path: Path) -> None:
    """Given a head that comes a byte at a time, then its connection ends when the time for a head is over."""
    async with ways(tmp_path, idle_timeout="200 milliseconds") as there:
        stream, began = await trio.open_tcp_stream("127.0.0.1", there.lane), trio.current_time()
        await stream.send_all(b"POST /webhook/things-asked HTTP/1.1\r\nx-long: ")
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x")
                with trio.move_on_after(0.02):
                    if not await stream.receive_some():
                        break
        await stream.aclose()
        assert trio.current_time() - began < 2


async def test_what_is_in_doubt_runs_at_most_where_hypercorn_runs_it(tmp_path: Path) -> None:
    """Given hostile bytes with a request behind them, then the lane runs no request that Hypercorn does not."""
    async with ways(tmp_path) as there:
        for name, raw in HOSTILE.items():
            lane, plain = await there.both(raw + quote(), 2)
            ran = [[said.status < 300 for said in way] for way in (lane, plain)]
            assert len(lane) <= max(1, len(plain)), name
            assert all(not one or other for one, other in zip(ran[0], [*ran[1], False], strict=False)), (name, ran)


async def test_a_request_cut_at_each_byte_is_one_request(tmp_path: Path) -> None:
    """Given two requests on one connection, cut anywhere, then there are two answers."""
    async with ways(tmp_path) as there:
        raw = quote() + chunked(b'{"amount": 2}', [5]).replace(b"/abc", b"/quotes-asked")
        for end in range(1, len(raw)):
            said = await talk(there.lane, [raw[:end], raw[end:]], 2)
            assert [one.body for one in said] == [b'{"price":2}', b'{"price":4}'], end


async def test_pipelined_requests_are_answered_in_order_and_handed_on_at_their_boundary(tmp_path: Path) -> None:
    """Given webhooks and looks on one connection, all sent at once, then the answers come in that order."""
    async with ways(tmp_path) as there:
        requests = [quote(body=b'{"amount": %d}' % number) for number in range(30)]
        raw = b"".join(requests) + GOOD["health"] + quote(body=b'{"amount": 50}')
        said = await talk(there.lane, [raw], 32)
        prices = [one.body for one in said]
        assert prices[:30] == [b'{"price":%d}' % (2 * number) for number in range(30)]
        assert prices[30:] == [b'{"status":"alive"}', b'{"price":100}']


async def test_http2_with_prior_knowledge_is_handed_on(tmp_path: Path) -> None:
    """Given the preface of HTTP/2, then Hypercorn answers with its settings."""
    async with ways(tmp_path) as there, await trio.open_tcp_stream("127.0.0.1", there.lane) as stream:
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        with trio.fail_after(5):
            frame = await stream.receive_some()
        assert frame[3] == 4, "a SETTINGS frame"


async def test_a_refused_connection_is_told_so(tmp_path: Path) -> None:
    """Given as many connections as may be open, then one more is told 503 and when to come again, at once."""
    async with ways(tmp_path, connections_max=2) as there:
        held = [await trio.open_tcp_stream("127.0.0.1", there.lane) for _ in range(2)]
        for stream in held:  # An answer shows that the connection is taken.
            await stream.send_all(thing())
            await stream.receive_some()
        (said,) = await talk(there.lane, [thing()])
        assert (said.status, said.headers["retry-after"]) == (503, "1")
        for stream in held:
            await stream.aclose()


@pytest.mark.parametrize(
    ("begun", "status"),
    [(b"", []), (b"POST /webhook/thi", []), (thing()[:-3], [408]), (GOOD["chunks"][:-7], [408])],
    ids=["nothing", "half a head", "half a body", "half of its chunks"],
)
async def test_who_does_not_go_on_is_not_waited_for(tmp_path: Path, begun: bytes, status: list[int]) -> None:
    """Given a request that stays half, then its connection ends, with 408 once its head had come."""
    async with ways(tmp_path, idle_timeout="50 milliseconds", body_timeout="50 milliseconds") as there:
        said = await talk(there.lane, [begun])
        assert [one.status for one in said] == status


async def test_a_stop_ends_connections_that_wait_at_once(tmp_path: Path) -> None:
    """Given a connection that was answered and waits, when the server stops, then it is closed."""
    async with running(tmp_path, CYCLES) as rig, trio.open_nursery() as nursery:
        settings = Settings(bind="127.0.0.1:0")
        door = Door(settings, "token", "key")
        door.open(rig.engine)
        stop = trio.Event()
        url = await nursery.start(Listener(settings, door).run, stop)
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        await stream.send_all(thing())
        assert b"202" in await stream.receive_some()
        stop.set()
        with trio.fail_after(0.9):  # Before the second that is left to answers on their way.
            assert await stream.receive_some() == b""
        await stream.aclose()


@pytest.mark.parametrize("lane", [True, False])
async def test_5_4_who_hangs_up_while_he_waits_is_gone_and_his_run_goes_on(tmp_path: Path, *, lane: bool) -> None:
    """5.1, 5.4: given a caller who waits for a remote, when he hangs up, then his answer is built and recorded gone."""
    asked, answers = trio.Event(), trio.Event()

    async def remote(_: CallIntended) -> CallAnswer | CallFailure:
        asked.set()
        await answers.wait()
        return answer({})

    async with running(tmp_path, SLOW, remote=remote) as rig, trio.open_nursery() as nursery:
        door = Door(Settings(bind="127.0.0.1:0", lane=lane), "token", "key")
        door.open(rig.engine)
        stop = trio.Event()
        url = await nursery.start(Listener(door.settings, door).run, stop)
        async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
            await stream.send_all(thing(path=b"/webhook/slow-asked"))
            await asked.wait()
        state = rig.engine.state
        (running_now,) = state.running("slow")
        waiting = state.hit(state.transaction(running_now).hit)
        with trio.fail_after(5):
            while waiting.fate == "waiting":  # Until the hang-up is seen.
                await trio.lowlevel.checkpoint()
            answers.set()
            while not rig.engine.idle:
                await trio.lowlevel.checkpoint()
        await rig.engine.checkpointed()
        (hit,) = rig.engine.state.database.rows(TABLES[HitRow])
        assert (hit.fate, hit.reply.status) == ("gone", 200)
        stop.set()
