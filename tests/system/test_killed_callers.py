"""kill -9 at every point of a synchronous pass (5.4): who comes again with his delivery key gets the one answer.

One process is killed with a caller at each point; then each test is one of them, who comes again.
"""

import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.harness import Server
from tests.system.partner import Partner
from tests.system.synchronous import project, until

TEXT = "x" * 900_000  # More than the buffers on the way take.
KILLS = 6
SLOW, FAST = {"n": 1, "kind": "slow"}, {"n": 2, "kind": "fast"}


class Killed:
    """A server that was killed with callers at every point, and started again."""

    def __init__(self, server: Server, partner: Partner) -> None:
        self.server = server
        self.partner = partner
        self.told: dict[str, httpx.Response] = {}

    def ask(self, key: str, identifier: str, body: Any, **headers: str) -> httpx.Response:
        """A request under a delivery key."""
        return self.server.hit(identifier, body, **{"idempotency-key": key, **headers})

    def again(self, key: str, identifier: str, body: Any) -> httpx.Response:
        """The same request after the restart, twice: one answer, byte for byte, marked as that of a duplicate."""
        answers = [self.ask(key, identifier, body) for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert [answer.headers["cyclewright-duplicate"] for answer in answers] == ["true", "true"]
        return answers[0]

    def first_pass(self, answer: httpx.Response) -> Any:
        """The first pass of the transaction that an answer names."""
        return self.server.api(f"transactions/{answer.headers['cyclewright-transaction']}")["passes"][0]

    def attempts(self, transaction: str, step: str) -> dict[str, int]:
        """How often the remote saw each key of a step of one transaction."""
        return {key: count for key, count in self.partner.effects.items() if key.startswith(f"{transaction}.{step}.")}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """Callers at every point; then kill -9, and a start."""
    with Partner() as partner, ThreadPoolExecutor(16) as pool:
        server = Server(project(tmp_path_factory.mktemp("killed"), partner))
        found = Killed(server, partner)
        with server, socket.socket() as reader:
            with partner.waiting() as asked:
                waiting = _ask_everywhere(found, pool)
                for _ in range(8):
                    asked()
                _read_nothing(server, reader)
                until(server, lambda: server.api("cycles/held")["counts"]["held"] == 1)
                server.kill()
            assert all(isinstance(one.exception(10), httpx.TransportError) for one in waiting)
            server.start()
            yield found


def _ask_everywhere(found: Killed, pool: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    """Who was answered before the kill is in `told`; who was not is what this gives. Eight calls are open."""
    for key, identifier, body in (
        ("retry", "retried-asked", {"n": 2}),
        ("going_on", "twice-asked", {"n": 1}),
        ("parts", "parts-asked", {"items": [SLOW, FAST]}),
        ("trigger", "held-asked", {"n": 1}),
        ("other", "held-asked", {"n": 2}),
    ):
        found.told[key] = found.ask(key, identifier, body)
    found.told["late"] = found.ask("late", "waits-asked", {"n": 3}, prefer="wait=0")
    found.told["async"] = found.ask("async", "waits-asked", {"n": 4}, prefer="respond-async")
    waiting = [
        pool.submit(found.ask, "call", "waits-asked", {"n": 1}),
        pool.submit(found.ask, "delay", "delayed-asked", {"n": 1}),
        pool.submit(found.ask, "no_part", "parts-asked", {"items": [SLOW, SLOW]}),
        pool.submit(found.ask, "mid", "held-back", {"n": 1, "word": "one"}),
    ]
    trigger = found.told["trigger"].headers["cyclewright-transaction"]
    until(found.server, lambda: found.server.api(f"transactions/{trigger}")["status"] == "running")
    waiting.append(pool.submit(found.ask, "queued", "held-back", {"n": 1, "word": "two"}))
    until(found.server, lambda: found.server.api(f"transactions/{trigger}")["queue"])
    return waiting


def _read_nothing(server: Server, reader: socket.socket) -> None:
    """A caller whose answer is built, durable and on its way, and who takes none of it."""
    body = b'{"text":"%s"}' % TEXT.encode()
    head = f"POST /webhook/big-asked HTTP/1.1\r\nhost: x\r\nidempotency-key: big\r\ncontent-length: {len(body)}\r\n\r\n"
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(10)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(head.encode() + body)
    assert reader.recv(12) == b"HTTP/1.1 200"


def test_5_4_before_the_answer_of_the_call(killed: Killed) -> None:
    """Given a pass at its call, when the process dies, then the call is made again and the caller is answered."""
    answer = killed.again("call", "waits-asked", {"n": 1})
    assert (answer.status_code, answer.json()) == (201, {"n": 1})
    assert killed.first_pass(answer)["fate"] == "restart"
    transaction = answer.headers["cyclewright-transaction"]
    assert killed.attempts(transaction, "work") == {f"{transaction}.work.1": 2}


def test_5_4_while_the_answer_is_sent(killed: Killed) -> None:
    """Given an answer of which only the beginning was read, when the process dies, then it is there, whole."""
    answer = killed.again("big", "big-asked", {"text": TEXT})
    assert (answer.status_code, answer.text) == (200, TEXT)
    assert killed.first_pass(answer)["fate"] == "restart"


def test_5_4_after_the_answer_while_the_pass_goes_on(killed: Killed) -> None:
    """Given an answer that was read, when the process dies in the call after it, then both are as they would be."""
    answer = killed.again("going_on", "twice-asked", {"n": 1})
    assert (answer.status_code, answer.content) == (201, killed.told["going_on"].content)
    assert answer.headers["x-first"] == "yes"
    killed.server.settled("twice", completed=1)
    assert killed.first_pass(answer)["fate"] == "sent"
    transaction = answer.headers["cyclewright-transaction"]
    assert killed.attempts(transaction, "work") == {f"{transaction}.work.1": 2}


def test_5_5_between_two_attempts(killed: Killed) -> None:
    """Given a caller who was told 502, when the process dies before the next attempt, then that is made; 502 stays."""
    answer = killed.again("retry", "retried-asked", {"n": 2})
    assert (answer.status_code, answer.content) == (502, killed.told["retry"].content)
    killed.server.settled("retried", completed=1)
    transaction = answer.headers["cyclewright-transaction"]
    assert killed.attempts(transaction, "late") == {f"{transaction}.late.1": 2}


def test_5_4_in_a_delay(killed: Killed) -> None:
    """Given a pass that waits in the journal, when the process dies, then the caller is answered after the delay."""
    answer = killed.again("delay", "delayed-asked", {"n": 1})
    assert (answer.status_code, answer.json()) == (200, {"n": 1})


@pytest.mark.parametrize(("key", "status", "number", "later"), [("late", 504, 3, 201), ("async", 202, 4, 202)])
def test_5_4_after_the_caller_was_sent_away(killed: Killed, key: str, status: int, number: int, later: int) -> None:
    """Given a caller who was told to look later, when the process dies before his answer is built, then it is built.

    Who asked to wait gets it when he comes again; who asked for 202 gets that again, and finds it at the status URL.
    """
    assert killed.told[key].status_code == status
    url = killed.told[key].headers["location"]
    assert httpx.get(url, headers={"prefer": "wait=10"}).json()["answer"]["body"] == {"n": number}
    answer = killed.again(key, "waits-asked", {"n": number})
    assert answer.status_code == later
    assert answer.json() == ({"n": number} if key == "late" else killed.told[key].json())


def test_5_3_between_the_parts_of_a_split(killed: Killed) -> None:
    """Given one part that answered and one at its call, when the process dies, then the first answer stands."""
    answer = killed.again("parts", "parts-asked", {"items": [SLOW, FAST]})
    assert (answer.status_code, answer.content) == (200, killed.told["parts"].content)
    killed.server.settled("parts")
    parent = killed.server.api(f"transactions/{answer.headers['cyclewright-transaction']}")["parent"]
    slow = killed.server.api(f"transactions/{killed.server.api(f'transactions/{parent}')['children'][0]}")
    assert (slow["status"], [one["kind"] for one in slow["incidents"]]) == ("completed", ["already_answered"])


def test_5_3_before_any_part_of_a_split_answered(killed: Killed) -> None:
    """Given two parts at their calls, when the process dies, then the first of them to respond answers."""
    answer = killed.again("no_part", "parts-asked", {"items": [SLOW, SLOW]})
    assert (answer.status_code, answer.json()) == (200, {"n": 1})


def test_5_3_in_a_pass_of_a_mid_cycle_webhook_and_behind_it(killed: Killed) -> None:
    """Given a caller in a pass and one who waits behind it, when the process dies, then each gets his own answer."""
    one = killed.again("mid", "held-back", {"n": 1, "word": "one"})
    two = killed.again("queued", "held-back", {"n": 1, "word": "two"})
    assert (one.json(), two.json()) == ({"word": "one", "pass": 2}, {"word": "two", "pass": 3})


def test_5_4_of_a_transaction_that_holds(killed: Killed) -> None:
    """Given a trigger that was answered and a hold, when the process dies, then its answer and its hold are there."""
    answer = killed.again("other", "held-asked", {"n": 2})
    assert (answer.status_code, answer.content) == (201, killed.told["other"].content)
    back = killed.ask("other-back", "held-back", {"n": 2, "word": "three"})
    assert back.json() == {"word": "three", "pass": 2}


@pytest.mark.timeout(240)
def test_5_4_callers_who_repeat_until_they_are_answered_have_one_answer_each(tmp_path: Path) -> None:
    """5.4: kills at random instants; each caller repeats his key until he is answered, and then once more."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    answers: dict[str, set[tuple[int, bytes]]] = {}
    over = threading.Event()
    with Partner() as partner, Server(project(tmp_path, partner)) as server, ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(_repeat_each, server, f"caller{number}", answers, over) for number in range(4)]
        for _ in range(KILLS):
            over.wait(chance.uniform(0.1, 0.6))
            server.kill()
            server.start()
        over.set()
        for one in callers:
            one.result(60)
        assert server.settled("parts")["completed"] == 3 * len(answers)
        assert server.terminate() == 0
        assert len(set(server.digests())) == 1
    assert len(answers) > KILLS
    several = {key: said for key, said in answers.items() if len(said) > 1}
    assert not several
    assert len(set(partner.effects)) == len(answers), "each silent part had its effect under one key"


def _repeat_each(server: Server, name: str, answers: dict[str, set[tuple[int, bytes]]], over: threading.Event) -> None:
    """One request after the other, each repeated until it was answered twice; one part responds, one has an effect."""
    with httpx.Client(base_url=server.url, timeout=20) as http:
        while not over.is_set():
            key = f"{name}-{len(answers)}"
            answers[key] = set()
            body = {"items": [{"n": len(answers), "kind": "fast"}, {"n": 0, "kind": "silent"}]}
            times = 0
            while times < 2:
                try:
                    answer = http.post("/webhook/parts-asked", json=body, headers={"idempotency-key": key})
                except httpx.TransportError:
                    over.wait(0.01)
                    continue
                if answer.status_code != 503:  # It is not ready yet.
                    answers[key].add((answer.status_code, answer.content))
                    times += 1
