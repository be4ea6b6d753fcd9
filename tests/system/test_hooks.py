"""Scripts around webhooks, and requests out of order, over real HTTP (sections 9 and 6.8)."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.system.harness import Server

CYCLE = """
cycle: hooked
connectors: {shop: {}}
steps:
  placed:
    webhook: shop
    identifier: hooked-placed
    verify: {scheme: github, secret: env.HOOK_SECRET}
    fields: {n: {type: integer, required: true}}
    before_webhook: "around:before"
    after_webhook: "around:after"
  answer: {respond: {body: {n: "{{ placed.n }}"}}}
"""
ORDERED = """
cycle: ordered
connectors: {shop: {}}
steps:
  placed: {webhook: shop, identifier: ordered-placed, fields: {id: text}}
  changed:
    webhook: shop
    identifier: ordered-changed
    fields: {id: text, at: datetime}
    match: {id: placed.id}
    newer_than: at
  answer: {respond: {body: "{{ changed.at }}"}}
"""
MODULE = '''
"""A project's functions around its webhook."""

async def before(request):
    body = request["body"]
    if body.get("type") == "url_verification":
        return {"answer": {"body": {"challenge": body["challenge"]}}}
    if "zen" in body:
        return {"filter": "a ping"}
    if body.get("shop") == "closed":
        return {"reject": {"message": "the shop is closed", "status": 403}}
    if "number" in body:
        return {"body": {"n": body["number"]}}

def after(data):
    if data["placed"]["n"] == 13:
        return {"reject": "not that number"}
    return {"data": {"n": data["placed"]["n"] * 2}}
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the file."""
    project = tmp_path_factory.mktemp("hooks")
    (project / "hooked.cycle.yaml").write_text(CYCLE)
    (project / "ordered.cycle.yaml").write_text(ORDERED)
    (project / "around.py").write_text(MODULE)
    with Server(project, environment={"HOOK_SECRET": "s"}) as running:
        yield running


def signed(server: Server, body: bytes, **headers: str) -> httpx.Response:
    """A request with the signature that GitHub would give it."""
    signature = f"sha256={hmac.new(b's', body, hashlib.sha256).hexdigest()}"
    headers = {"x-hub-signature-256": signature, "content-type": "application/json", **headers}
    return httpx.post(f"{server.url}/webhook/hooked-placed", content=body, headers=headers, timeout=30)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"type": "url_verification", "challenge": "c-1"}', 200, {"challenge": "c-1"}),
        (b'{"zen": "Keep it logically awesome."}', 200, {"status": "filtered", "detail": "a ping"}),
        (b'{"shop": "closed"}', 403, {"title": "Rejected", "detail": "the shop is closed"}),
        (b'{"number": 21}', 200, {"n": 42}),
        (b'{"n": 4}', 200, {"n": 8}),
        (b'{"n": 13}', 422, {"detail": "not that number"}),
        (b'{"n": "x"}', 422, {"title": "The request breaks the step's contract"}),
        (b"[1]", 500, {"step": "placed"}),
    ],
)
def test_9_scripts_around_a_webhook_over_http(
    server: Server, body: bytes, status: int, said: dict[str, object]
) -> None:
    """Section 9: handshake, filter, refusal, rewriting before and after, and a script that fails."""
    answer = signed(server, body)
    assert answer.status_code == status, answer.text
    assert answer.json().items() >= said.items()


def test_9_a_request_that_is_not_signed_reaches_no_script(server: Server) -> None:
    """Section 4: verification over the raw bytes comes before anything else."""
    body = b'{"type": "url_verification", "challenge": "c-1"}'
    answer = httpx.post(f"{server.url}/webhook/hooked-placed", content=body)
    assert (answer.status_code, "c-1" in answer.text) == (401, False)


def test_6_8_an_outdated_request_is_answered_at_once_and_listed(server: Server) -> None:
    """6.8: 202 `ignored` to a synchronous caller too, the same when it comes again, and its status says so."""
    server.hit("ordered-placed", {"id": "A"})
    assert server.hit("ordered-changed", {"id": "A", "at": "2026-01-01T12:00:00Z"}).status_code == 200
    late = [
        server.hit("ordered-changed", {"id": "A", "at": "2026-01-01T11:00:00Z"}, **{"webhook-id": "w"}) for _ in "12"
    ]
    assert [(one.status_code, one.json()) for one in late] == [(202, late[0].json())] * 2
    said = late[0].json()
    assert (said["status"], "cyclewright-duplicate" in late[1].headers) == ("ignored", True)
    status = httpx.get(said["status_url"]).json()
    assert (status["status"], status["transaction"], status["answer"]) == ("ignored", said["transaction"], None)
    shown = server.api(f"transactions/{said['transaction']}")
    assert shown["newest"] == {"changed.at": "2026-01-01T12:00:00+00:00"}
    assert [one["status"] for one in shown["passes"]] == ["done", "done", "ignored"]


def test_9_replay_asks_no_script_again(server: Server) -> None:
    """Section 9: the journal alone gives what the scripts made of a request, after a kill too."""
    assert signed(server, b'{"number": 4}', **{"idempotency-key": "k-9"}).json() == {"n": 8}
    (Path(server.project) / "around.py").write_text("def before(request): return 5\ndef after(data): return 5\n")
    server.kill()
    server.start()
    again = signed(server, b'{"number": 4}', **{"idempotency-key": "k-9"})
    assert (again.status_code, again.json(), again.headers["cyclewright-duplicate"]) == (200, {"n": 8}, "true")
    server.settled("hooked")
    server.terminate()
    replayed, stored = server.digests()
    assert replayed == stored
    server.start()
