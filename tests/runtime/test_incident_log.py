"""The log of a server tells incidents at their own level (section 10), so that who looks for errors finds them."""

from pathlib import Path

import trio
from structlog.testing import capture_logs

from tests.runtime.rig import running

FAILING = """
cycle: failing
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  asked: {webhook: shop}
  answer: {respond: {}}
  again: {respond: {}}
  work: {post: remote, path: /x, on_error: {retry: [1 second]}}
"""


async def test_10_an_incident_is_logged_at_its_level(tmp_path: Path, autojump_clock: object) -> None:
    """Given a second answer, an attempt that is followed by another, and the last one: info, warning and error."""
    del autojump_clock
    with capture_logs() as logs:
        async with running(tmp_path, FAILING) as rig:
            assert (await rig.ask("failing", "asked", {})).status == 200
            await trio.sleep(2)
    told = [(one["kind"], one["log_level"]) for one in logs if one["event"] == "incident"]
    assert told == [("already_answered", "info"), ("connection_failed", "warning"), ("out_of_retries", "error")]
