"""Callers and remotes that let others wait: each costs himself alone, in time and in memory."""

import resource
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system.harness import NO_TLS, Server
from tests.system.load import WORK, assert_kept, load, until
from tests.system.partner import Partner

IDLE = 5_000
GROWN_MIB_MAX = 150  # By so many idle connections: 30 KiB for each.
OTHERS = 100  # Jobs that others have done meanwhile.
SETTINGS = 'idle_timeout = "2 seconds"\nbody_timeout = "2 seconds"\nanswer_timeout = "2 seconds"\n'
QUOTE = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: quotes-asked, fields: {text: text}}
  answer: {respond: {body: "{{ asked.text }}"}}
"""
SILENT = """
cycle: silent
connectors: {shop: {}, deaf: {base_url: "http://127.0.0.1:%d", allow_private: true}}
settings: {on_error: {retry: [300 milliseconds, 300 milliseconds]}}
steps:
  asked: {webhook: shop, identifier: silent-asked, fields: {n: integer}}
  work: {post: deaf, path: /, timeout: 500 milliseconds, body: {n: "{{ asked.n }}"}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, partner: Partner, deaf: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "jobs.cycle.yaml").write_text(WORK % partner.url)
    (folder / "quotes.cycle.yaml").write_text(QUOTE)
    (folder / "silent.cycle.yaml").write_text(SILENT % deaf)
    (folder / "cyclewright.toml").write_text(SETTINGS)
    with Server(folder) as running:
        yield running


@pytest.fixture(scope="module")
def deaf() -> Iterator[int]:
    """A port at which connections are taken and nobody ever says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener.getsockname()[1]


def resident_mib(server: Server) -> float:
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def assert_others_are_served(server: Server, start: int) -> None:
    with load(server, start=start) as sent:
        until(server, lambda: len(sent.accepted) >= OTHERS)
    assert set(sent.answers) == {202}, sent.answers
    assert_kept(server, sent)


@contextmanager
def files_for(count: int) -> Generator[int]:
    """As many open files as that in this process, or as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    may = min(count + 500, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, may), hard))
    try:
        yield min(count, max(soft, may) - 500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_4_1_who_sends_a_byte_at_a_time_is_cut_off_and_holds_up_nobody(server: Server) -> None:
    """4.1: given heads and bodies that come byte by byte, then 408, or closed, in time; others go on."""
    body = b'{"job": 1, "more": "' + b"x" * 1000 + b'"}'
    head = b"POST /webhook/jobs-asked HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(body) + body
    with connect(server) as slow_head, connect(server) as slow_body:
        slow_body.sendall(request[: request.index(b"\r\n\r\n") + 4])
        began = time.perf_counter()
        with load(server, start=10_000) as sent:
            ended: dict[socket.socket, bytes] = {}
            for at in range(len(body)):
                for sender, piece in ((slow_head, request), (slow_body, body)):
                    if sender not in ended:
                        ended |= trickle(sender, piece[at : at + 1])
                if len(ended) == 2:
                    break
                time.sleep(0.05)  # As slow as the caller is; sockets have no clock of ours.
        assert ended[slow_head] == b""
        assert ended[slow_body].startswith(b"HTTP/1.1 408 ")
        assert time.perf_counter() - began < 15
    assert set(sent.answers) == {202}, sent.answers
    assert len(sent.accepted) >= OTHERS / 2
    assert_kept(server, sent)


def trickle(sender: socket.socket, byte: bytes) -> dict[socket.socket, bytes]:
    """Send one byte; what came back and that it is over, when it is."""
    try:
        sender.sendall(byte)
        sender.settimeout(0.001)
        return {sender: sender.recv(4096)}
    except TimeoutError:
        return {}
    except OSError:
        return {sender: b""}
    finally:
        sender.settimeout(20)


def test_4_1_who_never_reads_his_answers_holds_up_nobody(server: Server) -> None:
    """4.1: given callers of large answers who read nothing, then each is reset in time; others go on."""
    body = b'{"text": "' + b"x" * 900_000 + b'"}'
    head = b"POST /webhook/quotes-asked HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    before = resident_mib(server)
    with ExitStack() as connections:
        for _ in range(20):
            caller = connections.enter_context(socket.socket())
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(("127.0.0.1", server.port))
            caller.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert_others_are_served(server, 20_000)
        until(server, lambda: fates(server) == {"gone"})
    assert resident_mib(server) - before < 20 * 12, "a body has some eight copies between its socket and the disk"
    assert server.settled("quotes")["completed"] == 20


def fates(server: Server) -> set[str]:
    names = [one["transaction"] for one in server.transactions("&cycle=quotes")]
    return {server.api(f"transactions/{name}")["passes"][0]["fate"] for name in names}


def test_4_1_thousands_of_idle_connections_cost_little_and_end(server: Server) -> None:
    """4.1: given thousands who connect and say nothing, then others are served, and they are closed."""
    before = resident_mib(server)
    with files_for(IDLE) as count, ExitStack() as connections:
        idle = [connections.enter_context(connect(server)) for _ in range(count)]
        assert_others_are_served(server, 30_000)
        assert resident_mib(server) - before < GROWN_MIB_MAX
        assert {one.recv(1) for one in idle} == {b""}, "each is closed when its time is over"
    assert httpx.get(f"{server.url}/healthz", verify=NO_TLS).status_code == 200


def test_7_a_remote_that_never_answers_times_out_is_retried_and_delays_nobody(server: Server) -> None:
    """Section 7, 10: given a remote that takes calls and says nothing, then each attempt times out, by policy.

    Calls to other connectors go on meanwhile; after the last attempt the transaction has failed, and says why.
    """
    began = time.perf_counter()
    asked = [server.hit("silent-asked", {"n": n}).json()["transaction"] for n in range(30)]
    assert_others_are_served(server, 40_000)
    assert server.settled("silent")["failed"] == 30
    assert time.perf_counter() - began > 3 * 0.5, "three attempts, each to its timeout"
    for name in asked[:3]:
        kinds = [one["kind"] for one in server.api(f"transactions/{name}")["incidents"]]
        assert kinds == ["no_answer", "no_answer", "out_of_retries"]
