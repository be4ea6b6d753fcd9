"""Synchronous webhooks (section 5) against everything that can become of a pass, over real HTTP.

The rows that other files hold: answered, failed, held, completed, `Prefer` and the deadline (test_door); `on_late`,
who hung up, who repeats while the first still waits (test_answers); a process that dies (test_killed_callers).
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.system.harness import Server
from tests.system.partner import Partner
from tests.system.synchronous import project, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, partner: Partner) -> Iterator[Server]:
    """One server for the rows without a kill; each test uses values of its own."""
    with Server(project(tmp_path_factory.mktemp("synchronous"), partner)) as running:
        yield running


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Callers who wait at the same time."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def shown(server: Server, answer: httpx.Response) -> Any:
    """The transaction that an answer names."""
    return server.api(f"transactions/{answer.headers['cyclewright-transaction']}")


def test_5_5_a_retry_within_the_deadline_is_waited_for(server: Server) -> None:
    """5.5: given a call that fails once, when the next attempt comes in time, then its caller gets the answer."""
    answer = server.hit("retried-asked", {"n": 1})
    assert (answer.status_code, answer.json()) == (201, {"n": 1})
    assert [one["kind"] for one in shown(server, answer)["incidents"]] == ["remote_error"]


def test_5_5_a_retry_beyond_the_deadline_is_told_at_once_and_goes_on(server: Server) -> None:
    """5.5: given a next attempt after the deadline, then 502 now names the step; the attempt is made all the same."""
    began = time.perf_counter()
    answer = server.hit("retried-asked", {"n": 2}, **{"idempotency-key": "late"})
    assert time.perf_counter() - began < 2
    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
    assert (answer.json()["step"], answer.json()["transaction"]) == ("late", answer.headers["cyclewright-transaction"])
    ended = until(server, lambda: (one := shown(server, answer))["status"] == "completed" and one)
    assert [one["kind"] for one in ended["incidents"]] == ["remote_error", "already_answered"]
    assert ended["passes"][0]["reply"] == 502
    again = server.hit("retried-asked", {"n": 2}, **{"idempotency-key": "late"})
    assert (again.status_code, again.content) == (502, answer.content)


def test_5_3_of_split_parts_the_first_to_respond_answers(
    server: Server, partner: Partner, callers: ThreadPoolExecutor
) -> None:
    """5.3: given parts, when the second responds first, then it wins; the other is recorded as already answered."""
    items = [{"n": 1, "kind": "slow"}, {"n": 2, "kind": "fast"}]
    with partner.waiting() as asked:
        answer = callers.submit(server.hit, "parts-asked", {"items": items}).result(10)
        asked()
        assert (answer.status_code, answer.json()) == (200, {"n": 2})
    server.settled("parts")
    parent = shown(server, answer)["parent"]
    slow, fast = (server.api(f"transactions/{name}") for name in server.api(f"transactions/{parent}")["children"])
    assert [one["kind"] for one in slow["incidents"]] == ["already_answered"]
    assert (fast["incidents"], slow["status"], fast["status"]) == ([], "completed", "completed")


@pytest.mark.parametrize(
    ("kinds", "status", "step"),
    [(["silent", "silent"], 204, None), (["silent", "fails"], 500, "broken"), ([], 204, None)],
)
def test_5_2_split_parts_that_do_not_respond_answer_when_the_last_has_ended(
    server: Server, kinds: list[str], status: int, step: Any
) -> None:
    """5.2: given parts of which none responds, then 204 at the end of the last, 500 when one failed."""
    answer = server.hit("parts-asked", {"items": [{"n": 1, "kind": kind} for kind in kinds]})
    assert answer.status_code == status, answer.text
    assert (answer.json()["step"] if answer.content else None) == step


def test_5_3_each_caller_of_a_mid_cycle_webhook_gets_the_answer_of_its_own_pass(
    server: Server, partner: Partner, callers: ThreadPoolExecutor
) -> None:
    """5.3: given a trigger that is answered, and two requests at its webhook, then three callers have three answers."""
    first = server.hit("held-asked", {"n": 31})
    assert (first.status_code, first.json()) == (201, {"asked": 31})
    with partner.waiting() as asked:
        one = callers.submit(server.hit, "held-back", {"n": 31, "word": "one"})
        asked()
        two = callers.submit(server.hit, "held-back", {"n": 31, "word": "two"})
        until(server, lambda: shown(server, first)["queue"])
        assert not one.done()
        assert not two.done()
    assert one.result(10).json() == {"word": "one", "pass": 2}
    assert two.result(10).json() == {"word": "two", "pass": 3}
    assert {answer.result().headers["cyclewright-transaction"] for answer in (one, two)} == {
        first.headers["cyclewright-transaction"]
    }
    assert [entry["reply"] for entry in shown(server, first)["passes"]] == [201, 200, 200]


def test_5_3_a_second_respond_is_recorded_and_the_first_stands(server: Server, partner: Partner) -> None:
    """5.3: given two responds, then the caller has the first while the pass goes on, and a repeat gets that too."""
    with partner.waiting() as asked:
        answer = server.hit("twice-asked", {"n": 1}, **{"idempotency-key": "twice"})
        asked()
        assert (answer.status_code, answer.headers["x-first"], answer.json()) == (201, "yes", {"answer": 1})
        assert shown(server, answer)["status"] == "running"
    server.settled("twice")
    ended = shown(server, answer)
    assert (ended["status"], [one["kind"] for one in ended["incidents"]]) == ("completed", ["already_answered"])
    again = server.hit("twice-asked", {"n": 1}, **{"idempotency-key": "twice"})
    assert (again.status_code, again.headers["x-first"], again.content) == (201, "yes", answer.content)


def test_5_2_a_caller_is_told_when_his_pass_is_stopped(
    server: Server, partner: Partner, callers: ThreadPoolExecutor
) -> None:
    """5.2: given a caller who waits, when the cycle is stopped, then 409 at that instant, naming the step."""
    with partner.waiting() as asked:
        waits = callers.submit(server.hit, "waits-asked", {"n": 1})
        asked()
        assert server.api("cycles/waits/stop", method="POST")["cut"] == 1
        answer = waits.result(10)
    assert (answer.status_code, answer.json()["step"]) == (409, "work")
    assert answer.json()["title"] == "The run was stopped"
    assert shown(server, answer)["status"] == "stopped"
    server.api("cycles/waits/start", method="POST")


def test_5_1_past_the_deadline_of_the_step_the_problem_says_where_to_look(server: Server, partner: Partner) -> None:
    """5.1: given `answer_within`, when it is over, then 504 with status_url, where the answer is found later."""
    with partner.waiting() as asked:
        late = server.hit("late-asked", {"n": 1}, prefer="wait=20")
        asked()
        assert (late.status_code, late.headers["content-type"]) == (504, "application/problem+json")
        assert late.json()["status_url"] == late.headers["location"]
    status = httpx.get(late.json()["status_url"], headers={"prefer": "wait=10"}).json()
    assert (status["status"], status["answer"]["body"]) == ("completed", {"n": 1})
