"""More of the front door over real HTTP: parked, refused, late and lost answers, other methods, slow senders."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.harness import Server
from tests.system.partner import Partner

WAITS = """
cycle: waits
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, identifier: waits-asked, fields: {n: integer}}
  work: {post: remote, path: /signal, body: {n: "{{ asked.n }}"}}
  answer: {respond: {status: 201, body: {n: "{{ asked.n }}", transaction: "{{ transaction.id }}"}}}
"""
PATIENT = """
cycle: patient
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: patient-asked, fields: {n: integer}, on_late: accept}
  work: {post: remote, path: /signal}
  answer: {respond: {status: 201, body: "{{ asked.n }}"}}
"""
KEPT = """
cycle: kept
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
settings: {while_stopped: collect}
steps:
  asked: {webhook: shop, identifier: kept-asked, fields: {n: {type: integer, required: true}}}
  work: {post: remote, path: /effects, body: {kept: "{{ asked.n }}"}}
"""
MATCHED = """
cycle: %s
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  placed: {webhook: shop, identifier: %s-placed, fields: {order: text, line: integer}}
  back: {webhook: shop, identifier: %s-back, fields: {order: text}, match: {order: placed.order}, %s}
  work: {post: remote, path: /effects, body: {order: "{{ placed.order }}", line: "{{ placed.line }}"}}
"""
ECHO = """
cycle: %s
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: %s-asked, %s}
  answer: {respond: {body: {got: "{{ %s }}"}}}
"""
ECHOES = {
    "form": ("fields: {n: integer, name: text, '[tags]': text}", "asked"),
    "text": ("fields: {text: {type: text, required: true}}", "asked.text"),
    "anything": ("methods: [POST, PUT]", "asked"),
    "warned": ("check: warn, fields: {n: {type: integer, required: true}}", "cycle"),
    "unchecked": ("check: 'off', fields: {n: {type: integer, required: true}}", "cycle"),
    "queried": ("methods: [GET, DELETE], fields: {n: {type: integer, required: true}}", "asked.n"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, partner: Partner) -> Iterator[Server]:
    """One server for the file; each test uses keys of its own."""
    project = tmp_path_factory.mktemp("answers")
    files = {"waits": WAITS % partner.url, "patient": PATIENT % partner.url, "kept": KEPT % partner.url}
    for name, rule in {"strict": "unmatched: reject", "only": "pick: only", "orders": "pick: latest"}.items():
        files[name] = MATCHED % (name, partner.url, name, name, rule)
    for name, (rule, shown) in ECHOES.items():
        files[name] = ECHO % (name, name, rule, shown)
    for name, text in files.items():
        (project / f"{name}.cycle.yaml").write_text(text)
    with Server(project) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, partner: Partner) -> Iterator[Server]:
    """A server that runs one transaction at a time, and has little patience with slow senders."""
    project = tmp_path_factory.mktemp("narrow")
    (project / "waits.cycle.yaml").write_text(WAITS % partner.url)
    (project / "text.cycle.yaml").write_text(ECHO % ("text", "text", *ECHOES["text"]))
    bounds = "".join(f"{name}_timeout = '300 milliseconds'\n" for name in ("body", "idle", "answer"))
    (project / "cyclewright.toml").write_text(f"running_max = 1\n{bounds}")
    with Server(project) as running:
        yield running


def send(server: Server, identifier: str, body: bytes, **headers: str) -> socket.socket:
    """Send a whole request, and leave the connection open without reading the answer."""
    caller = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST /webhook/{identifier} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    return caller


def first_pass(server: Server, cycle: str, **expected: Any) -> dict[str, Any]:
    """The first pass of a cycle's latest transaction, once it is as expected."""
    until = time.perf_counter() + 10
    shown: dict[str, Any] = {}
    while time.perf_counter() < until:
        latest = server.transactions(f"&cycle={cycle}")[0]
        shown = server.api(f"transactions/{latest['transaction']}")["passes"][0]
        if expected.items() <= shown.items():
            return shown
    raise AssertionError(f"expected {expected}, not {shown}")


def test_4_1_overloaded_503_says_when_to_come_again(narrow: Server, partner: Partner) -> None:
    """4.1: given a server that is full, when a request comes, then 503 with Retry-After, and nothing is recorded."""
    with partner.waiting() as asked, send(narrow, "waits-asked", b'{"n": 1}'):
        asked()
        refused = narrow.hit("waits-asked", {"n": 2}, **{"idempotency-key": "full"})
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert int(refused.headers["retry-after"]) >= 1
    assert narrow.settled("waits")["completed"] == 1
    again = narrow.hit("waits-asked", {"n": 2}, **{"idempotency-key": "full"})
    assert (again.status_code, again.json()["n"]) == (201, 2)
    assert "cyclewright-duplicate" not in again.headers


def test_a_sender_that_never_ends_its_body_is_cut_off(narrow: Server) -> None:
    """4.1: given a body that stops half-way, when its time is over, then 408, and the connection is closed."""
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as sender:
        sender.sendall(b"POST /webhook/waits-asked HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        said = b"".join(iter(lambda: sender.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 408 "), said
    assert b"application/problem+json" in said


@pytest.mark.parametrize("head", [b"", b"POST /webhook/waits-asked HTTP/1.1\r\nhost: x\r\nx-part: "])
def test_a_sender_that_never_ends_its_head_is_cut_off(narrow: Server, head: bytes) -> None:
    """Given a connection on which no request becomes whole, when its time is over, then it is closed."""
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as sender:
        sender.sendall(head)
        assert sender.recv(1) == b""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the machine bounds no unread answer")
def test_a_caller_who_does_not_read_his_answers_is_cut_off(narrow: Server) -> None:
    """Given a caller who asks and never reads, when the answer's time is over, then his connection is reset."""
    body = b"x" * 900_000
    head = b"POST /webhook/text-asked HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.settimeout(10)
        caller.connect(("127.0.0.1", narrow.port))
        with pytest.raises(ConnectionError):
            for _ in range(100):  # Buffers on the way take a few answers.
                caller.sendall(head % len(body) + body)


def test_an_idle_connection_is_closed_after_its_requests(narrow: Server) -> None:
    """Given a connection that was answered, when its sender says nothing more, then it is closed."""
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as sender:
        sender.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        said = b"".join(iter(lambda: sender.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 200 ")


def test_a_burst_of_senders_waits_for_a_busy_server(server: Server) -> None:
    """4.1: given a server that is busy for a moment, when hundreds connect at once, then each is answered."""
    count = min(500, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    with ExitStack() as connections:
        with server.frozen():
            place = ("127.0.0.1", server.port)
            senders = [connections.enter_context(socket.create_connection(place, timeout=5)) for _ in range(count)]
            for sender in senders:
                sender.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert {sender.recv(12) for sender in senders} == {b"HTTP/1.1 200"}


def test_a_server_opens_as_many_sockets_as_it_may(tmp_path: Path) -> None:
    """4.1: given a shell whose soft limit of open files is low, when a server starts, then it takes the hard one."""
    (tmp_path / "text.cycle.yaml").write_text(ECHO % ("text", "text", *ECHOES["text"]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        with Server(tmp_path) as server:
            assert server.process is not None
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_refusal_before_the_body_has_come_closes_the_connection(server: Server) -> None:
    """4.1: given a request to nowhere, when it is refused before its body has come, then nothing more is read."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sender:
        sender.sendall(b"PUT /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        said = b"".join(iter(lambda: sender.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 404 ")


def test_a_sender_of_headers_without_end_is_cut_off(server: Server) -> None:
    """Given a head that grows for ever, when it passes the bound, then the server reads no more of it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sender:
        sender.sendall(b"POST /webhook/waits-asked HTTP/1.1\r\nhost: x\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100_000):
                sender.sendall(b"x-more: " + b"y" * 1000 + b"\r\n")
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_4_1_a_stopped_cycle_that_collects_runs_its_hits_at_its_start(server: Server, partner: Partner) -> None:
    """4.1: given a stopped cycle, when requests come and it starts, then each was told `parked` and runs, in order."""
    server.api("cycles/kept/stop", method="POST")
    answers = [server.hit("kept-asked", {"n": n}) for n in (1, 2)]
    assert [(one.status_code, one.json()["status"]) for one in answers] == [(202, "parked")] * 2
    assert answers[0].json()["until"] > time.time() * 1000 + 23 * 3600 * 1000
    assert httpx.get(answers[0].json()["status_url"]).json()["status"] == "parked"
    assert [one["reason"] for one in server.parked()] == ["stopped", "stopped"]
    receipt = server.api("cycles/kept/start", method="POST")
    assert (receipt["status"], receipt["resumed"]) == ("running", 2)
    status = httpx.get(answers[1].json()["status_url"], headers={"prefer": "wait=10"}).json()
    assert status["status"] == "completed"
    assert server.settled("kept")["completed"] == 2
    assert sorted(body["kept"] for body in partner.bodies if body and "kept" in body) == [1, 2]


def test_4_1_an_unmatched_hit_is_refused_where_the_step_says_so(server: Server) -> None:
    """4.1: given `unmatched: reject`, when nothing matches, then 404, and nothing is kept."""
    refused = server.hit("strict-back", {"order": "none"})
    assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")
    assert server.api("cycles/strict")["counts"]["parked"] == 0


def test_6_6_pick_only_refuses_what_several_match(server: Server) -> None:
    """6.6: given two orders of one number and `pick: only`, when a callback comes, then 409 names both."""
    names = [server.hit("only-placed", {"order": "A7", "line": line}).json()["transaction"] for line in (1, 2)]
    refused = server.hit("only-back", {"order": "A7"})
    assert refused.status_code == 409
    assert all(name in refused.json()["detail"] for name in names)
    assert server.settled("only")["held"] == 2


def test_6_3_of_two_orders_with_one_number_the_later_goes_on(server: Server, partner: Partner) -> None:
    """6.3, 6.6: given two orders of one number, when callbacks come, then each runs the later, and says so."""
    earlier, later = (
        server.hit("orders-placed", {"order": "A7", "line": line}).json()["transaction"] for line in (1, 2)
    )
    for number in (2, 3):
        told = server.hit("orders-back", {"order": "A7"})
        assert told.status_code == 202
        assert (told.json()["status"], told.json()["transaction"]) == ("resumed", later)
        assert told.json()["ambiguous"] == [later, earlier]
        server.settled("orders")
        shown = server.api(f"transactions/{later}")
        assert (shown["status"], shown["pass"]) == ("completed", number)
        assert shown["passes"][-1]["ambiguous"] == [later, earlier]
    assert server.api(f"transactions/{earlier}")["status"] == "held"
    effects = [body["line"] for body in partner.bodies if body and body.get("order") == "A7"]
    assert effects == [2, 2]


def test_5_1_on_late_accept_answers_202(server: Server, partner: Partner) -> None:
    """5.1: given `on_late: accept`, when the deadline passes, then 202, and the status gives the answer later."""
    with partner.waiting() as asked:
        late = server.hit("patient-asked", {"n": 5}, prefer="wait=0")
        asked()
        assert (late.status_code, late.json()["status"]) == (202, "accepted")
        assert late.headers["location"] == late.json()["status_url"]
        first_pass(server, "patient", fate="deadline", reply=None)
    status = httpx.get(late.json()["status_url"], headers={"prefer": "wait=10"}).json()
    assert (status["status"], status["answer"]["status"], status["answer"]["body"]) == ("completed", 201, 5)


def test_5_1_an_answer_that_is_there_is_given_whatever_the_deadline(server: Server) -> None:
    """5.1: given a pass that answers at once, when its caller waits for no second, then he gets the answer."""
    answer = httpx.get(f"{server.url}/webhook/queried-asked?n=4", headers={"prefer": "wait=0"})
    assert (answer.status_code, answer.json()) == (200, {"got": 4})
    first_pass(server, "queried", fate="sent")


def test_5_4_who_hung_up_gets_the_stored_answer_when_he_comes_again(server: Server, partner: Partner) -> None:
    """5.4: given a caller who hung up, when he repeats the delivery, then it is the stored answer, byte for byte."""
    with partner.waiting() as asked:
        caller = send(server, "waits-asked", b'{"n":9}', idempotency_key="gone", content_type="application/json")
        asked()
        caller.close()
        first_pass(server, "waits", fate="gone", reply=None)
    first_pass(server, "waits", fate="gone", reply=201, status="done")
    before = server.transactions("&cycle=waits")
    headers = {"idempotency-key": "gone", "content-type": "application/json"}
    answers = [httpx.post(f"{server.url}/webhook/waits-asked", content=b'{"n":9}', headers=headers) for _ in range(2)]
    for answer in answers:
        assert (answer.status_code, answer.headers["cyclewright-duplicate"]) == (201, "true")
        assert answer.json() == {"n": 9, "transaction": before[0]["transaction"]}
    assert answers[0].content == answers[1].content
    assert server.transactions("&cycle=waits") == before


def test_5_4_a_repeat_that_gives_up_leaves_the_first_caller_waiting(server: Server, partner: Partner) -> None:
    """5.4: given two callers of one delivery, when the second gives up, then the first is answered: `sent`."""
    key = {"idempotency_key": "twice", "content_type": "application/json"}
    with partner.waiting() as asked:
        first = send(server, "waits-asked", b'{"n":10}', **key)
        asked()
        again = httpx.post(
            f"{server.url}/webhook/waits-asked",
            content=b'{"n":10}',
            headers={"idempotency-key": "twice", "content-type": "application/json", "prefer": "wait=0"},
        )
        assert (again.status_code, again.headers["cyclewright-duplicate"]) == (504, "true")
    with first:
        assert first.recv(4096).startswith(b"HTTP/1.1 201 ")
    first_pass(server, "waits", fate="sent")


def test_4_forms_and_text_are_bodies(server: Server) -> None:
    """Section 4: given a form or a text, when it comes, then its fields are read by their declared types."""
    form = httpx.post(f"{server.url}/webhook/form-asked", data={"n": "4", "name": "Ann", "tags": ["a", "b"]})
    assert (form.status_code, form.json()["got"]) == (200, {"n": 4, "name": "Ann", "tags": ["a", "b"]})
    headers = {"content-type": "text/plain; charset=utf-8"}
    text = httpx.post(f"{server.url}/webhook/text-asked", content="Grüße".encode(), headers=headers)
    assert (text.status_code, text.json()) == (200, {"got": "Grüße"})
    refused = httpx.post(f"{server.url}/webhook/text-asked", content=b"\xff", headers=headers)
    assert (refused.status_code, refused.json()["title"]) == (400, "Malformed body")


def test_4_without_declared_fields_anything_is_accepted(server: Server) -> None:
    """Section 4: given a step that declares nothing, when any JSON comes, by any of its methods, then it is data."""
    url = f"{server.url}/webhook/anything-asked"
    assert httpx.post(url, json={"a": {"b": [1, None]}}).json() == {"got": {"a": {"b": [1, None]}}}
    assert httpx.put(url, content=b"[1]").json() == {"got": {"body": [1]}}
    assert httpx.post(url).json() == {"got": {"body": None}}


@pytest.mark.parametrize(("cycle", "level"), [("warned", ["warning"]), ("unchecked", [])])
def test_4_a_broken_contract_need_not_refuse(server: Server, cycle: str, level: list[str]) -> None:
    """Section 4: given `check: warn` or `off`, when fields are missing, then it runs; `warn` records an incident."""
    answer = server.hit(f"{cycle}-asked", {"n": "many"})
    assert answer.status_code == 200, answer.text
    shown = server.api(f"transactions/{answer.headers['cyclewright-transaction']}")
    assert shown["status"] == "completed"
    assert [one["level"] for one in shown["incidents"]] == level
    assert all(one["message"].startswith("n: ") for one in shown["incidents"])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_4_get_and_delete_take_their_fields_from_the_query(server: Server, method: str) -> None:
    """Section 4: given `methods: [GET, DELETE]`, when one comes, then its query is read, whatever its body says."""
    url = f"{server.url}/webhook/queried-asked"
    answer = httpx.request(method, f"{url}?n=42", content=b'{"n": 1}')
    assert (answer.status_code, answer.json()) == (200, {"got": 42})
    refused = httpx.request(method, f"{url}?n=x&n=1")
    assert (refused.status_code, refused.json()["faults"][0]["where"]) == (422, "n")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE"])
def test_4_1_a_method_that_the_step_does_not_take_is_405(server: Server, method: str) -> None:
    """4.1: given a step that takes GET and DELETE, when another method comes, then 405 names the two; nothing runs."""
    before = server.transactions("&cycle=queried")
    refused = httpx.request(method, f"{server.url}/webhook/queried-asked?n=1")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, DELETE")
    assert httpx.request(method, f"{server.url}/webhook/nobody").status_code == 404
    assert server.transactions("&cycle=queried") == before


def test_15_health_and_readiness_need_no_token(server: Server) -> None:
    """Section 15: given a server that has recovered, when it is asked, then it is alive and ready."""
    for path, status in (("healthz", "alive"), ("readyz", "ready")):
        answer = httpx.get(f"{server.url}/{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": status})
