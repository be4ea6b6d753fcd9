"""Section 7, which connector a call goes out by: the current version's, or that of the version its transaction runs."""

from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.loading import Source, load_project
from runtime.deploying import deploy
from tests.runtime.rig import Wire, answer, running

ORDERS = """
cycle: orders
connectors: {shop: {}, store: {base_url: "http://old.example"}}
steps:
  asked: {webhook: shop}
  work: {post: store, path: /work, on_error: {retry: [1 minute]}}
"""


class Places(Wire):
    """Fails the first attempt, and knows by which connector each went."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.bases: list[str] = []

    async def _answer(self, _: CallIntended) -> CallAnswer:
        return answer({}, 500 if len(self.bases) == 1 else 200)

    async def perform(
        self, call: CallIntended, connector: Connector, *, safe_to_repeat: bool | None = None
    ) -> CallAnswer | CallFailure:
        """Note the connector."""
        self.bases.append(connector.base_url)
        return await super().perform(call, connector, safe_to_repeat=safe_to_repeat)


@pytest.mark.parametrize(
    ("newer", "expected"),
    [
        (ORDERS.replace("old.example", "new.example"), "http://new.example"),
        (ORDERS.replace("store", "depot").replace("old.example", "new.example"), "http://old.example"),
    ],
    ids=["moved", "renamed"],
)
async def test_11_a_call_in_flight_goes_by_the_connector_of_today_or_else_by_its_own(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, newer: str, expected: str
) -> None:
    """Given a call that waits for its retry, when its connector moves, it follows; when renamed, it keeps its own."""
    del autojump_clock
    places = Places()
    async with running(tmp_path, ORDERS, prepare=lambda engine: setattr(engine, "outbound", places)) as rig:
        await rig.hit("orders", "asked", {}).decided()
        with trio.fail_after(60):
            while not places.bases:  # noqa: ASYNC110 - The remote wakes nobody.
                await trio.sleep(0.1)
        definitions, faults = load_project([Source("orders.cycle.yaml", newer)])
        assert not faults
        await deploy(rig.engine, definitions)
        with trio.fail_after(120):
            while not rig.engine.state.cycle("orders").completed:  # noqa: ASYNC110 - The same.
                await trio.sleep(1)
        assert places.bases == ["http://old.example", expected]
