"""Section 7 of the contract, calls: what comes back, what a failure says about the remote, and many calls at once."""

import gzip

import pytest
import trio
import trio.testing

from protocol.definition import Connector
from protocol.inputs import CallAnswer, CallFailure
from runtime.outbound import ANSWER_BYTES_MAX
from tests.runtime.calls import call, failure, outbound
from tests.runtime.remote import Received, Script, always, answer, serving

LOCAL = Connector(allow_private=True)
OK = always(answer(200))


async def hang(_request: Received, _stream: trio.SocketStream) -> None:
    """Never answers."""
    await trio.sleep_forever()


def breaking(part: bytes) -> Script:
    """Sends a part of an answer, then resets the connection."""

    async def script(_request: Received, stream: trio.SocketStream) -> bool:
        await stream.send_all(part)
        stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of no time: close sends a reset.
        return False

    return script


# ---------------------------------------------------------------- what comes back, or does not


async def test_7_no_answer_in_time_may_have_had_an_effect(mock_clock: trio.testing.MockClock) -> None:
    """Given a remote that is silent, when the timeout of the call passes, then the phase is `sent`."""
    async with serving(hang) as remote, outbound() as out:
        outcomes = await _timed_out(mock_clock, out.perform(call(remote.url), LOCAL), remote.seen)
    assert outcomes == [CallFailure("sent", "no answer within 30 seconds")]


async def test_no_connection_in_time_had_no_effect(mock_clock: trio.testing.MockClock) -> None:
    """Given a name that is never resolved, when the timeout passes, then nothing was sent."""
    asked = trio.Event()

    async def resolve(_host: str) -> list[str]:
        asked.set()
        await trio.sleep_forever()
        return []

    async with outbound(resolve) as out:
        outcomes = await _timed_out(mock_clock, out.perform(call("http://shop.example/"), LOCAL), asked)
    assert outcomes == [CallFailure("connect", "no answer within 30 seconds")]


async def _timed_out(clock: trio.testing.MockClock, performing: object, begun: trio.Event) -> list[object]:
    outcomes: list[object] = []

    async def perform() -> None:
        outcomes.append(await performing)  # type: ignore[misc]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(perform)
        await begun.wait()
        clock.jump(29.9)
        await trio.testing.wait_all_tasks_blocked()
        assert not outcomes
        clock.jump(0.2)
    return outcomes


async def test_a_refused_connection_had_no_effect() -> None:
    """Nobody listens; the error says where and why."""
    async with serving(OK) as remote:
        port = remote.port
    async with outbound() as out:
        failed = failure(await out.perform(call(f"http://127.0.0.1:{port}/"), LOCAL))
    assert failed == CallFailure("connect", f"ConnectError: 127.0.0.1 port {port}: Connection refused")


@pytest.mark.parametrize(
    "part", [b"", b"HTTP/1.1 200 OK\r\ncontent-", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]
)
async def test_a_connection_that_breaks_may_have_had_an_effect(part: bytes) -> None:
    """Before, in and after the head of the answer."""
    async with serving(breaking(part)) as remote, outbound() as out:
        failed = failure(await out.perform(call(remote.url, "GET"), LOCAL))
        assert failed.phase == "sent"
        assert len(remote.requests) == 1, "a first request on a new connection is not repeated"


@pytest.mark.parametrize("packed", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n"])
async def test_an_answer_that_is_none_is_a_failure(packed: bytes) -> None:
    """Phase `sent`, and no exception."""
    async with serving(always(packed)) as remote, outbound() as out:
        assert failure(await out.perform(call(remote.url), LOCAL)).phase == "sent"


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_is_bounded_as_it_unfolds(*, packed: bool) -> None:
    """4 MiB pass; a byte more fails, and a small body that unfolds into more does too."""

    def said(size: int) -> bytes:
        body = bytes(size)
        if packed:
            return answer(200, gzip.compress(body), content_encoding="gzip")
        return answer(200, body)

    async with outbound() as out:
        async with serving(always(said(ANSWER_BYTES_MAX))) as remote:
            done = await out.perform(call(remote.url), LOCAL)
            assert isinstance(done, CallAnswer)
            assert len(done.body) == ANSWER_BYTES_MAX
        async with serving(always(said(ANSWER_BYTES_MAX + 1))) as remote:
            failed = failure(await out.perform(call(remote.url), LOCAL))
            assert failed == CallFailure("sent", "ReadError: the answer is larger than 4194304 bytes")


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"x" * 1000, mtime=0)[:-12]])
async def test_an_answer_that_is_not_what_its_coding_says_is_a_failure(body: bytes) -> None:
    """Damaged and cut short."""
    async with serving(always(answer(200, body, content_encoding="gzip"))) as remote, outbound() as out:
        assert failure(await out.perform(call(remote.url), LOCAL)).phase == "sent"


# ---------------------------------------------------------------- kept connections that end


async def test_a_kept_connection_that_the_remote_closed_costs_no_call() -> None:
    """Given an idle connection that was closed meanwhile, when the next call leaves, then it takes a new one."""
    async with serving(OK) as remote, outbound() as out:
        for _ in range(5):
            assert isinstance(await out.perform(call(remote.url), LOCAL), CallAnswer)
            remote.close_connections()
        assert len(remote.connections) == 5


def once_then_dying(*, reset: bool) -> Script:
    """Answers the first request of the first connection, and closes at the second; other connections live."""

    async def script(request: Received, stream: trio.SocketStream) -> bool:
        if request.connection == 1 and script_seen:
            if reset:
                stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
            return False
        script_seen.append(request.target)
        await stream.send_all(answer(200))
        return True

    script_seen: list[str] = []
    return script


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("method", "safe", "repeated"),
    [("GET", None, True), ("PUT", None, True), ("POST", None, False), ("POST", True, True), ("PUT", False, False)],
)
async def test_a_request_lost_with_a_kept_connection_is_sent_once_more_if_safe(
    method: str, *, safe: bool | None, repeated: bool, reset: bool
) -> None:
    """Under the same key, on a new connection; what is not safe to repeat is told as `sent`."""
    async with serving(once_then_dying(reset=reset)) as remote, outbound() as out:
        assert isinstance(await out.perform(call(remote.url, method), LOCAL, safe_to_repeat=safe), CallAnswer)
        done = await out.perform(call(remote.url, method), LOCAL, safe_to_repeat=safe)
        assert len(remote.connections) == 1 + repeated
        assert len(remote.requests) == 2 + repeated
        assert {request.header("idempotency-key") for request in remote.requests} == {"orders-7.work.1"}
    if repeated:
        assert isinstance(done, CallAnswer)
    else:
        assert failure(done).phase == "sent"


async def test_a_request_that_dies_with_every_connection_fails_after_the_second() -> None:
    """Given a remote that hangs up on everything after its first answer, then a call is not sent without end."""
    answered = trio.Event()

    async def script(_request: Received, stream: trio.SocketStream) -> bool:
        if answered.is_set():
            return False
        answered.set()
        await stream.send_all(answer(200))
        return True

    async with serving(script) as remote, outbound() as out:
        await out.perform(call(remote.url, "GET"), LOCAL)
        assert failure(await out.perform(call(remote.url, "GET"), LOCAL)).phase == "sent"
        assert len(remote.requests) == 3


# ---------------------------------------------------------------- many calls


async def test_no_pool_bounds_what_the_connector_allows() -> None:
    """Given a concurrency of 150, then 150 calls are in flight at once."""
    wide = Connector(allow_private=True, concurrency=150)
    all_there, seen = trio.Event(), 0

    async def script(_request: Received, stream: trio.SocketStream) -> None:
        nonlocal seen
        seen += 1
        if seen == 150:
            all_there.set()
        await all_there.wait()
        await stream.send_all(answer(200))

    async with serving(script) as remote, outbound() as out:
        async with trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(out.perform, call(remote.url), wide)
        assert len(remote.connections) == 150
