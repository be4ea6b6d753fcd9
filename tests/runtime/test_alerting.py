"""Section 10 of the contract, alerts: delivered at least once to a URL, exactly once to a cycle, in nobody's way."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from protocol.alert_settings import Alerts
from protocol.chain import read_chain
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from protocol.state import IncidentRow, TransactionRow
from runtime import alerting
from runtime.engine import Engine
from runtime.store.rows import TABLES
from tests.runtime.rig import NOON, Rig, answer, running

ORDERS = """
cycle: orders
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {%s}
steps:
  asked: {webhook: shop, fields: {n: {type: integer, required: true}}}
  work: {post: remote, path: "/work/{{ asked.n }}"}
  more: {post: remote, path: /more}
"""
OPS = """
cycle: ops
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  told: {webhook: shop, identifier: ops-told-here, fields: {kind: {type: text, required: true}, count: integer}%s}
  page: {post: remote, path: /page, body: {kind: "{{ told.kind }}", count: "{{ told.count }}"}}
"""
TO_URL = 'alerts: {url: "https://ops.example/in", headers: {authorization: "Bearer {{ env.OPS_TOKEN }}"}}'
TO_CYCLE = 'alerts: {url: "cycle:ops/told"}'


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gaps between attempts, a tenth of what they are: an engine under virtual time looks around all along."""
    monkeypatch.setattr(alerting, "GAPS_S", tuple(gap / 10 for gap in alerting.GAPS_S))


class World:
    """The order's remote fails; who is told of it answers as the test says."""

    def __init__(self, told: Callable[[int], CallAnswer | CallFailure] = lambda _: answer({})) -> None:
        self.outcome = told
        self.alerts: list[tuple[float, CallIntended]] = []
        self.works = 0
        self.pages: list[Any] = []

    async def __call__(self, call: CallIntended) -> CallAnswer | CallFailure:
        if call.request.url == "/page":
            self.pages.append(msgspec.json.decode(call.request.body))
            return answer({})
        if not call.request.url.startswith("https://ops.example"):
            self.works += 1
            return answer({}, 500)
        self.alerts.append((trio.current_time(), call))
        return self.outcome(len(self.alerts))

    def bodies(self) -> list[dict[str, Any]]:
        """What was told."""
        return [msgspec.json.decode(call.request.body) for _, call in self.alerts]


async def until(true: Callable[[], bool], seconds: float = 20_000) -> None:
    """Let virtual time pass until something is so."""
    with trio.fail_after(seconds):
        while not true():  # noqa: ASYNC110 - The state has no event for each of its changes.
            await trio.sleep(1)


def quiet(rig: Rig) -> bool:
    """Whether nothing is left to tell, and nothing runs."""
    row = rig.engine.state.cycle("orders")
    return not row.running and not row.untold and row.alert is None


async def incidents(rig: Rig) -> list[IncidentRow]:
    """Every incident, oldest first."""
    await rig.engine.checkpointed()
    return list(rig.engine.state.database.rows(TABLES[IncidentRow], "1 ORDER BY id"))


async def order(rig: Rig, count: int = 1) -> None:
    """Orders whose two calls fail, and the time until all is told."""
    for n in range(count):
        await rig.hit("orders", "asked", {"n": n}).decided()
    await until(lambda: quiet(rig))


async def test_10_an_incident_is_posted_with_all_there_is_to_say(tmp_path: Path, virtual_time: object) -> None:
    """Given a failing step, then the place that alerts go to gets the incident, under a key of its own."""
    del virtual_time
    world = World()
    async with running(tmp_path, ORDERS % TO_URL, remote=world) as rig:
        await order(rig)
        first, second = await incidents(rig)
        transaction = f"orders-{first.transaction}"
    one, two = world.bodies()
    assert (one["incident"], one["cycle"], one["step"], one["kind"]) == (first.id, "orders", "work", "remote_error")
    assert (one["transaction"], one["level"], one["count"]) == (transaction, "error", 1)
    assert one["message"] == "POST was answered with 500"
    assert one["time"].startswith("2026-01-01T12:00:0")
    assert (two["incident"], two["step"]) == (second.id, "more")
    keys = [call.idempotency_key for _, call in world.alerts]
    assert keys == [f"orders.incident.{first.id}", f"orders.incident.{second.id}"]
    chain, depth = read_chain(world.alerts[0][1].request.headers, b"")
    assert (chain.signed, depth) == (True, 1)


async def test_10_a_server_says_where_alerts_go_for_cycles_that_do_not(tmp_path: Path, virtual_time: object) -> None:
    """Given alerts in the settings of the server, then each cycle has them, but for one that says otherwise."""
    del virtual_time
    world = World()
    silent = (ORDERS % "alerts: {url: ''}").replace("cycle: orders", "cycle: silent")
    alerts = Alerts(url="https://ops.example/all")
    async with running(tmp_path, ORDERS % "", silent, remote=world, alerts=alerts) as rig:
        await rig.hit("silent", "asked", {"n": 1}).decided()
        await order(rig)
    assert {body["cycle"] for body in world.bodies()} == {"orders"}
    assert {call.request.url for _, call in world.alerts} == {"https://ops.example/all"}


async def test_10_every_attempt_tells_the_same_under_the_same_key(tmp_path: Path, virtual_time: object) -> None:
    """Given a place that fails three times, then the fourth attempt delivers, at growing gaps; the rest follows."""
    del virtual_time
    outcomes: dict[int, CallAnswer | CallFailure] = {
        1: answer({}, 500),
        2: answer({}, 404),
        3: CallFailure("sent", "reset"),
    }
    world = World(lambda number: outcomes.get(number, answer({})))
    async with running(tmp_path, ORDERS % TO_URL, remote=world) as rig:
        await order(rig, 3)
        assert not [one for one in await incidents(rig) if one.kind == "alert_failed"]
    times = [at for at, _ in world.alerts]
    assert [round(later - at) for at, later in pairwise(times[:4])] == [1, 6, 30]
    assert len({(call.idempotency_key, call.request.body) for _, call in world.alerts[:4]}) == 1
    assert sorted(body["count"] for body in world.bodies()[4:]) == [2, 3], "what came meanwhile is told together"


async def test_10_a_place_that_never_answers_is_given_up_and_slows_nobody(tmp_path: Path, virtual_time: object) -> None:
    """Given a broken place, then passes go on at once; the alert ends as an incident that nobody is told."""
    del virtual_time
    world = World(lambda _: CallFailure("connect", "connection refused"))
    async with running(tmp_path, ORDERS % TO_URL, remote=world) as rig:
        begun = trio.current_time()
        for n in range(20):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: rig.engine.state.cycle("orders").completed == 20)
        assert trio.current_time() - begun <= 1
        await until(lambda: quiet(rig), 40_000)
        failed = [one for one in await incidents(rig) if one.kind == "alert_failed"]
    assert sorted(one.detail["count"] for one in failed) == [1, 19, 20]
    assert "connection refused" in failed[0].message
    assert len(world.alerts) == 3 * 6


async def test_10_a_storm_is_at_most_one_alert_a_second(tmp_path: Path, virtual_time: object) -> None:
    """Given 600 incidents in a moment, then a few alerts tell them all."""
    del virtual_time
    world = World()
    async with running(tmp_path, ORDERS % TO_URL, remote=world) as rig:
        await order(rig, 300)
        ids = {one.id for one in await incidents(rig)}
        assert len(ids) == 600
    assert sum(body["count"] for body in world.bodies()) == 600
    assert len(world.alerts) < 10
    times = [at for at, _ in world.alerts]
    assert all(later - at > 0.99 for at, later in pairwise(times))
    assert len(max(world.bodies(), key=lambda body: int(body["count"]))["transactions"]) == 20


async def test_10_an_alert_that_is_open_at_a_crash_is_sent_again(tmp_path: Path, virtual_time: object) -> None:
    """Given a process that dies before it knows what became of an alert, then the next one sends it, as it was."""
    del virtual_time
    world = World()
    hang = trio.Event()

    async def hanging(call: CallIntended) -> CallAnswer | CallFailure:
        outcome = await world(call)
        if call.request.url.startswith("https://ops.example"):
            await hang.wait()
        return outcome

    async with running(tmp_path, ORDERS % TO_URL, remote=hanging) as rig:
        for n in range(3):
            await rig.hit("orders", "asked", {"n": n}).decided()
        await until(lambda: len(world.alerts) == 1 and rig.engine.state.cycle("orders").completed == 3)
    start = NOON + int(trio.current_time() * 1e9)
    async with running(tmp_path, ORDERS % TO_URL, remote=world, start=start) as rig:
        await until(lambda: quiet(rig))
        told = {one.id for one in await incidents(rig)}
    first, again = world.alerts[0][1], world.alerts[1][1]
    assert (first.idempotency_key, first.request.body) == (again.idempotency_key, again.request.body)
    assert sum(body["count"] for body in world.bodies()[1:]) == len(told) == 6


async def test_10_secrets_of_alerts_are_put_on_when_they_leave_and_are_in_no_journal(
    tmp_path: Path, virtual_time: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a chat room whose URL is a secret, then what is recorded names the variable, also when it fails."""
    del virtual_time
    monkeypatch.setenv("OPS_URL", "https://ops.example/hidden-room")
    monkeypatch.setenv("OPS_TOKEN", "hidden-word")
    world = World(lambda _: CallFailure("connect", "ops.example does not resolve"))
    secret = TO_URL.replace("https://ops.example/in", "{{ env.OPS_URL }}")
    async with running(tmp_path, ORDERS % secret, remote=world) as rig:
        await order(rig)
        shown = [one.message for one in await incidents(rig) if one.kind == "alert_failed"]
    assert {call.request.url for _, call in world.alerts} == {"https://ops.example/hidden-room"}
    assert shown
    assert "ops.example" not in str(shown)
    recorded = b"".join(path.read_bytes() for path in (tmp_path / "journal").glob("*"))
    assert b"hidden" not in recorded
    assert b"env.OPS_URL" in recorded


async def test_10_a_missing_secret_is_a_failed_alert_that_names_it(tmp_path: Path, virtual_time: object) -> None:
    """Section 10: nothing leaves without what it should carry."""
    del virtual_time
    world = World()
    async with running(tmp_path, ORDERS % 'alerts: {url: "{{ env.NO_SUCH_URL }}"}', remote=world) as rig:
        await order(rig)
        assert any("NO_SUCH_URL is not set" in one.message for one in await incidents(rig))
    assert not world.alerts


# ---------------------------------------------------------------- through links


def named(engine: Engine) -> None:
    """Give an engine the URL that a server gives it."""
    engine.own_urls = frozenset({"https://hooks.example/webhook/"})


@pytest.mark.parametrize("to", [TO_CYCLE, 'alerts: {url: "https://hooks.example/webhook/ops-told-here"}'])
async def test_10_an_alert_through_a_link_runs_a_cycle_once_and_names_its_parent(
    tmp_path: Path, virtual_time: object, to: str
) -> None:
    """Given alerts to a cycle, then it runs for each, deduplicated or not, and its parent is what it is about."""
    del virtual_time
    world = World()
    async with running(tmp_path, ORDERS % to, OPS % ", dedupe: off", remote=world, prepare=named) as rig:
        await order(rig, 3)
        await until(lambda: rig.engine.state.cycle("ops").running == 0)
        await rig.engine.checkpointed()
        rows = list(rig.engine.state.database.rows(TABLES[TransactionRow]))
        about = {row.parent.transaction for row in rows if row.cycle == "ops" and row.parent is not None}
        assert about <= {row.id for row in rows if row.cycle == "orders"}
        assert not [one for one in await incidents(rig) if one.kind == "alert_failed"]
    assert sum(page["count"] for page in world.pages) == 6
    assert not world.alerts


async def test_10_an_alert_through_a_link_that_is_handed_over_again_is_found_to_be_made(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given a hand-over that is repeated, as after a crash, then the cycle runs no second time, dedupe or not."""
    del virtual_time
    world = World()
    files = (ORDERS % TO_CYCLE, OPS % ", dedupe: off")
    async with running(tmp_path, *files, remote=world) as rig:
        await rig.hit("orders", "asked", {"n": 1}).decided()
        await until(lambda: quiet(rig) and rig.engine.state.cycle("ops").completed == 2)
        first = min(one.id for one in await incidents(rig))
    async with running(tmp_path, *files, remote=world) as rig:
        rig.engine.spawn(rig.engine.alerting.send, "orders", [first])
        await trio.sleep(5)
        assert rig.engine.state.cycle("ops").completed == 2, "a second hand-over finds the first"


async def test_10_a_webhook_that_refuses_an_alert_is_tried_again_and_then_given_up(
    tmp_path: Path, virtual_time: object
) -> None:
    """Given a cycle whose webhook does not take what an alert says, then that is said."""
    del virtual_time
    picky = (OPS % "").replace(
        "kind: {type: text, required: true}", "no_such: {type: text, required: true}, kind: text"
    )
    async with running(tmp_path, ORDERS % TO_CYCLE, picky, remote=World()) as rig:
        await order(rig)
        failed = [one for one in await incidents(rig) if one.kind == "alert_failed"]
    assert [one.message for one in failed][:1] == [
        "an alert was given up: ops/told refused it with 422, at the last of 6 attempts"
    ]


async def test_8_alerts_that_bring_alerts_come_to_an_end(tmp_path: Path, virtual_time: object) -> None:
    """Given two cycles that tell each other, and fail, then the chain ends at its depth, and nothing goes on."""
    del virtual_time
    ops = (OPS % "").replace("steps:", "settings: {alerts: {url: 'cycle:orders/asked'}}\nsteps:")
    orders = (ORDERS % TO_CYCLE).replace("fields: {n: {type: integer, required: true}}", "fields: {n: integer}")

    async def failing(call: CallIntended) -> CallAnswer | CallFailure:
        del call
        return answer({}, 500)

    async with running(tmp_path, orders.replace("{{ asked.n }}", ""), ops, remote=failing) as rig:
        await rig.hit("orders", "asked", {"n": 1}).decided()
        state = rig.engine.state
        await until(lambda: quiet(rig) and not state.cycle("ops").alert and not state.cycle("ops").running, 900_000)
        await trio.sleep(100)
        kinds = [one.kind for one in await incidents(rig)]
        assert quiet(rig)
    assert 1 <= kinds.count("loop_detected") <= 2
    assert kinds.count("alert_failed")
