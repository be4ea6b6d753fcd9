"""Answers over real HTTP that need a cycle, a bound or a moment of their own (sections 4, 4.1, 5 and 6)."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.system.harness import Server
from tests.system.partner import Partner

GATED = """
cycle: gated
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked:
    webhook: shop
    identifier: gated-asked
    fields: {n: {type: integer, required: true}}
    answer_within: 1 minute
    on_late: accept
  work: {post: remote, path: /gate, body: {n: "{{ asked.n }}"}}
  answer: {respond: {status: 201, body: {n: "{{ asked.n }}"}}}
"""
MATCHES = """
cycle: matches
connectors: {shop: {}}
settings: {while_stopped: collect}
steps:
  asked: {webhook: shop, identifier: matches-asked, fields: {key: text, n: any}}
  latest: {webhook: shop, identifier: matches-latest, fields: {key: text, n: any}, match: {key: asked.key}}
  only: {webhook: shop, identifier: matches-only, fields: {key: text}, match: {key: asked.key}, pick: only}
  reject: {webhook: shop, identifier: matches-reject, fields: {key: text}, match: {key: asked.key}, unmatched: reject}
"""
SIGNED = """
cycle: signed
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: signed-asked
    verify: {scheme: api_key, header: X-Shop-Key, secrets: [env.SHOP_KEY_NEW, env.SHOP_KEY]}
  answer: {respond: {body: "{{ hit.headers }}"}}
"""
READS = """
cycle: reads
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: reads-asked
    methods: [POST, GET, DELETE]
    check: %s
    fields: {n: {type: integer, required: true}, tags: list, text: text}
  answer: {respond: {body: "{{ asked }}"}}
"""


@pytest.fixture(scope="module")
def partner() -> Iterator[Partner]:
    """The remote of the file."""
    with Partner() as remote:
        yield remote


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, partner: Partner) -> Iterator[Server]:
    """One server for the file, with tight bounds; each test uses keys of its own."""
    project = tmp_path_factory.mktemp("answers")
    (project / "gated.cycle.yaml").write_text(GATED % partner.url)
    (project / "matches.cycle.yaml").write_text(MATCHES)
    for check in ("reject", "warn", "off"):
        text = READS.replace("reads", f"reads_{check}") % check
        (project / f"{check}.cycle.yaml").write_text(text.replace("reads_reject-asked", "reads-asked"))
    (project / "cyclewright.toml").write_text('running_max = 2\nbody_timeout = "500 milliseconds"\n')
    (project / "signed.cycle.yaml").write_text(SIGNED)
    with Server(project, environment={"SHOP_KEY": "k-1"}) as running:
        yield running


@pytest.fixture(autouse=True)
def closed(partner: Partner, server: Server) -> Iterator[None]:
    """The gate is closed before a test, and opened after it, so that nothing of it stays in progress."""
    partner.gate.clear()
    partner.asked.clear()
    yield
    partner.gate.set()
    server.settled("gated")


def raw_request(server: Server, path: str, body: Any, **headers: str) -> socket.socket:
    """A caller who has sent a request, and can hang up."""
    packed = json.dumps(body, separators=(",", ":")).encode()  # As httpx writes it: a repeat has the same bytes.
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(packed)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    caller = socket.create_connection(("127.0.0.1", server.port))
    caller.sendall("\r\n".join([*lines, "", ""]).encode() + packed)
    return caller


def last_pass(server: Server, cycle: str) -> dict[str, Any]:
    """The latest pass of the latest transaction of a cycle."""
    newest = server.transactions(f"&cycle={cycle}")[0]["transaction"]
    found: dict[str, Any] = server.api(f"transactions/{newest}")["passes"][-1]
    return found


def test_4_1_past_the_bound_of_passes_503_says_when_to_come_back(server: Server, partner: Partner) -> None:
    """4.1: given two passes in progress, and room for two, then the next request is refused before it is recorded."""
    for n in (1, 2):
        assert server.hit("gated-asked", {"n": n}, prefer="respond-async").status_code == 202
    assert partner.asked.wait(10)
    before = len(server.transactions())
    refused = server.hit("gated-asked", {"n": 3})
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert len(server.transactions()) == before


def test_4_1_a_collecting_cycle_keeps_requests_and_runs_them_on_start(server: Server) -> None:
    """4.1: 202 parked until it starts."""
    server.api("cycles/matches/stop", method="POST")
    kept = server.hit("matches-asked", {"key": "collected"})
    assert (kept.status_code, kept.json()["status"]) == (202, "parked")
    assert [one["reason"] for one in server.api("parked")["parked"]] == ["stopped"]
    assert server.api("cycles/matches/start", method="POST")["resumed"] == 1
    status = httpx.get(kept.json()["status_url"], headers={"prefer": "wait=5"}).json()
    assert (status["status"], status["held_at"]) == ("held", "latest")


def test_6_3_two_transactions_with_one_key_the_later_wins_and_6_6_the_answer_names_both(server: Server) -> None:
    """6.3, 6.6: most recent by creation, `ambiguous` lists the candidates."""
    first, second = (server.hit("matches-asked", {"key": "twice"}).json()["transaction"] for _ in range(2))
    answer = server.hit("matches-latest", {"key": "twice"}).json()
    assert (answer["status"], answer["transaction"]) == ("resumed", second)
    assert answer["ambiguous"] == [second, first]
    assert last_pass(server, "matches")["ambiguous"] == [second, first]


def test_6_5_unmatched_reject_is_404_and_6_6_pick_only_is_409(server: Server) -> None:
    """6.5, 6.6: nothing is recorded for either."""
    assert server.hit("matches-reject", {"key": "nobody"}).status_code == 404
    for _ in range(2):
        server.hit("matches-asked", {"key": "pair"})
        assert server.hit("matches-latest", {"key": "pair"}).status_code == 202
    refused = server.hit("matches-only", {"key": "pair"})
    assert refused.status_code == 409, refused.text
    parked = [one for one in server.api("parked?limit=500")["parked"] if one["key"] == ["pair"]]
    assert not parked


def test_5_1_on_late_accept_tells_202_and_the_fate_is_deadline(server: Server, partner: Partner) -> None:
    """5.1, 5.4: past the caller's own deadline; the run is not cancelled and its answer can be fetched."""
    late = server.hit("gated-asked", {"n": 5}, prefer="wait=1")
    assert (late.status_code, late.json()["status"]) == (202, "accepted")
    assert partner.asked.is_set()
    partner.gate.set()
    status = httpx.get(late.json()["status_url"], headers={"prefer": "wait=10"}).json()
    assert (status["status"], status["answer"]["status"]) == ("completed", 201)
    assert last_pass(server, "gated")["fate"] == "deadline"


def test_5_4_a_caller_who_hung_up_gets_the_stored_answer_when_he_comes_back(server: Server, partner: Partner) -> None:
    """5.1, 5.4: the fate is `gone`, the run goes on, nothing runs twice."""
    caller = raw_request(server, "/webhook/gated-asked", {"n": 6}, **{"idempotency-key": "gone"})
    assert partner.asked.wait(10)
    caller.close()
    while last_pass(server, "gated")["fate"] == "waiting":
        server.pause()
    assert last_pass(server, "gated")["fate"] == "gone"
    partner.gate.set()
    server.settled("gated")
    before = len(server.transactions("&cycle=gated"))
    again = server.hit("gated-asked", {"n": 6}, **{"idempotency-key": "gone"})
    assert (again.status_code, again.json()) == (201, {"n": 6})
    assert again.headers["cyclewright-duplicate"] == "true"
    assert len(server.transactions("&cycle=gated")) == before


def test_5_4_a_caller_who_comes_twice_at_once_gets_one_run_and_the_same_answer(
    server: Server, partner: Partner
) -> None:
    """5.4: the second waits for what the first one's run answers."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(server.hit("gated-asked", {"n": 7}, **{"idempotency-key": "both"}))

    callers = [threading.Thread(target=ask) for _ in range(2)]
    callers[0].start()
    assert partner.asked.wait(10)
    callers[1].start()
    partner.gate.set()
    for one in callers:
        one.join()
    assert {(one.status_code, one.content) for one in answers} == {(201, b'{"n":7}')}
    assert len(set(partner.effects)) == len(server.transactions("&cycle=gated"))


@pytest.mark.parametrize(
    ("method", "more", "read"),
    [
        ("POST", {"json": {"n": "1"}}, {"n": 1, "tags": None, "text": None}),
        ("POST", {"data": {"n": "1", "tags": ["a", "b"]}}, {"n": 1, "tags": ["a", "b"], "text": None}),
        ("GET", {"params": {"n": "1", "text": "x"}}, {"n": 1, "tags": None, "text": "x"}),
        ("DELETE", {"params": {"n": "1"}}, {"n": 1, "tags": None, "text": None}),
    ],
    ids=["json", "form", "get", "delete"],
)
def test_4_bodies_and_queries_give_the_declared_fields(
    server: Server, method: str, more: dict[str, Any], read: dict[str, Any]
) -> None:
    """Section 4: JSON and forms; GET and DELETE take their fields from the query."""
    answer = httpx.request(method, f"{server.url}/webhook/reads-asked", **more)
    assert (answer.status_code, answer.json()) == (200, read), answer.text


def test_4_a_text_body_is_read_as_text(server: Server) -> None:
    """Section 4: `text/plain` gives `{text: …}`, here without the integer that the contract asks for."""
    plain = {"content-type": "text/plain; charset=utf-8"}
    refused = httpx.post(f"{server.url}/webhook/reads-asked", content="grüße".encode(), headers=plain)
    assert (refused.status_code, [fault["where"] for fault in refused.json()["faults"]]) == (422, ["n"])
    taken = httpx.post(f"{server.url}/webhook/reads_off-asked", content="grüße".encode(), headers=plain)
    assert (taken.status_code, taken.json()["text"]) == (200, "grüße")


def test_4_check_warn_runs_and_records_what_was_wrong(server: Server) -> None:
    """Section 4: an incident of level warning; `off` says nothing."""
    before = len(server.api("incidents?limit=500")["incidents"])
    assert server.hit("reads_warn-asked", {"n": "one"}).status_code == 200
    incidents = server.api("incidents?limit=500")["incidents"][before:]
    assert [(one["level"], one["kind"]) for one in incidents] == [("warning", "contract_broken")]
    assert server.hit("reads_off-asked", {"n": "one"}).status_code == 200
    assert len(server.api("incidents?limit=500")["incidents"]) == before + 1


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH"])
def test_4_1_other_methods_are_405_and_name_what_is_allowed(server: Server, method: str) -> None:
    """4.1: `Allow` lists the step's methods."""
    answer = httpx.request(method, f"{server.url}/webhook/reads-asked")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"POST", "GET", "DELETE"}


def test_4_a_request_that_is_not_signed_is_401_before_anything_else_and_its_secret_is_never_kept(
    server: Server,
) -> None:
    """Section 4: nothing is journaled; one of two live secrets is set; the key's header is dropped from the record."""
    before = len(server.transactions("&cycle=signed"))
    for headers in ({}, {"x-shop-key": "k-2"}, {"x-shop-key": ""}):
        refused = httpx.post(f"{server.url}/webhook/signed-asked", content=b"{", headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
        assert "k-1" not in refused.text
    assert len(server.transactions("&cycle=signed")) == before
    taken = server.hit("signed-asked", {}, **{"x-shop-key": "k-1", "x-kept": "1"})
    assert (taken.status_code, taken.json().get("x-shop-key"), taken.json()["x-kept"]) == (200, None, "1")
    assert b"k-1" not in b"".join(path.read_bytes() for path in (server.data / "journal").glob("*.seg"))


def test_15_health_says_alive_and_ready(server: Server) -> None:
    """Section 15: for whoever supervises the process."""
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready"}


def test_a_sender_who_never_finishes_a_body_is_cut_off(server: Server) -> None:
    """Given a body that is announced and never comes, then the time for it ends the request."""
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.settimeout(10)
        caller.sendall(b"POST /webhook/reads-asked HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert caller.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_sender_who_never_finishes_its_headers_is_refused(server: Server) -> None:
    """Given headers without end, then the bound of their size ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.settimeout(10)
        try:
            caller.sendall(b"POST /webhook/reads-asked HTTP/1.1\r\n" + b"x: y\r\n" * 100_000)
            said = caller.recv(4096)
        except ConnectionError:
            return
        assert said[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ", b"")
