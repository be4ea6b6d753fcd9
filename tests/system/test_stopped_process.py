"""SIGTERM, SIGSTOP and SIGCONT under load: nothing that was answered is lost, nothing hangs, timers fire once."""

import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.system.harness import Server
from tests.system.load import WORK, assert_kept, load, until
from tests.system.partner import Partner

FROZEN_S = 2.0

LATER = """
cycle: later
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: later-asked, fields: {n: integer}}
  rest: {delay: 1 second}
  tell: {post: remote, path: /later, body: {later: "{{ asked.n }}"}}
"""
SLOW = """
cycle: slow
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: slow-asked, answer_within: 1 second}
  work: {post: remote, path: /signal}
  answer: {respond: {}}
"""


@pytest.mark.parametrize("wait", ["at once", "under way"])
def test_11_a_server_told_to_stop_under_load_keeps_what_it_answered(tmp_path: Path, wait: str) -> None:
    """Section 11: given load, when SIGTERM comes, then each request was 202 and has run, or 503, or cut off.

    The server ends with 0, within its grace period, and none of its callers hangs.
    """
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(WORK % partner.url)
        with Server(tmp_path) as server:
            with load(server) as sent:
                until(server, lambda: len(sent.accepted) >= (1 if wait == "at once" else 60))
                assert server.terminate() == 0
                time.sleep(0.1)  # The clients meet the closed door; it is a real one, and has no clock of ours.
            assert set(sent.answers) <= {202, 503, 0}, sent.answers
            assert sent.unmarked == 0
            server.start()
            assert_kept(server, sent)
            assert Counter(partner.effects.values()).keys() == {1}, "each job was done once"


def test_a_server_that_stood_still_goes_on_where_it_was(tmp_path: Path) -> None:
    """Given load, a delay and a caller with a deadline, when all stands still for longer, then nothing is lost.

    The deadline is answered as soon as the process runs again, the delay ends once, and the remote is called once.
    """
    with Partner() as partner:
        for name, text in (("jobs", WORK), ("later", LATER), ("slow", SLOW)):
            (tmp_path / f"{name}.cycle.yaml").write_text(text % partner.url)
        server = Server(tmp_path)
        with server, load(server) as sent:
            until(server, lambda: len(sent.accepted) >= 20)
            for n in range(5):
                assert server.hit("later-asked", {"n": n}).status_code == 202
            answers: list[httpx.Response] = []
            caller = threading.Thread(target=lambda: answers.append(server.hit("slow-asked", {})))
            with partner.waiting() as asked:
                caller.start()
                asked()
                before = len(sent.accepted)
                with server.frozen():
                    time.sleep(FROZEN_S)  # A process that stands still has no clock of ours.
                caller.join(10)
            assert [one.status_code for one in answers] == [504]
            until(server, lambda: len(sent.accepted) >= before + 20)
            assert server.settled("later")["completed"] == 5
            assert set(sent.answers) == {202}, sent.answers
            assert server.terminate() == 0
        with server:
            assert_kept(server, sent)
        assert sorted(body["later"] for body in partner.bodies if body and "later" in body) == list(range(5))
        assert set(partner.effects.values()) == {1}
