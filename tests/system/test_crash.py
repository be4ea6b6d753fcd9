"""kill -9 under load: what was answered 2xx is run, held, parked or listed; no effect happens under a new key."""

import random
import re
import socket
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.cli.main import run
from tests.system.harness import Server
from tests.system.partner import Partner

CYCLE = """
cycle: jobs
connectors:
  shop: {}
  remote: {base_url: "%s", allow_private: true}
settings: {on_error: stop_transaction}
steps:
  asked:
    webhook: shop
    identifier: jobs-asked
    fields: {job_id: {type: integer, required: true}}
  work:
    post: remote
    path: /effects
    body: {job_id: "{{ asked.job_id }}"}
  done:
    webhook: shop
    identifier: jobs-done
    fields: {job_id: {type: integer, required: true}, status: {type: text, required: true}}
    match: {job_id: asked.job_id}
"""

QUOTE = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked:
    webhook: shop
    identifier: quotes-asked
    fields: {amount: {type: integer, required: true}}
  answer:
    respond: {body: {price: "{{ asked.amount * 2 }}", pass: "{{ transaction.id }}"}}
"""
KILLS = 20
PARKED = "parked"
CALLBACKS = 1000


@pytest.mark.timeout(240)
def test_4_1_nothing_answered_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    """4.1: 20 kills at random instants, the store deleted between some; each answered request has its one place.

    A job answered 202 is a transaction with one effect; a callback answered 202 is one pass, or parked, or expired.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(CYCLE % partner.url)
        server = Server(tmp_path)
        accepted: dict[int, str] = {}
        callbacks: dict[int, int] = {}
        for kill in range(KILLS):
            server.start()
            _load_until_killed(server, kill, chance, accepted, callbacks)
            if kill % 6 == 5:  # So the last store is not new: it has lived through two kills.
                server.forget_store()
        with server:
            counts = server.settled("jobs")
            incidents = server.api("incidents?limit=500")["incidents"]
            listed = {one["transaction"] for one in server.transactions()}
            places = _places(server, listed, incidents)
            assert server.terminate() == 0
            _assert_rebuilt_alike(server)
        assert counts["failed"] == 0, incidents
        lost = set(accepted.values()) - listed
        assert not lost, f"jobs answered and lost: {lost}"
        twice = {hit for hit, found in places.items() if len(found) > 1}
        assert not twice, f"requests that have two places: {twice}"
        for hit, job in callbacks.items():
            assert places[hit] == [accepted.get(job, PARKED)], f"callback {hit} was answered, and is not with its job"
        keys = {key for key in partner.effects if key}
        assert all(key.endswith(".work.1") for key in keys), "an effect ran under a new key"
        assert len(keys) == len(listed), "each transaction had its effect under one key"


def _places(server: Server, transactions: set[str], incidents: list[dict[str, Any]]) -> defaultdict[int, list[str]]:
    """The places of each hit: the transactions it ran in, the parking place, incidents that say it expired."""
    places: defaultdict[int, list[str]] = defaultdict(list)
    for one in server.parked():
        places[one["hit"]].append(PARKED)
    for one in incidents:
        if one["kind"] == "hit_expired":
            places[int(one["message"].split()[1])].append("expired")
    for name in transactions:
        passes = server.api(f"transactions/{name}")["passes"]
        assert {one["status"] for one in passes} == {"done"}
        for one in passes:
            places[one["hit"]].append(name)
    return places


def _assert_rebuilt_alike(server: Server) -> None:
    """Whatever the kills did to the store: it is what the journal says, and so is one built from nothing.

    Section 14: and the same cycles, run again over all of it, change nothing.
    """
    replayed, live = server.digests()
    assert live == replayed
    server.forget_store()
    server.start()
    assert server.terminate() == 0
    replayed, rebuilt = server.digests()
    assert rebuilt == replayed
    assert run(["replay", str(server.project), "--what-if", str(server.project)]) == 0


def _load_until_killed(
    server: Server, kill: int, chance: random.Random, accepted: dict[int, str], callbacks: dict[int, int]
) -> None:
    """Clients send jobs and callbacks until the server dies under them.

    Only 202 answers count: `accepted` has the transaction of a job, `callbacks` the job of a hit.
    """
    stop = threading.Event()

    def client(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=5) as http:
            for turn in range(10_000):
                if stop.is_set():
                    return
                job = kill * 1_000_000 + number * 100_000 + turn
                try:
                    answer = http.post("/webhook/jobs-asked", json={"job_id": job})
                    if answer.status_code == 202:
                        accepted[job] = answer.json()["transaction"]
                    back = http.post("/webhook/jobs-done", json={"job_id": job, "status": "ok"})
                    if back.status_code == 202:
                        assert back.json()["status"] in ("resumed", "parked")
                        callbacks[back.json()["hit"]] = job
                except httpx.TransportError:
                    return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    threads[0].join(chance.uniform(0.05, 0.7))
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()


def test_a_synchronous_answer_survives_the_process(tmp_path: Path) -> None:
    """5.4: the same delivery key after a crash gets the stored answer, byte for byte."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTE)
    server = Server(tmp_path)
    server.start()
    first = server.hit("quotes-asked", {"amount": 21}, **{"idempotency-key": "q1"})
    server.kill()
    with server:
        again = server.hit("quotes-asked", {"amount": 21}, **{"idempotency-key": "q1"})
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["cyclewright-duplicate"] == "true"
        other = server.hit("quotes-asked", {"amount": 22}, **{"idempotency-key": "q1"})
        assert other.status_code == 409


def test_11_sigterm_drains_and_exits_cleanly(tmp_path: Path) -> None:
    """Section 11: stop accepting, finish, flush, exit 0."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTE)
    server = Server(tmp_path)
    server.start()
    assert server.hit("quotes-asked", {"amount": 1}).status_code == 200
    assert server.terminate() == 0
    with server:
        assert server.settled("quotes")["completed"] == 1


def test_6_5_a_callback_from_inside_the_handler_is_not_lost(tmp_path: Path) -> None:
    """6.5: it arrives before the call that caused it has returned, and is delivered when the hold is reached."""
    with Partner() as partner:
        text = (CYCLE % partner.url).replace("/effects", "/jobs")
        (tmp_path / "jobs.cycle.yaml").write_text(text)
        with Server(tmp_path) as server:
            partner.callback = f"{server.url}/webhook/jobs-done"
            assert server.hit("jobs-asked", {"job_id": 7}).status_code == 202
            counts = server.settled("jobs")
            assert counts == {"running": 0, "held": 0, "completed": 1, "failed": 0, "stopped": 0, "parked": 0}
            (one,) = server.transactions()
            assert one["pass"] == 2


def test_6_4_a_thousand_callbacks_for_one_key_all_run_in_order(tmp_path: Path) -> None:
    """6.4: given a held transaction, when 1,000 callbacks come at once, then all are passes, in order, none lost."""
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(CYCLE % partner.url)
        with Server(tmp_path) as server:
            server.hit("jobs-asked", {"job_id": 7})
            server.settled("jobs")
            assert _callbacks_at_once(server) == Counter({b"HTTP/1.1 202": CALLBACKS})
            server.settled("jobs")
            (one,) = server.transactions()
            assert one["pass"] == CALLBACKS + 1
            shown = server.api(f"transactions/{one['transaction']}")
            numbers = [(entry["pass"], entry["hit"]) for entry in shown["passes"]]
            assert numbers == sorted(numbers)
            assert all(entry["status"] == "done" for entry in shown["passes"])


def _callbacks_at_once(server: Server) -> Counter[bytes]:
    """Two callbacks on each of 500 connections, all sent before one is answered; how each was answered."""
    with ExitStack() as connections:
        with server.frozen():
            place = ("127.0.0.1", server.port)
            senders = [
                connections.enter_context(socket.create_connection(place, timeout=30)) for _ in range(CALLBACKS // 2)
            ]
            for sender in senders:
                sender.sendall(b"".join(_callback(header) for header in ("", "connection: close\r\n")))
        said = [b"".join(iter(partial(sender.recv, 65_536), b"")) for sender in senders]
    return Counter(re.findall(rb"HTTP/1.1 \d+", b"".join(said)))


def _callback(header: str) -> bytes:
    body = b'{"job_id": 7, "status": "Packed"}'
    head = f"POST /webhook/jobs-done HTTP/1.1\r\nhost: x\r\n{header}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body
