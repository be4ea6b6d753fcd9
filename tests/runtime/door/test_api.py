"""The API (section 15): every line of the contract, answers of the described shapes, and pages."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing
from quart_trio import QuartTrio

from protocol.ages import Ages
from protocol.events import CallIntended
from protocol.inputs import Accepted, CallAnswer, CallFailure, Ignored, Retain
from runtime.config import Settings
from runtime.door import Door, make_app, shapes
from runtime.door.openapi import OPERATIONS, QUERIES, document
from tests.runtime.rig import Rig, answer, running

JOBS = """
cycle: jobs
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {job: {type: integer, required: true}, card: {type: text, sensitive: true}}}
  work: {post: remote, path: "/work/{{ asked.job }}", body: {card: "{{ asked.card }}"}}
  back: {webhook: shop, fields: {job: {type: integer, required: true}}, match: {job: asked.job}}
  more: {get: remote, path: /more}
"""
QUOTES = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {n: integer}}
  answer: {respond: {status: 201, body: {n: "{{ asked.n }}"}}}
"""


async def remote(call: CallIntended) -> CallAnswer | CallFailure:
    """Job 3 is refused, job 4 is not heard; all else goes well."""
    if call.request.url == "/work/4":
        return CallFailure("connect", "connection refused")
    return answer({}, 500 if call.request.url in ("/work/3", "/more") else 200)


class Caller:
    """Who asks the API of a running engine."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.door = Door(Settings(), "token", "key")
        self.door.open(rig.engine)
        self.app: QuartTrio = make_app(self.door)

    async def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        """One request with the admin token: the answer as it came."""
        headers = {"authorization": "Bearer token", **headers}
        content = None if body is None else msgspec.json.encode(body)
        client: Any = self.app.test_client()  # Its protocol wants JSON of every request.
        return await client.open(path, method=method, headers=headers, data=content)

    async def json(self, path: str, status: int = 200, method: str = "GET", body: Any = None) -> Any:
        """The JSON of an answer that has this status."""
        said = await self.ask(path, method, body)
        assert said.status_code == status, await said.get_data(as_text=True)
        return await said.get_json()

    async def settled(self) -> None:
        """Everything asked for is done, and the store has it."""
        await trio.testing.wait_all_tasks_blocked()
        await self.rig.engine.checkpointed()


@asynccontextmanager
async def calling(folder: Path) -> AsyncGenerator[Caller]:
    """Four jobs (two hold, one failed with 500, one was not heard), a callback for none, and a quote."""
    async with running(folder, JOBS, QUOTES, remote=remote) as rig:
        caller = Caller(rig)
        for job in (1, 2, 3, 4):
            await rig.hit("jobs", "asked", {"job": job, "card": "secret-4111"}).decided()
            await caller.settled()
        await rig.hit("jobs", "back", {"job": 9}).decided()
        await rig.ask("quotes", "asked", {"n": 7})
        await caller.settled()
        yield caller


async def test_15_every_answer_has_the_shape_that_its_description_gives(tmp_path: Path) -> None:
    """Section 15: what the document says of each GET is what comes, with no member more or less."""
    async with calling(tmp_path) as caller:
        names = {"/api/cycles/{name}": "jobs", "/api/transactions/{name}": "", "/status/{name}": ""}
        first = (await caller.json("/api/transactions?cycle=jobs"))["transactions"][-1]["transaction"]
        names["/api/transactions/{name}"] = first
        hit = (await caller.json(f"/api/transactions/{first}"))["passes"][0]["hit"]
        names["/api/doctor/{name}"] = first
        names["/status/{name}"] = f"{hit}.{caller.door.sign(hit)}"
        shaped = [one for one in OPERATIONS if one.method == "get" and one.answers is not None]
        for operation in shaped:
            path = operation.path.replace("{name}", names.get(operation.path, ""))
            path = path.replace("{cycle}", "jobs").replace("{step}", "asked")
            found = msgspec.convert(await caller.json(path), operation.answers)
            assert found is not None
        assert len(shaped) >= 10


async def test_15_the_document_has_every_route_and_no_other(tmp_path: Path) -> None:
    """Section 15: generated from one list, so a route that nobody described, or that is gone, fails here."""
    async with calling(tmp_path) as caller:
        routes = {
            (method.lower(), re.sub(r"<(?:int:)?(\w+)>", r"{\1}", rule.rule))
            for rule in caller.app.url_map.iter_rules()
            for method in set(rule.methods or ()) - {"HEAD", "OPTIONS", "TRACE"}
        }
        assert routes == {(one.method, one.path) for one in OPERATIONS}
        found = await caller.json("/api/openapi.json")
        assert found == msgspec.json.decode(msgspec.json.encode(document()))
        assert found["openapi"] == "3.1.0"
        described = {(method, path) for path, methods in found["paths"].items() for method in methods}
        assert described == routes
        names = [one["operationId"] for methods in found["paths"].values() for one in methods.values()]
        assert len(names) == len(set(names))
        for wanted in re.findall(r'"#/components/schemas/(\w+)"', msgspec.json.encode(found).decode()):
            assert wanted in found["components"]["schemas"]


@pytest.mark.parametrize(("path", "query"), [(path, query) for path, query in QUERIES.items() if query])
async def test_15_a_route_takes_the_parameters_that_are_described(
    tmp_path: Path, path: str, query: tuple[str, ...]
) -> None:
    """Section 15: an unknown one is refused with the list of those there are."""
    async with calling(tmp_path) as caller:
        refused = await caller.json(f"{path}?nonsense=1", 400)
        assert f"there are {', '.join(query)}" in refused["detail"]


async def test_15_a_status_tells_its_caller_exactly_what_the_contract_says(tmp_path: Path) -> None:
    """Section 15: the same eight members for a run, a built answer and a hit without a transaction; no reason."""
    members = {"transaction", "cycle", "status", "pass", "held_at", "started", "updated", "answer"}
    async with calling(tmp_path) as caller:

        async def status(hit: int) -> Any:
            said = await caller.json(f"/status/{hit}.{caller.door.sign(hit)}")
            assert set(said) == members
            return said

        failed = (await caller.json("/api/transactions?status=failed&cycle=jobs&limit=1"))["transactions"][0]
        shown = await caller.json(f"/api/transactions/{failed['transaction']}")
        assert (await status(shown["passes"][0]["hit"]))["status"] == "failed"
        quoted = (await caller.json("/api/transactions?cycle=quotes"))["transactions"][0]["transaction"]
        hit = (await caller.json(f"/api/transactions/{quoted}"))["passes"][0]["hit"]
        assert (await status(hit))["answer"]["body"] == {"n": 7}
        parked = (await caller.json("/api/parked"))["parked"][0]["hit"]
        assert await status(parked) == {
            **dict.fromkeys(members),
            "cycle": "jobs",
            "status": "parked",
        }


NEWS = """
cycle: news
connectors: {shop: {}}
steps:
  asked: {webhook: shop}
  back: {webhook: shop, fields: {id: text, at: integer}, match: {id: asked.id}, newer_than: at, park: 1 minute}
"""


async def test_15_every_status_has_the_shape_that_is_described(tmp_path: Path, autojump_clock: object) -> None:
    """Section 15: also of a request that was ignored or expired, and of one whose transaction is removed."""
    del autojump_clock
    async with running(tmp_path, NEWS, QUOTES) as rig:
        caller = Caller(rig)
        told: dict[str, int] = {}
        await rig.hit("news", "asked", {"id": "a"}).decided()
        for number in (9, 7):
            ignored = (await rig.hit("news", "back", {"id": "a", "at": number}).decided()).verdict
        assert isinstance(ignored, Ignored)
        told["ignored"] = ignored.hit
        await rig.hit("news", "back", {"id": "b"}).decided()
        told["expired"] = (await caller.json("/api/parked"))["parked"][0]["hit"]
        await trio.sleep(61)
        quoted = rig.hit("quotes", "asked", {"n": 7}, **{"idempotency-key": "k"})
        outcome = (await quoted.decided()).verdict
        assert isinstance(outcome, Accepted)
        told["completed"] = outcome.hit
        await caller.settled()
        for status, hit in told.items():
            found = await caller.json(f"/status/{hit}.{caller.door.sign(hit)}")
            assert msgspec.convert(found, shapes.Status).status == status
        ages = Ages(1, 1, 0, 0)
        await rig.engine.order(Retain("quotes", rig.engine.clock() + 10**9, ages, (outcome.transaction,))).decided()
        found = await caller.json(f"/status/{outcome.hit}.{caller.door.sign(outcome.hit)}")
        assert msgspec.convert(found, shapes.Status).status == "removed"
        assert found["answer"]["status"] == 201


async def test_15_a_status_url_is_good_for_its_own_hit_alone(tmp_path: Path) -> None:
    """Section 15: the capability is signed, per hit: another signature, none, or that of another hit is a 404."""
    async with calling(tmp_path) as caller:
        hit = (await caller.json("/api/parked"))["parked"][0]["hit"]
        own = caller.door.sign(hit)
        assert (await caller.ask(f"/status/{hit}.{own}", authorization="")).status_code == 200
        for wrong in (own[:-1] + ("0" if own[-1] != "0" else "1"), "", own[:-1], caller.door.sign(hit + 1)):
            assert (await caller.ask(f"/status/{hit}.{wrong}")).status_code == 404


async def test_15_failed_transactions_are_found_by_the_value_they_had_reached(tmp_path: Path) -> None:
    """Section 15: given one that failed after its hold, when its job is looked for, then it is found."""
    async with calling(tmp_path) as caller:

        async def found(value: str) -> list[str]:
            page = await caller.json(f"/api/transactions?value={value}&cycle=jobs")
            return [one["status"] for one in page["transactions"]]

        assert await found("1") == ["held"]
        await caller.rig.hit("jobs", "back", {"job": 1}).decided()
        await caller.settled()
        assert await found("1") == ["failed"]
        assert await found("3") == [], "it never came to its hold"


async def test_13_a_receipt_has_the_shape_that_its_description_gives(tmp_path: Path) -> None:
    """Section 13: a preview and an order alike; a set by value is looked up by the index."""
    async with calling(tmp_path) as caller:
        for body in ({"preview": True}, {"order": "o1"}, {"order": "o2", "filter": {"value": "3"}}):
            asked = {"action": "resume", "filter": {"status": "failed"}, **body}
            found = await caller.json("/api/redrive", 200, "POST", asked)
            assert msgspec.convert(found, shapes.RedriveReceipt).action == "resume"
            msgspec.convert(asked, shapes.RedriveAsked)


async def test_13_a_negative_number_names_no_hit(tmp_path: Path) -> None:
    """Section 13: a set is what its names say, and nothing is taken for something near it."""
    async with calling(tmp_path) as caller:
        hit = (await caller.json("/api/parked"))["parked"][0]["hit"]
        for name, status in ((hit, 200), (-hit, 400), (f"-{hit}", 400)):
            await caller.json("/api/redrive", status, "POST", {"action": "redeliver", "preview": True, "ids": [name]})


async def test_6_5_a_parked_hit_is_listed_and_aimed_by_hand(tmp_path: Path) -> None:
    """6.5: the receipt names both; what can not be is refused with the reason."""
    async with calling(tmp_path) as caller:
        (parked,) = (await caller.json("/api/parked"))["parked"]
        held = (await caller.json("/api/transactions?status=held"))["transactions"][0]["transaction"]
        path = f"/api/parked/{parked['hit']}/aim"
        assert (await caller.json(path, 400, "POST", {"to": held}))["title"] == "Malformed body"
        assert (await caller.json(path, 404, "POST", {"transaction": "jobs-1"}))["title"] == "Not found"
        quote = (await caller.json("/api/transactions?cycle=quotes"))["transactions"][0]["transaction"]
        assert (await caller.json(path, 409, "POST", {"transaction": quote}))["title"] == "Another cycle"
        aimed = await caller.json(path, 200, "POST", {"transaction": held})
        assert msgspec.convert(aimed, shapes.Aimed) == shapes.Aimed(hit=parked["hit"], transaction=held)
        await caller.settled()
        assert (await caller.json("/api/parked"))["parked"] == []
        assert (await caller.json(f"/api/transactions/{held}"))["passes"][-1]["hit"] == parked["hit"]
        assert (await caller.json(path, 409, "POST", {"transaction": held}))["title"] == "Not parked"


async def test_15_incidents_come_in_pages_and_name_their_transaction(tmp_path: Path) -> None:
    """Sections 10 and 15: time, cycle, step, kind, transaction, message and level, oldest first."""
    async with calling(tmp_path) as caller:
        first = await caller.json("/api/incidents?limit=1")
        ((one,), after) = first["incidents"], first["next"]
        assert (one["cycle"], one["step"], one["kind"], one["level"]) == ("jobs", "work", "remote_error", "error")
        assert one["transaction"].startswith("jobs-")
        assert one["time"].endswith("+00:00")
        rest = await caller.json(f"/api/incidents?after={after}")
        assert [one["kind"] for one in rest["incidents"]] == ["connection_failed"]
        assert rest["next"] is None


async def test_15_the_journal_is_read_as_json_lines_from_a_number_on(tmp_path: Path) -> None:
    """Section 15: bounded, with the number to go on from; what is sensitive is masked."""
    async with calling(tmp_path) as caller:
        seen: list[Any] = []
        at = 0
        while True:
            said = await caller.ask(f"/api/journal?from={at}&limit=7")
            assert said.content_type == "application/jsonl"
            lines = (await said.get_data()).splitlines()
            if not lines:
                break
            seen += [msgspec.json.decode(line) for line in lines]
            assert len(lines) <= 7
            at = int(said.headers["cyclewright-next"])
        assert [one["seq"] for one in seen] == list(range(caller.rig.engine.next_seq))
        assert at == caller.rig.engine.next_seq
        assert "secret-4111" not in str(seen)
        assert "••••" in str(seen)
        only = await caller.ask("/api/journal?cycle=quotes&limit=10000")
        cycles = {msgspec.json.decode(line)["cycle"] for line in (await only.get_data()).splitlines()}
        assert cycles == {"quotes"}
        await caller.json("/api/journal?from=-1", 400)


LINE = re.compile(r'# (?:HELP|TYPE) cyclewright_\w+ .+|cyclewright_(\w+)(\{\w+="[^"\n]*"(?:,\w+="[^"\n]*")*\})? (\S+)')


def samples(text: str) -> dict[str, float]:
    """The samples of a text in the format of Prometheus, each line of which must be well formed."""
    found: dict[str, float] = {}
    for line in text.removesuffix("\n").split("\n"):
        matched = LINE.fullmatch(line)
        assert matched is not None, line
        if matched[1]:
            name = f"{matched[1]}{matched[2] or ''}"
            assert name not in found, line
            found[name] = float(matched[3])
    return found


async def test_15_metrics_are_open_and_tell_what_happened_without_what_callers_sent(tmp_path: Path) -> None:
    """Section 15: requests, transactions, parked hits, turns, commits, bytes, calls, tasks; labels are our names."""
    async with calling(tmp_path) as caller:
        client = caller.app.test_client()
        identifiers = caller.rig.engine.state.cycle("quotes").identifiers
        for identifier in (identifiers["asked"], "unknown"):
            await client.post(f"/webhook/{identifier}", json={"n": 1})
        text = await (await client.get("/metrics")).get_data(as_text=True)
        found = samples(text)
        told = {
            'hits_total{cycle="quotes",answer="201"}': 1,
            'hits_total{cycle="",answer="404"}': 1,
            'transactions{cycle="jobs",status="held"}': 2,
            'transactions{cycle="jobs",status="failed"}': 2,
            'parked_hits{cycle="jobs"}': 1,
            'calls_total{cycle="jobs",connector="remote",outcome="2xx"}': 2,
            'calls_total{cycle="jobs",connector="remote",outcome="5xx"}': 1,
            'calls_total{cycle="jobs",connector="remote",outcome="not_sent"}': 1,
            'incidents_total{cycle="jobs",level="error"}': 2,
            'tasks_this_month{cycle="jobs"}': 9,
            "ready": 1,
        }
        assert {name: found.get(name) for name in told} == told
        assert found["turns_total"] > 10
        assert found["journal_events_total"] == caller.rig.engine.next_seq
        assert found["journal_bytes"] > 0
        assert found['commit_seconds_bucket{le="+Inf"}'] == found["commit_seconds_count"] > 0
        assert "secret" not in text
        assert "4111" not in text


async def test_15_metrics_of_a_server_that_recovers_say_that_it_is_not_ready() -> None:
    """Section 15: and what it refused meanwhile."""
    door = Door(Settings(), "token", "key")
    client = make_app(door).test_client()
    assert (await client.post("/webhook/any", json={})).status_code == 503
    found = samples(await (await client.get("/metrics")).get_data(as_text=True))
    assert found == {"ready": 0, 'hits_total{cycle="",answer="503"}': 1}


async def test_15_readiness_is_503_with_progress_until_the_journal_is_read(tmp_path: Path) -> None:
    """Section 15: alive from the start; ready once requests are taken, and no more when the server stops."""
    door = Door(Settings(), "token", "key")
    client = make_app(door).test_client()
    door.progress = 7
    starting = await client.get("/readyz")
    told = msgspec.json.decode(await starting.get_data(as_text=False))
    assert (starting.status_code, told["progress"], starting.headers["retry-after"]) == (503, 7, "1")
    assert (await client.get("/healthz")).status_code == 200
    async with calling(tmp_path) as caller:
        assert (await caller.ask("/readyz")).status_code == 200
        caller.door.draining = True
        assert (await caller.ask("/readyz")).status_code == 503
        assert (await caller.ask("/webhook/any", "POST", {})).status_code == 503
        assert (await caller.ask("/healthz")).status_code == 200


async def test_15_nothing_below_api_is_told_without_the_token(tmp_path: Path) -> None:
    """Section 15: whatever the method, and for the description too; nor with another one, or by another scheme."""
    async with calling(tmp_path) as caller:
        client = caller.app.test_client()
        for wrong in ("Bearer toke", "Bearer tokens", "Bearer ", "Bearer", "Basic token", "token", ""):
            assert (await caller.ask("/api/cycles", authorization=wrong)).status_code == 401, wrong
        assert (await caller.ask("/api/cycles", authorization="bearer token")).status_code == 200
        for operation in OPERATIONS:
            if operation.path.startswith("/api"):
                path = operation.path.replace("{name}", "jobs").replace("{hit}", "1")
                said = await client.open(path.replace("{order}", "stop"), method=operation.method.upper(), json={})
                assert said.status_code == 401, operation


async def test_15_a_wait_of_any_length_is_no_more_than_the_longest(tmp_path: Path) -> None:
    """Section 15: a number of thousands of digits is a number; a hit that needs no waiting is told at once."""
    async with calling(tmp_path) as caller:
        parked = (await caller.json("/api/parked"))["parked"][0]["hit"]
        for wait in ("9" * 5000, "9" * 12, "0", "1", "soon", "-1", ""):
            path = f"/status/{parked}.{caller.door.sign(parked)}"
            said = await caller.ask(path, prefer=f"wait={wait}")
            assert (said.status_code, (await said.get_json())["status"]) == (200, "parked"), wait
