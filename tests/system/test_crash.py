"""kill -9 under load: what was answered 2xx is run, held, parked or listed; no effect happens under a new key."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

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
REBUILT = 6  # Every so many kills the store is deleted too.


class Told(NamedTuple):
    """What clients were answered with 202, by the hit that the answer names: the transaction, or None when parked."""

    jobs: dict[int, str]  # By job.
    hits: dict[int, str | None]
    job_of: dict[int, int]


@pytest.mark.timeout(240)
def test_4_1_nothing_answered_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    """4.1, 6.5, 7: 20 kills at random instants; every hit that was answered runs once, every effect has one key."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    told = Told({}, {}, {})
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(CYCLE % partner.url)
        server = Server(tmp_path)
        for kill in range(1, KILLS + 1):
            server.start()
            _load_until_killed(server, kill, chance, told)
            if kill % REBUILT == 0:
                server.delete_store()
                server.start()
                _stops_with_the_digest_of_its_journal(server)
        server.start()
        counts = server.settled("jobs")
        incidents = server.api("incidents?limit=500")["incidents"]
        assert (counts["running"], counts["failed"]) == (0, 0), incidents
        ran = _passes(server)
        listed = {one["transaction"] for one in server.transactions()}
        parked = {one["hit"] for one in server.api("parked?limit=500")["parked"]}
        _stops_with_the_digest_of_its_journal(server)
    assert set(told.jobs.values()) <= listed
    for hit, transaction in told.hits.items():
        expected = transaction or told.jobs.get(told.job_of[hit])
        if expected is None:
            assert hit in parked, f"hit {hit} of a job that was never taken waits for it"
        else:
            assert ran.get(hit) == expected, f"hit {hit} was answered and did not run in {expected}"
    keys = {key for key in partner.effects if key}
    assert all(key.endswith(".work.1") for key in keys), "an effect ran under a new key"
    assert len(keys) == len(listed), "each transaction had its effect under one key"


def _passes(server: Server) -> dict[int, str]:
    """The transaction that each hit ran in, over all transactions; asserts that none ran twice."""
    ran: dict[int, str] = {}
    for listed in server.transactions():
        shown = server.api(f"transactions/{listed['transaction']}")
        for entry in shown["passes"]:
            assert entry["status"] == "done", shown
            assert entry["hit"] not in ran, f"hit {entry['hit']} ran in {ran[entry['hit']]} too: {shown}"
            ran[entry["hit"]] = shown["transaction"]
        assert [entry["pass"] for entry in shown["passes"]] == list(range(1, shown["pass"] + 1))
    return ran


def _stops_with_the_digest_of_its_journal(server: Server) -> None:
    """A clean stop leaves a store that equals the replay of the journal, however it came to be."""
    assert server.terminate() == 0
    compared = server.command("replay", "--compare")
    assert compared.returncode == 0, compared.stdout + compared.stderr


def _load_until_killed(server: Server, kill: int, chance: random.Random, told: Told) -> None:
    """Clients send jobs and callbacks until the server dies under them; only 202 answers count."""
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
                        told.jobs[job] = answer.json()["transaction"]
                        told.hits[answer.json()["hit"]] = answer.json()["transaction"]
                    back = http.post("/webhook/jobs-done", json={"job_id": job, "status": "ok"})
                    if back.status_code == 202:
                        told.job_of[back.json()["hit"]] = job
                        told.hits[back.json()["hit"]] = back.json().get("transaction")
                except httpx.TransportError:
                    return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    threads[0].join(chance.uniform(0.05, 0.5))
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


def test_sigterm_drains_and_exits_cleanly(tmp_path: Path) -> None:
    """Section 11: stop accepting, finish, flush, exit 0."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTE)
    server = Server(tmp_path)
    server.start()
    assert server.hit("quotes-asked", {"amount": 1}).status_code == 200
    assert server.terminate() == 0
    with server:
        assert server.settled("quotes")["completed"] == 1


def test_a_callback_from_inside_the_handler_is_not_lost(tmp_path: Path) -> None:
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


def test_a_thousand_callbacks_for_one_key_all_run_in_order(tmp_path: Path) -> None:
    """6.4: all passes, in order, none lost."""
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(CYCLE % partner.url)
        with Server(tmp_path) as server:
            server.hit("jobs-asked", {"job_id": 7})
            server.settled("jobs")
            senders = [threading.Thread(target=_callbacks(server, start)) for start in range(0, 1000, 125)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            server.settled("jobs")
            (one,) = server.transactions()
            assert one["pass"] == 1001
            shown = server.api(f"transactions/{one['transaction']}")
            numbers = [(entry["pass"], entry["hit"]) for entry in shown["passes"]]
            assert numbers == sorted(numbers)
            assert all(entry["status"] == "done" for entry in shown["passes"])


def _callbacks(server: Server, start: int) -> Callable[[], None]:
    def send() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as http:
            for number in range(start, start + 125):
                answer = http.post("/webhook/jobs-done", json={"job_id": 7, "status": f"S{number}"})
                assert answer.status_code == 202

    return send
