"""Section 8, a link whose target is gone by the time: the step that linked is told so, and nothing else happens."""

from pathlib import Path

import trio
import trio.testing

from protocol.loading import Source, load_project
from runtime.deploying import deploy
from tests.runtime.rig import running

PARENT = """
cycle: parent
connectors: {inner: {}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: inner}
  pause: {delay: 1 minute}
  down: {post: inner, url: "cycle:child/taken", body: {n: 1}}
"""
CHILD = """
cycle: child
connectors: {inner: {}}
steps:
  taken: {webhook: inner, fields: {n: integer}}
"""


async def test_8_a_link_to_a_webhook_that_a_deploy_took_away_is_answered_404(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Given a pass in flight whose version links to a step that is renamed since, then its step fails, and no more."""
    del autojump_clock
    async with running(tmp_path, PARENT, CHILD) as rig:
        await rig.hit("parent", "asked", {}).decided()
        newer = [text.replace("taken", "received") for text in (PARENT, CHILD)]
        definitions, faults = load_project([Source(f"{at}.cycle.yaml", text) for at, text in enumerate(newer)])
        assert not faults
        await deploy(rig.engine, definitions)
        state = rig.engine.state
        with trio.fail_after(600):
            while not state.cycle("parent").failed:  # noqa: ASYNC110 - The engine wakes nobody for it.
                await trio.sleep(1)
        await rig.hit("child", "received", {"n": 2}).decided()
        assert (state.cycle("child").completed, state.cycle("parent").running) == (1, 0)
