"""Requests on their way to being hits (section 9): when `before_webhook` is asked, and what its failures cost."""

import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from protocol.admission import Incoming
from protocol.inputs import Duplicate, Hit
from protocol.state import Reply
from runtime import scripts as scripts_module
from runtime.reception import hit_of
from runtime.scripts import Scripts
from tests.runtime.rig import Rig, running

MODULE = """
import trio
asked = []
def look(request):
    asked.append(request["body"])
    match request["body"].get("do"):
        case "raise": raise ValueError("the secret is 42")
        case "reject": return {"reject": "not for us"}
        case "nonsense": return 5
        case "rewrite": return {"body": {"n": len(asked)}}
async def waits(request):
    await trio.sleep_forever()
"""
CYCLE = """
cycle: c
connectors: {shop: {}}
steps:
  placed: {webhook: shop, fields: {n: {type: integer, required: true}}, before_webhook: "hooks_of_tests:%s"}
  other: {webhook: shop, fields: {n: integer}, match: {n: placed.n}}
"""
LINKS = """
cycle: parent
connectors: {shop: {}}
settings: {on_error: stop_transaction}
steps:
  begun: {webhook: shop}
  child: {post: shop, url: "cycle:c/placed", body: {do: "{{ begun.do }}", n: 1}}
  told: {respond: {body: "{{ child.body }}"}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The functions above, in a project of their own."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "hooks_of_tests.py").write_text(MODULE)
    before = list(sys.path)
    yield folder
    sys.path[:] = before


@pytest.fixture
async def rig(project: Path, tmp_path: Path) -> AsyncGenerator[Rig]:
    """An engine whose webhook has a script before it, and a cycle that links there."""
    async with running(tmp_path / "data", CYCLE % "look", LINKS) as running_rig:
        running_rig.engine.scripts = Scripts(project)
        assert not running_rig.engine.scripts.load(["hooks_of_tests:look", "hooks_of_tests:waits"])
        sys.modules["hooks_of_tests"].asked.clear()
        yield running_rig


def given(rig: Rig, body: Any, **headers: str) -> Incoming:
    """A request that was verified."""
    return Incoming(
        method="POST",
        headers={"content-type": "application/json", **headers},
        query={},
        body=msgspec.json.encode(body),
        at=rig.engine.clock(),
    )


async def received(rig: Rig, body: Any, **headers: str) -> Hit | Reply:
    """What a request becomes."""
    program = rig.engine.state.program(rig.engine.state.cycle("c").definition_hash)
    return await hit_of(rig.engine, program, "placed", given(rig, body, **headers))


def asked() -> list[Any]:
    """What the script was asked."""
    return list(sys.modules["hooks_of_tests"].asked)


@pytest.mark.parametrize("do", ["raise", "nonsense"])
async def test_9_a_script_that_fails_accepts_nothing_and_tells_nothing(rig: Rig, do: str) -> None:
    """Section 9: 500, so that the sender sends it again; the reason is in the log alone."""
    before = rig.engine.next_seq
    reply = await received(rig, {"do": do})
    assert isinstance(reply, Reply)
    assert (reply.status, b"42" in reply.body) == (500, False)
    assert rig.engine.next_seq == before


async def test_9_a_repeated_delivery_is_not_put_to_the_script_again(rig: Rig) -> None:
    """Section 4: it is answered as the first was; under the same key another body is 409."""
    first = await received(rig, {"do": "rewrite"}, **{"idempotency-key": "k1"})
    assert isinstance(first, Hit)
    await rig.engine.accept(first).decided()
    again = await received(rig, {"do": "rewrite"}, **{"idempotency-key": "k1"})
    assert isinstance(again, Hit)
    outcome = await rig.engine.accept(again).decided()
    assert isinstance(outcome.verdict, Duplicate)
    assert asked() == [{"do": "rewrite"}]
    other = await received(rig, {"do": "reject"}, **{"idempotency-key": "k1"})
    assert isinstance(other, Hit)
    refused = await rig.engine.accept(other).decided()
    assert refused.reply is not None
    assert refused.reply.status == 409


async def test_9_a_request_of_a_method_that_is_not_taken_is_not_put_to_the_script(rig: Rig) -> None:
    """Section 4: 405."""
    program = rig.engine.state.program(rig.engine.state.cycle("c").definition_hash)
    request = msgspec.structs.replace(given(rig, {}), method="PUT")
    reply = await hit_of(rig.engine, program, "placed", request)
    assert isinstance(reply, Reply)
    assert (reply.status, asked()) == (405, [])


@pytest.mark.parametrize(("do", "status"), [("reject", 500), ("rewrite", 200)])
async def test_8_a_link_meets_the_script_of_its_target(rig: Rig, do: str, status: int) -> None:
    """Section 8: the same checks and answers as over HTTP."""
    reply = await rig.ask("parent", "begun", {"do": do})
    assert (reply.status, asked()) == (status, [{"do": do, "n": 1}])


async def test_9_requests_that_wait_for_scripts_are_bounded(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue has a bound: 503 beyond it; and a script that does not end fails after 60 seconds."""
    monkeypatch.setattr(scripts_module, "ASKED_MAX", 2)
    monkeypatch.setattr(scripts_module, "SCRIPT_NS", 50_000_000)
    async with running(tmp_path / "data", CYCLE % "waits") as rig:
        rig.engine.scripts = Scripts(project)
        rig.engine.scripts.load(["hooks_of_tests:waits"])
        replies: list[int] = []

        async def send() -> None:
            reply = await received(rig, {})
            assert isinstance(reply, Reply)
            replies.append(reply.status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            await send()
            assert replies == [503]
        assert replies == [503, 500, 500]
