"""A process that may open few files: its callers' connections leave room for everything else, and it never spins."""

import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.system.harness import NO_TLS, Server, limit_servers
from tests.system.load import WORK, Sent, assert_kept, until
from tests.system.partner import Partner

FILES = 160
CALLERS = 400
LARGE = "x" * 900_000
JOBS = 60  # Enough of them to fill a segment.
SPIN_S = 0.5  # Of processor time, in a second in which nothing is asked.


def processor_s(server: Server) -> float:
    """Processor time that the server has used."""
    assert server.process is not None
    words = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / 100


def told(connection: socket.socket) -> bytes:
    """The first bytes that come, b"" when it is closed or reset, and b"-" when nothing comes."""
    try:
        return connection.recv(64)[:12]
    except TimeoutError:
        return b"-"
    except OSError:
        return b""


def test_4_1_more_connections_than_files_hold_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4.1: given more callers than the process has files, then those past the bound are told 503, or closed, at once.

    Who is connected is served, his jobs call their remotes, the journal takes its next segments, nothing spins; when
    the callers are gone, others are served, without a restart.
    """
    limit_servers(monkeypatch, resource.RLIMIT_NOFILE, FILES)
    with Partner() as partner, ExitStack() as connections:
        (tmp_path / "jobs.cycle.yaml").write_text(WORK % partner.url)
        (tmp_path / "cyclewright.toml").write_text('segment_bytes = 33554432\nidle_timeout = "60 seconds"\n')
        server, sent = Server(tmp_path), Sent()
        with server, httpx.Client(base_url=server.url, timeout=30, verify=NO_TLS) as http:
            first = http.post("/webhook/jobs-asked", json={"job": 0})  # It keeps its connection.
            sent.note(0, first, 0)
            place = ("127.0.0.1", server.port)
            callers = [connections.enter_context(socket.create_connection(place, timeout=10)) for _ in range(CALLERS)]
            last = {told(caller) for caller in callers[-50:]}
            assert last <= {b"", b"HTTP/1.1 503"}, "at once, each of them"
            spent = processor_s(server)
            time.sleep(1)  # In which a loop that spins would show; the process has no clock of ours.
            assert processor_s(server) - spent < SPIN_S
            for job in range(1, JOBS):
                sent.note(job, http.post("/webhook/jobs-asked", json={"job": job, "more": LARGE}), 0)
            assert set(sent.answers) == {202}, sent.answers
            assert len(list((server.data / "journal").glob("*-*.seg"))) > 1, "the journal took its next segment"
            connections.close()
            until(server, lambda: httpx.get(f"{server.url}/healthz", verify=NO_TLS).status_code == 200)
            sent.note(JOBS, server.hit("jobs-asked", {"job": JOBS}), 0)
            assert set(sent.answers) == {202}, sent.answers
            assert server.settled("jobs")["completed"] == JOBS + 1, "calls had files to open"
            assert server.terminate() == 0
        with server:
            assert_kept(server, sent)
    assert "Traceback" not in server.log.read_text()
