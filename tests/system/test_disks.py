"""Real disks that are full, break or become read-only: never 2xx for what is not durable, nothing accepted lost."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.system.disks import BreakableDisk, breakable_disk, memory_disk
from tests.system.harness import NO_TLS, Server
from tests.system.load import WORK, assert_kept, load, until
from tests.system.partner import Partner

SETTINGS = 'data = "%s"\nsegment_bytes = 33554432\n'
DISK_MIB = 110  # Two segments, and what the store needs.
LARGE = "x" * 900_000
HELD = """
cycle: held
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: held-asked, fields: {n: {type: integer, required: true}}}
  work: {post: remote, path: /signal, body: {n: "{{ asked.n }}"}}
  back: {webhook: shop, identifier: held-back, fields: {n: {type: integer, required: true}}, match: {n: asked.n}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def server_on(disk: Path, project: Path, partner: Partner) -> Server:
    """A server whose data is on a disk."""
    for name, text in (("jobs", WORK), ("held", HELD)):
        (project / f"{name}.cycle.yaml").write_text(text % partner.url)
    (project / "cyclewright.toml").write_text(SETTINGS % (disk / "data"))
    server = Server(project)
    server.data = disk / "data"
    return server


def test_8_a_full_disk_refuses_what_is_new_records_the_rest_and_recovers(tmp_path: Path, project: Path) -> None:
    """Given a disk that others fill, then 503 with Retry-After; what is in progress ends; with room it recovers.

    Nothing that was accepted before, meanwhile or after is lost, as a restart shows.
    """
    with memory_disk(tmp_path / "disk", DISK_MIB) as disk, Partner() as partner:
        server = server_on(disk, project, partner)
        with server:
            with partner.waiting() as asked:
                assert server.hit("held-asked", {"n": 1}).status_code == 202
                asked()
                ballast = fill(disk)
                accepted, refused = until_refused(server)
                assert refused.headers["content-type"] == "application/problem+json"
                assert int(refused.headers["retry-after"]) >= 1
                assert httpx.get(f"{server.url}/readyz", verify=NO_TLS).status_code == 200
            assert server.settled("held")["held"] == 1, "what was in progress is recorded"
            assert server.hit("jobs-asked", {"job": 0}).status_code == 503
            ballast.unlink()
            until(server, lambda: server.hit("held-back", {"n": 1}).status_code == 202)
            assert server.settled("held")["completed"] == 1
            with load(server) as sent:
                until(server, lambda: len(sent.accepted) > 20)
            assert set(sent.answers) == {202}
            assert server.terminate() == 0
        with server:
            assert_kept(server, sent)
            done = {one["transaction"] for one in server.transactions("&cycle=jobs&status=completed")}
            assert set(accepted) <= done
            assert server.settled("held")["completed"] == 1


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return ballast


def until_refused(server: Server) -> tuple[list[str], httpx.Response]:
    """Large jobs, until one is refused: the transactions of those that were accepted, and the refusal."""
    accepted: list[str] = []
    for job in range(1000, 1400):
        answer = server.hit("jobs-asked", {"job": job, "more": LARGE})
        if answer.status_code != 202:
            assert answer.status_code == 503, answer.text
            return accepted, answer
        accepted.append(answer.json()["transaction"])
    raise AssertionError("the disk never filled")


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[BreakableDisk]:
    with breakable_disk(tmp_path, 250) as disk:
        yield disk


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (BreakableDisk.break_down, "Input/output error"),
        (
            BreakableDisk.become_read_only,
            "Read-only file system|Input/output error",
        ),  # The latter for pages on their way.
    ],
    ids=["EIO", "read-only"],
)
def test_a_disk_that_breaks_ends_the_server_with_a_reason(
    breakable: BreakableDisk, project: Path, breaks: Callable[[BreakableDisk], None], said: str
) -> None:
    """Given load, when each write fails from now on, then the server ends, says why, and has answered nothing falsely.

    Once the disk is back, a start finds everything that was answered 202.
    """
    with Partner() as partner:
        server = server_on(breakable.folder, project, partner)
        with server:
            with load(server) as sent:
                until(server, lambda: len(sent.accepted) > 40)
                breaks(breakable)
                assert server.process is not None
                assert server.process.wait(20) == 1
            assert set(sent.answers) <= {202, 0, 500, 503}, sent.answers
            last = server.log.read_text()[-1500:]
            assert re.search(said, last)
            assert "Traceback" not in last
            assert "ExceptionGroup" not in last
            assert "exit and open it again" in last or "exit and open the journal again" in last
            breakable.unmount()
            breakable.mount()
            server.start()
            assert_kept(server, sent)


def test_a_read_only_disk_is_told_at_the_start(breakable: BreakableDisk, project: Path) -> None:
    """Given a disk on which nothing can be written, when a server starts, then it ends with a line that says so."""
    with Partner() as partner:
        server = server_on(breakable.folder, project, partner)
        with server:
            assert server.terminate() == 0
        breakable.become_read_only()
        with pytest.raises(AssertionError, match="Read-only file system"):  # The server's own words, as it ends.
            server.start()
        assert "Traceback" not in server.log.read_text()
