"""The rows of the table of answers (4.1) that lie before the core, which the simulation of the whole runtime has not.

Together with what the simulation must meet they are every answer that a webhook is described with.
"""

from pathlib import Path

import pytest

from runtime.door.openapi import OPERATIONS
from tests.runtime.door.test_lane import quote, ways
from tests.simulation.sometimes import ANSWERS

CYCLE = """
cycle: door
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: quotes-asked
    verify: {scheme: bearer, secret: env.DOOR_KEY}
  answer: {respond: {body: {price: 2}}}
"""
KNOWN = b"Authorization: Bearer of-the-door\r\n"
BEFORE_THE_CORE = {
    200: quote(KNOWN),  # What a `respond` is answered with that says no status.
    401: quote(b"Authorization: Bearer of-nobody\r\n"),
    408: quote(KNOWN)[:-3],
    413: quote(KNOWN, b" " * 2001),
    431: quote(KNOWN + b"X-Large: " + b"x" * 100_000 + b"\r\n"),
}


@pytest.mark.parametrize(("status", "raw"), BEFORE_THE_CORE.items(), ids=map(str, BEFORE_THE_CORE))
async def test_4_1_an_answer_before_the_core_is_given_on_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, raw: bytes
) -> None:
    """Given a request that is wrong, too large, unfinished or right, then it has its status by the lane and without."""
    monkeypatch.setenv("DOOR_KEY", "of-the-door")
    async with ways(tmp_path, CYCLE, body_timeout="100 milliseconds") as there:
        lane, plain = await there.both(raw)
    assert ([one.status for one in lane], [one.status for one in plain]) == ([status], [status])


def test_4_1_each_answer_is_met_by_the_simulation_or_here() -> None:
    """A status that is described and met by neither is a row without a test, one that is not described a surprise."""
    (webhook,) = (one for one in OPERATIONS if (one.method, one.path) == ("post", "/webhook/{identifier}"))
    described = {webhook.success, *webhook.refusals}
    responded = {200, 201, 204}  # What `other` speaks of: the cycle's own word, or the end of its pass.
    assert {*ANSWERS, *BEFORE_THE_CORE} == described | responded
    assert not set(ANSWERS) & set(BEFORE_THE_CORE)
