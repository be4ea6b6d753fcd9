"""The front door over real HTTP: every answer of section 4.1, synchronous waits of section 5, and bad input."""

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.system.harness import Server
from tests.system.partner import Partner

SYNC = """
cycle: sync
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction}
steps:
  asked:
    webhook: shop
    identifier: sync-asked
    fields: {kind: {type: text, required: true}, n: integer}
    answer_within: 5 seconds
  route:
    decide: asked.kind
    cases: {answer: answer, fail: broken, hold: back, slow: slow}
    default: end
  slow: {post: remote, path: /slow, next: answer}
  answer: {respond: {status: 201, headers: {x-kind: "{{ asked.kind }}"}, body: {n: "{{ asked.n }}"}}, next: end}
  broken: {post: remote, url: "http://127.0.0.1:9/none", next: end}
  back:
    webhook: shop
    identifier: sync-back
    fields: {n: {type: integer, required: true}}
    match: {n: asked.n}
"""
CHAIN = """
cycle: chain%d
connectors: {inner: {}}
steps:
  asked: {webhook: inner, identifier: chain-asked-%d, fields: {n: {type: integer, required: true}}}
  next_one: {post: inner, url: "cycle:chain%d/asked", body: {n: "{{ asked.n + 1 }}"}, fields: {n: integer}}
  answer: {respond: {body: {n: "{{ next_one.n }}"}}}
"""
LAST = """
cycle: chain3
connectors: {inner: {}}
steps:
  asked: {webhook: inner, identifier: chain-asked-3, fields: {n: {type: integer, required: true}}}
  answer: {respond: {body: {n: "{{ asked.n }}"}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the file; each test uses keys of its own."""
    project = tmp_path_factory.mktemp("door")
    with Partner() as partner:
        (project / "sync.cycle.yaml").write_text(SYNC % partner.url)
        for number in (1, 2):
            (project / f"chain{number}.cycle.yaml").write_text(CHAIN % (number, number, number + 1))
        (project / "chain3.cycle.yaml").write_text(LAST)
        with Server(project) as running:
            yield running


@pytest.mark.parametrize(
    ("kind", "status"), [("answer", 201), ("fail", 500), ("hold", 202), ("other", 204), ("slow", 201)]
)
def test_5_2_the_caller_is_told_at_the_instant_the_pass_ends(server: Server, kind: str, status: int) -> None:
    """5.2: responded, failed, held, completed."""
    answer = server.hit("sync-asked", {"kind": kind, "n": 100})
    assert answer.status_code == status, answer.text
    assert answer.headers["cyclewright-transaction"].startswith("sync-")
    if kind == "answer":
        assert (answer.headers["x-kind"], answer.json()) == ("answer", {"n": 100})
    if kind == "fail":
        assert answer.json()["step"] == "broken"


def test_5_1_a_caller_may_ask_for_202_at_once_and_follow_the_status(server: Server) -> None:
    """5.1: `Prefer: respond-async`; the answer is at the status URL."""
    answer = server.hit("sync-asked", {"kind": "answer", "n": 7}, prefer="respond-async")
    assert answer.status_code == 202
    status = httpx.get(answer.json()["status_url"], headers={"prefer": "wait=5"}).json()
    assert (status["status"], status["answer"]["status"]) == ("completed", 201)
    forged = answer.json()["status_url"][:-1] + "x"
    assert httpx.get(forged).status_code == 404


def test_5_1_past_the_deadline_504_and_the_transaction_goes_on(server: Server) -> None:
    """5.1: the wait is bounded by `Prefer: wait=0`; the run is not cancelled by it."""
    answer = server.hit("sync-asked", {"kind": "slow", "n": 8}, prefer="wait=0")
    assert answer.status_code == 504
    status = httpx.get(answer.json()["status_url"], headers={"prefer": "wait=10"}).json()
    assert (status["status"], status["answer"]["status"]) == ("completed", 201)


def test_8_a_three_deep_synchronous_chain_answers(server: Server) -> None:
    """Section 8: waiting on a link holds no slot."""
    answer = server.hit("chain-asked-1", {"n": 1})
    assert (answer.status_code, answer.json()) == (200, {"n": 3})
    (first,) = server.transactions("&cycle=chain1")
    shown = server.api(f"transactions/{first['transaction']}")
    (child,) = shown["children"]
    assert server.api(f"transactions/{child}")["parent"] == first["transaction"]


def test_4_1_refusals_are_problems_and_record_nothing(server: Server) -> None:
    """4.1: each case of the table, as RFC 9457."""
    url = f"{server.url}/webhook/sync-asked"
    cases = [
        (httpx.post(f"{server.url}/webhook/nobody", json={}), 404),
        (httpx.put(url, json={"kind": "x"}), 405),
        (httpx.post(url, content=b"x", headers={"content-type": "image/png"}), 415),
        (httpx.post(url, content=b"x" * (1 << 20) + b"y", headers={"content-type": "application/json"}), 413),
        (httpx.post(url, content=b"{", headers={"content-type": "application/json"}), 400),
        (httpx.post(url, content=b"[" * 100_000, headers={"content-type": "application/json"}), 400),
        (httpx.post(url, json={"n": "x"}), 422),
        (httpx.get(f"{server.url}/api/cycles"), 401),
        (httpx.get(f"{server.url}/nothing"), 404),
    ]
    for answer, status in cases:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    assert cases[1][0].headers["allow"] == "POST"
    assert len(cases[6][0].json()["faults"]) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /webhook/sync-asked HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        b"POST /webhook/sync-asked HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
        b"\x00\xff\x16\x03\x01\r\n\r\n",
    ],
)
def test_broken_requests_crash_nothing(server: Server, raw: bytes) -> None:
    """Truncated, oversized and nonsensical requests; the server is as ready as before."""
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(raw)
        caller.shutdown(socket.SHUT_WR)
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_15_orders_stop_and_start_a_cycle(server: Server) -> None:
    """Section 11: a stopped cycle answers 409; it starts again."""
    assert server.api("cycles/chain3/stop", method="POST")["status"] == "stopped"
    assert server.hit("chain-asked-3", {"n": 1}).status_code == 409
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(server.hit("chain-asked-2", {"n": 1})))
    waiting.start()
    waiting.join()
    assert answers[0].status_code == 200
    assert server.api("cycles/chain3/start", method="POST")["status"] == "running"
    assert server.hit("chain-asked-3", {"n": 1}).status_code == 200
