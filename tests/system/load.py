"""Load on a server for as long as a block lasts, and what became of every request of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx
from msgspec import Struct, field

from tests.system.harness import NO_TLS, Server

ANSWER_S = 30.0  # Past it a request hangs.

WORK = """
cycle: jobs
connectors:
  shop: {}
  remote: {base_url: "%s", allow_private: true}
settings: {on_error: stop_transaction}
steps:
  asked:
    webhook: shop
    identifier: jobs-asked
    fields: {job: {type: integer, required: true}}
  work: {post: remote, path: /effects, body: {job: "{{ asked.job }}"}}
"""


class Sent(Struct):
    """What became of the requests.

    Attributes:
        accepted: the transactions of those that were answered 202, by job.
        answers: how many there were of each status; 0 where the connection ended before an answer.
        unmarked: refusals with 503 that did not say when to come again.
        slowest: seconds of the slowest answer.
    """

    accepted: dict[int, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    unmarked: int = 0
    slowest: float = 0.0

    def note(self, job: int, answer: httpx.Response | int, seconds: float) -> None:
        """Add one request."""
        self.slowest = max(self.slowest, seconds)
        if not isinstance(answer, httpx.Response):
            self.answers[answer] += 1
            return
        self.answers[answer.status_code] += 1
        if answer.status_code == 202:
            self.accepted[job] = answer.json()["transaction"]
        elif answer.status_code == 503:
            self.unmarked += "retry-after" not in answer.headers


def _post(http: httpx.Client, job: int) -> httpx.Response | int:
    """The answer; 0 when the connection ended before it, -1 when none came, which no test allows."""
    try:
        return http.post("/webhook/jobs-asked", json={"job": job})
    except httpx.ReadTimeout:
        return -1
    except httpx.TransportError:
        return 0


@contextmanager
def load(server: Server, clients: int = 4, *, start: int = 0, connect_s: float = 5.0) -> Generator[Sent]:
    """Clients that send one job after the other within the block, each waiting for its answer."""
    sent, stop, lock = Sent(), threading.Event(), threading.Lock()

    def client(number: int) -> None:
        timeout = httpx.Timeout(ANSWER_S, connect=connect_s)
        with httpx.Client(base_url=server.url, timeout=timeout, verify=NO_TLS) as http:
            job = start + number
            while not stop.is_set():
                began = time.perf_counter()
                answer = _post(http, job)
                with lock:
                    sent.note(job, answer, time.perf_counter() - began)
                if not isinstance(answer, httpx.Response) or answer.status_code != 202:
                    stop.wait(0.01)
                job += clients

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield sent
    finally:
        stop.set()
        for thread in threads:
            thread.join(ANSWER_S + connect_s + 5)
        assert not any(thread.is_alive() for thread in threads), "a request hangs"


def assert_kept(server: Server, *all_sent: Sent) -> None:
    """Everything that was answered 202 is a transaction, and has ended well."""
    server.settled("jobs", seconds=60)
    done = {one["transaction"] for one in server.transactions("&cycle=jobs&status=completed")}
    for sent in all_sent:
        lost = set(sent.accepted.values()) - done
        assert not lost, f"answered 202, and lost or failed: {sorted(lost)[:5]}"
        assert len(set(sent.accepted.values())) == len(sent.accepted), "two jobs share a transaction"


def until(server: Server, reached: Callable[[], bool]) -> None:
    """Wait for what a process does, which has no clock of ours."""
    for _ in range(1000):
        if reached():
            return
        server.pause()
    raise AssertionError(f"it never came: {server.log.read_text()[-2000:]}")
