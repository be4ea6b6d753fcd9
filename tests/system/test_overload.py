"""More than a server can take: who is refused is told when to come again, and what is accepted is done."""

import re
import socket
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from tests.system.harness import Server
from tests.system.load import WORK, assert_kept, load
from tests.system.partner import Partner

BURST = 400
MAILBOX = 40
SETTINGS = f"mailbox_items_max = {MAILBOX}\nrunning_max = {MAILBOX}\n"


def job(number: int) -> bytes:
    body = msgspec.json.encode({"job": number})
    head = f"POST /webhook/jobs-asked HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def burst(server: Server) -> list[bytes]:
    """As many jobs at one instant, each on a connection of its own; what each was told."""
    with ExitStack() as connections:
        with server.frozen():
            place = ("127.0.0.1", server.port)
            senders = [connections.enter_context(socket.create_connection(place, timeout=20)) for _ in range(BURST)]
            for number, sender in enumerate(senders):
                sender.sendall(job(number))
        return [b"".join(iter(partial(sender.recv, 65_536), b"")) for sender in senders]


def test_4_1_a_burst_is_accepted_as_far_as_it_goes_and_the_rest_told_when_to_come(tmp_path: Path) -> None:
    """4.1: given ten times what may wait, then each is 202 and is done, or 503 with a Retry-After that is true."""
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(WORK % partner.url)
        (tmp_path / "cyclewright.toml").write_text(SETTINGS)
        with Server(tmp_path) as server:
            said = burst(server)
            answers = Counter(one[9:12] for one in said)
            assert set(answers) == {b"202", b"503"}, answers
            assert answers[b"202"] >= MAILBOX
            refused = [one for one in said if one.startswith(b"HTTP/1.1 503")]
            waits = [re.search(rb"\r\nretry-after: (\d+)\r\n", one) for one in refused]
            assert all(wait is not None and 1 <= int(wait[1]) <= 10 for wait in waits)
            assert all(b"application/problem+json" in one for one in refused)
            time.sleep(
                max(int(wait[1]) for wait in waits if wait)
            )  # As they were told; a process has no clock of ours.
            assert server.hit("jobs-asked", {"job": BURST}).status_code == 202
            counts = server.settled("jobs")
            assert (counts["completed"], counts["failed"]) == (answers[b"202"] + 1, 0)
            assert len(partner.effects) == answers[b"202"] + 1


def test_4_1_clients_without_pause_are_all_answered(tmp_path: Path) -> None:
    """4.1: given more clients than may wait, for a while, then each request is 202 or 503, and each 202 is done."""
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(WORK % partner.url)
        (tmp_path / "cyclewright.toml").write_text("mailbox_items_max = 2\nrunning_max = 3\n")
        with Server(tmp_path) as server:
            with load(server, 24) as sent:
                time.sleep(2)  # The load is what takes time here.
            assert set(sent.answers) == {202, 503}, sent.answers
            assert sent.unmarked == 0
            assert_kept(server, sent)
