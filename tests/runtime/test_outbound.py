"""Outbound calls against remotes that take their time, under a clock that the test owns."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from protocol.definition import Connector
from protocol.events import CallIntended, Request
from protocol.inputs import CallAnswer, CallFailure
from runtime.outbound import Outbound

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"


@pytest.fixture
def patient_clock() -> MockClock:
    """Virtual time that moves on only when the sockets have been quiet for a moment."""
    return MockClock(autojump_threshold=0.05)


def a_call(port: int, timeout_s: int) -> CallIntended:
    """A POST to a remote of this machine."""
    request = Request("remote", "POST", f"http://127.0.0.1:{port}/x", {}, b"{}", "application/json", timeout_s * 10**9)
    return CallIntended("orders", 0, 1, "work", 1, "orders-1.work.1", request, None)


@pytest.mark.parametrize(("works_s", "answered"), [(29, CallAnswer), (31, CallFailure)])
async def test_7_a_remote_has_the_whole_timeout_to_answer(
    patient_clock: MockClock, works_s: float, answered: type[CallAnswer | CallFailure]
) -> None:
    """Section 7: `timeout` is 30 s, and no shorter one of a library's own lies below it."""

    async def remote(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await trio.sleep(works_s)
        await stream.send_all(ANSWER)

    outbound = Outbound()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, remote, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        outcome = await outbound.perform(a_call(port, timeout_s=30), Connector(allow_private=True))
        nursery.cancel_scope.cancel()
    await outbound.aclose()
    assert isinstance(outcome, answered), outcome
    assert patient_clock.current_time() == pytest.approx(min(works_s, 30), abs=0.5)
