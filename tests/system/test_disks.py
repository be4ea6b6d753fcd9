"""Real disks that are full, break or become read-only: never 2xx for what is not durable, nothing accepted lost.

A limit on how large a file may be (`ulimit -f`) is a full disk to the file that meets it.
"""

import re
import resource
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system.disks import BreakableDisk, breakable_disk, memory_disk
from tests.system.harness import NO_TLS, Server, limit_servers
from tests.system.load import WORK, assert_kept, load, until
from tests.system.partner import Partner

SEGMENT_BYTES = 32 << 20
SETTINGS = f'data = "%s"\nsegment_bytes = {SEGMENT_BYTES}\n'
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


def limit_files(server: Server, size: int) -> None:
    """From now on no file of a running server may grow beyond so many bytes."""
    assert server.process is not None
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def files_limited(server: Server, size: int) -> Generator[None]:
    """Within the block no file of a running server may grow beyond so many bytes."""
    limit_files(server, size)
    yield
    limit_files(server, resource.getrlimit(resource.RLIMIT_FSIZE)[1])


def test_8_files_that_may_not_be_as_large_as_a_segment_are_a_full_disk(tmp_path: Path, project: Path) -> None:
    """Given a limit that the next segment does not fit, then 503, what is in progress ends, and without it all goes on.

    Nothing that was accepted before, meanwhile or after is lost, as a restart shows.
    """
    with Partner() as partner, server_on(tmp_path, project, partner) as server:
        with files_limited(server, SEGMENT_BYTES - 512), partner.waiting() as asked:
            assert server.hit("held-asked", {"n": 1}).status_code == 202
            asked()
            accepted, refused = until_refused(server)
            assert int(refused.headers["retry-after"]) >= 1
        assert server.settled("held")["held"] == 1, "what was in progress is recorded"
        until(server, lambda: server.hit("held-back", {"n": 1}).status_code == 202)
        with load(server) as sent:
            until(server, lambda: len(sent.accepted) > 20)
        assert server.terminate() == 0
        assert "File too large" in server.log.read_text()
        server.start()
        assert_kept(server, sent)
        assert set(accepted) <= {one["transaction"] for one in server.transactions("&cycle=jobs&status=completed")}
        assert server.settled("held")["completed"] == 1


def test_8_a_store_that_may_not_grow_refuses_what_is_new_and_recovers(tmp_path: Path, project: Path) -> None:
    """Given a limit that the store meets before the journal does, then 503 until it is lifted, and nothing is lost."""
    with Partner() as partner, server_on(tmp_path, project, partner) as server:
        store = max(path.stat().st_size for path in server.data.glob("store.sqlite*"))
        with files_limited(server, store), load(server) as before:
            until(server, lambda: before.answers[503] > 20)
        assert before.unmarked == 0
        with load(server, start=1_000_000) as after:
            until(server, lambda: len(after.accepted) > 20)
        assert_kept(server, before, after)
        server.kill()
        server.start()
        assert_kept(server, before, after)


def test_a_file_size_limit_below_a_commit_ends_the_server_with_a_reason(tmp_path: Path, project: Path) -> None:
    """Given a commit that the file may not take, then the server ends and says why; a start finds what was answered."""
    with Partner() as partner, server_on(tmp_path, project, partner) as server:
        with load(server) as sent:
            until(server, lambda: len(sent.accepted) > 40)
            limit_files(server, 4096)  # Which leaves its last words their room.
            assert server.process is not None
            assert server.process.wait(20) == 1
        assert set(sent.answers) <= {202, 0, 500, 503}, sent.answers
        last = server.log.read_text()[-1500:]
        assert "File too large" in last
        assert "Traceback" not in last
        server.start()
        assert_kept(server, sent)


def test_a_limit_that_a_segment_does_not_fit_is_told_at_the_start(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given `ulimit -f` below a segment, when a server starts, then it ends, and names the limit and both sizes."""
    limit_servers(monkeypatch, resource.RLIMIT_FSIZE, 16 << 20)
    with Partner() as partner, pytest.raises(AssertionError, match=r"at most 16,777,216 bytes.*ulimit -f.*33,554,432"):
        server_on(tmp_path, project, partner).start()


def test_8_a_log_that_can_not_be_written_ends_nothing(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a log that takes not a line, when a server starts, works and is ended, then all of that goes well."""
    limit_servers(monkeypatch, resource.RLIMIT_FSIZE, SEGMENT_BYTES)
    with Partner() as partner:
        server = server_on(tmp_path, project, partner)
        with server.log.open("wb") as log:
            log.truncate(SEGMENT_BYTES)
        with server:
            with load(server) as sent:
                until(server, lambda: len(sent.accepted) > 20)
            assert set(sent.answers) == {202}
            assert_kept(server, sent)
            assert server.terminate() == 0


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
