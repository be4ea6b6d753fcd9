"""One project that uses every feature of the language: checked, run on a real server, killed, and replayed alike.

A new step, key, word or condition makes the first test fail until tests/projects/everything uses it: write it there,
and say in `sent_once`, or in a test of its own, what comes of it.
"""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from runtime.project import read_project
from tests.features import all_features, used_features
from tests.system.echo import Echo
from tests.system.harness import ROOT, Server

PROJECT = ROOT / "tests" / "projects" / "everything"
STANDARD = base64.b64encode(b"a key of thirty-two bytes, really").decode()
SECRETS = {
    "EVERYTHING_TOKEN": "token-1",
    "EVERYTHING_NEW": "new-1",
    "EVERYTHING_OLD": "old-1",
    "DOORS_STANDARD": f"whsec_{STANDARD}",
    "DOORS_KEY": "key-1",
    "DOORS_USER": "ann:word-1",
}
NOT_USED: set[str] = set()  # Keys that the project can not use yet, each with its reason.
LINES = [{"sku": "tea", "count": 2}, {"sku": "pot", "address": {"city": "Ghent"}}, {"sku": "cup", "count": 4}]
CALLS = ["GET", "PUT", "PATCH", "DELETE", "POST"]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """The remote system of the project."""
    with Echo() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, echo: Echo) -> Iterator[Server]:
    """A server on a copy of the project; the last tests of the file kill and stop it."""
    folder = tmp_path_factory.mktemp("projects") / "everything"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    connectors = folder / "connectors.yaml"
    connectors.write_text(connectors.read_text().replace("127.0.0.1:9000", echo.address))
    alerts = {"EVERYTHING_ALERTS": f"http://{echo.address}/alerts"}
    with Server(folder, environment={**SECRETS, **alerts}) as running:
        yield running


def place(server: Server, order: int, *, signed_by: str = "EVERYTHING_NEW") -> httpx.Response:
    """An order, signed with one of the two live secrets."""
    said = {
        "order": order, "ref": {"code": "A-7"}, "customer": {"email": "ann@example.com"}, "total": "9.90",
        "weight": 1.5, "express": True, "due": "2026-01-01T12:00:00+01:00", "options": {"gift": False},
        "tags": ["new", 7], "extra": None, "lines": LINES,
    }  # fmt: skip
    body = json.dumps(said).encode()
    signed = base64.b64encode(hmac.new(SECRETS[signed_by].encode(), body, hashlib.sha512).digest()).decode()
    headers = {"x-signature": signed, "x-delivery": f"order-{order}", "content-type": "application/json"}
    return httpx.put(f"{server.url}/webhook/everything-placed", content=body, headers=headers, timeout=30)


def confirm(server: Server, order: int) -> httpx.Response:
    """The callback of an order."""
    body = {"order": order, "ref": {"code": "A-7"}, "event": f"confirmed-{order}"}
    return server.hit("everything-confirmed", body)


def command(*arguments: str) -> str:
    """What the command line says."""
    done = subprocess.run(
        [sys.executable, "-m", "runtime.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_2_given_the_language_then_the_project_uses_all_of_it() -> None:
    """Every kind of step, every key, every word of a key and every condition; the command finds no fault."""
    definitions, faults = read_project(PROJECT)
    assert not faults, [str(fault) for fault in faults]
    missing = all_features() - used_features(definitions)
    assert missing == NOT_USED, f"use in tests/projects/everything: {sorted(missing - NOT_USED)}"
    assert "4 cycle(s), no faults" in command("check", str(PROJECT))


def test_given_a_lesser_project_then_the_features_it_leaves_out_are_seen() -> None:
    """A list that is never longer than what is used would hold nothing."""
    definitions, _ = read_project(ROOT / "examples" / "orders")
    missing = all_features() - used_features(definitions)
    assert missing >= {"step split", "WebhookStep.verify", "latest/only only", "condition matches", "Dedupe.query"}
    assert not {"step respond", "condition equals", "WebhookStep.hold_for"} & missing


def test_given_an_order_when_it_goes_through_everything_then_each_feature_did_its_part(
    server: Server, echo: Echo
) -> None:
    """The early callback is parked; the caller is answered; nobody nudges; three lines are split, sent and gathered."""
    early = confirm(server, 7)
    assert (early.status_code, early.json()["status"]) == (202, "parked")
    answer = place(server, 7)
    assert (answer.status_code, answer.headers["x-code"]) == (207, "A-7"), answer.text
    entry = server.transactions("&cycle=ledger")[0]["transaction"]
    assert answer.json() == {"entry": entry, "pieces": 7, "method": "GET"}
    server.settled("everything", completed=5)
    sent_once(echo)
    said = httpx.get(early.json()["status_url"]).json()["answer"]
    assert said["body"] == '<?xml version="1.0" encoding="UTF-8"?>\n<confirmed><event>confirmed-7</event></confirmed>'
    again = place(server, 7)
    assert (again.status_code, again.content, again.headers["cyclewright-duplicate"]) == (207, answer.content, "true")
    shown = server.api(f"transactions/{answer.headers['cyclewright-transaction']}")
    assert (shown["status"], shown["pass"], len(shown["children"])) == ("completed", 3, 1 + len(LINES))
    assert [one["kind"] for one in shown["incidents"]] == ["remote_error", "remote_error", "rate_limited"]
    assert "ann@example.com" not in json.dumps(shown)
    while server.api("cycles/everything")["alerts"] != {"level": "warning", "waiting": 0, "sending": 0}:
        server.pause()
    told = [json.loads(body) for body in echo.bodies("/alerts")]
    assert [(one["step"], one["kind"], one["level"]) for one in told] == [
        ("ignored", "remote_error", "error"),
        ("tried", "remote_error", "warning"),
    ]
    assert echo.tokens == {f"Bearer {SECRETS['EVERYTHING_TOKEN']}"}


def sent_once(echo: Echo) -> None:
    """What the remote system got of one order, as its kinds of body say."""
    assert [method for method, path, _, _ in echo.came if path.startswith("/orders")] == CALLS[:4]
    assert echo.came[0][1] == "/orders/7?tag=new&tag=7&text=a%20b%26c"
    assert echo.came[1][2:] == ("application/x-www-form-urlencoded", "code=A-7&tags=new&tags=7")
    kind, xml = echo.came[2][2:]
    assert (kind, xml.partition("\n")[2][:44]) == (
        "application/xml; charset=utf-8",
        '<order id="7"><line><sku>tea</sku><count>2</',
    )
    assert echo.bodies("/words") == ["Hello, order 7"]
    assert [len(echo.bodies(path)) for path in ("/gone", "/second", "/limited", "/wrong")] == [1, 2, 2, 0]
    lines = [json.loads(body) for body in echo.bodies("/lines")]
    assert sorted(lines, key=lambda line: line["sku"]) == [
        {"sku": sku, "stamp": f"stamped {sku}"} for sku in ("cup", "pot", "tea")
    ]
    assert echo.bodies("/closed") == ['{"lines":3}']


def test_given_requests_that_the_project_refuses_then_nothing_runs(server: Server) -> None:
    """Not signed, 401; nothing to nudge, 404; a contract that is broken, 422."""
    before = server.transactions("&cycle=everything")
    assert server.hit("everything-placed", {"order": 1}).status_code == 401
    assert httpx.get(f"{server.url}/webhook/everything-nudged?code=none").status_code == 404
    assert server.hit("everything-confirmed", {"order": "many"}).status_code == 422
    assert server.transactions("&cycle=everything") == before


def test_given_a_stopped_cycle_when_an_order_comes_then_it_is_kept_and_runs_at_the_start(
    server: Server, echo: Echo
) -> None:
    """`while_stopped: collect`; the caller is told where to look. The old secret is a live one too."""
    server.api("cycles/everything/stop", method="POST")
    kept = place(server, 6, signed_by="EVERYTHING_OLD")
    assert (kept.status_code, kept.json()["status"]) == (202, "parked")
    assert server.api("cycles/everything/start", method="POST")["resumed"] == 1
    assert confirm(server, 6).status_code == 202
    server.settled("everything", completed=10)
    assert httpx.get(kept.json()["status_url"]).json()["answer"]["status"] == 206
    assert len(echo.bodies("/closed")) == 2


def signed(scheme: str, body: bytes) -> dict[str, str]:
    """The headers by which a sender of this scheme shows who he is."""
    key, now = SECRETS["DOORS_KEY"].encode(), int(time.time())

    def digest(text: bytes, algorithm: str = "sha256") -> str:
        return hmac.new(key, text, algorithm).hexdigest()

    user = base64.b64encode(SECRETS["DOORS_USER"].encode()).decode()
    return {
        "github": {"x-hub-signature-256": f"sha256={digest(body)}"},
        "stripe": {"stripe-signature": f"t={now},v1={digest(f'{now}.'.encode() + body)}"},
        "slack": {
            "x-slack-request-timestamp": str(now),
            "x-slack-signature": f"v0={digest(f'v0:{now}:'.encode() + body)}",
        },
        "hmac": {"x-hmac": digest(body, "sha1")},
        "bearer": {"authorization": f"Bearer {key.decode()}"},
        "basic": {"authorization": f"Basic {user}"},
        "api-key": {"x-api-key": key.decode()},
    }[scheme]


def test_given_a_webhook_for_each_scheme_when_it_is_signed_so_then_it_opens(server: Server) -> None:
    """Section 4: one transaction through all eight; without its signature each is 401."""
    body = b'{"n": 1}'
    at = time.time()
    webhook = Webhook(SECRETS["DOORS_STANDARD"])
    signature = webhook.sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at)), "webhook-signature": signature}
    opened = httpx.post(f"{server.url}/webhook/doors-standard", content=body, headers=headers)
    assert opened.status_code == 202, opened.text
    for scheme in ("github", "stripe", "slack", "hmac", "bearer", "basic", "api-key"):
        url = f"{server.url}/webhook/doors-{scheme}"
        assert httpx.post(url, content=body).status_code == 401
        passed = httpx.post(url, content=body, headers=signed(scheme, body))
        assert (passed.status_code, passed.json()["status"]) == (202, "resumed"), scheme
    assert server.settled("doors")["completed"] == 1


def test_given_a_batch_when_its_webhook_is_scripted_then_each_heavy_parcel_is_followed_by_itself(
    server: Server,
) -> None:
    """Scripts around a webhook, `settings.split`, `capture` and `newer_than`."""
    said = server.hit("batches-arrived", {"challenge": "c-1"})
    assert (said.status_code, said.json()) == (200, {"challenge": "c-1"})
    assert server.api("cycles/batches/capture/arrived")["status"] == "waiting"
    batch = [{"id": 1, "weight": "0.5"}, {"id": 2, "weight": "1.50"}, {"id": 3, "weight": "2"}]
    assert server.hit("batches-arrived", {"batch": batch}).status_code == 202
    assert server.api("cycles/batches/capture/arrived")["fields"]["[parcels].weight"] == "text"
    server.settled("batches", held=2)
    moves = [("12:00", "Ghent", 200), ("11:00", "Lille", 202), ("12:00", "Bruges", 200)]
    answers = [
        (server.hit("batches-moved", {"id": 2, "at": f"2026-01-01T{at}:00Z", "place": place}), status)
        for at, place, status in moves
    ]
    assert [answer.status_code for answer, _ in answers] == [status for _, status in answers]
    assert [answers[0][0].json(), answers[2][0].json()] == [
        {"place": "Ghent", "weight": "1.5"},
        {"place": "Bruges", "weight": "1.5"},
    ]
    assert answers[1][0].json()["status"] == "ignored"


def test_given_a_kill_while_an_order_runs_then_its_caller_gets_his_answer_and_the_replay_is_the_same(
    server: Server, echo: Echo
) -> None:
    """Section 14: after kill -9, and with a store that was built from nothing, `replay --compare` finds one digest.

    And the same cycles, run again over all of it by a what-if, change nothing.
    """
    answer = place(server, 5)
    server.kill()
    server.start()
    again = place(server, 5)
    assert (again.status_code, again.content) == (205, answer.content)
    confirm(server, 5)
    server.settled("everything", completed=15)
    assert not echo.bodies("/wrong")
    assert server.terminate() == 0
    journal = b"".join(path.read_bytes() for path in (server.data / "journal").glob("*.seg"))
    assert b"confirmed-7" in journal
    assert [name for name, secret in SECRETS.items() if secret.encode() in journal] == []
    before = compared(server)
    server.forget_store()
    server.start()
    assert server.terminate() == 0
    assert compared(server) == before
    *differences, outcome = command(
        "replay", str(server.project), "--what-if", str(server.project), "--json"
    ).splitlines()
    assert (differences, json.loads(outcome)["transactions"]) == ([], 0)


def compared(server: Server) -> Any:
    """The digest of the replay; the command ends with 0 only when the store's is the same."""
    return json.loads(command("replay", str(server.project), "--compare", "--json"))["digest"]
