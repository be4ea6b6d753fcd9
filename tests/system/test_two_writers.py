"""One journal, one writer: a second server is told who owns it, and an owner that was replaced writes nothing more."""

import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.system.harness import NO_TLS, Server
from tests.system.load import WORK, assert_kept, load, until
from tests.system.partner import Partner


def test_a_second_server_is_refused_and_told_who_owns_the_journal(tmp_path: Path) -> None:
    """Given a server, when another one starts on its folder, then that ends, names its process, and harms nothing."""
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(WORK % partner.url)
        with Server(tmp_path) as server:
            assert server.process is not None
            owner = server.process.pid
            second = Server(tmp_path)
            second.log = tmp_path / "second.log"
            with load(server) as sent:
                with pytest.raises(AssertionError):
                    second.start()
                until(server, lambda: len(sent.accepted) > 20)
            assert second.process is not None
            assert second.process.wait(10) == 1
            said = second.log.read_text()
            assert f"process {owner}" in said
            assert "Traceback" not in said
            assert set(sent.answers) == {202}
            assert_kept(server, sent)


@pytest.mark.parametrize("lock", ["removed", "replaced"])
def test_an_owner_whose_lock_was_broken_while_it_stood_still_is_fenced(tmp_path: Path, lock: str) -> None:
    """Given a stopped process whose lock somebody breaks to start another, when it wakes, then it ends, fenced.

    It answers 2xx to nobody, and the journal is that of the new owner alone.
    """
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(WORK % partner.url)
        old, new = Server(tmp_path), Server(tmp_path)
        old.log, new.log = tmp_path / "old.log", tmp_path / "new.log"
        with old, ExitStack() as later:
            assert old.hit("jobs-asked", {"job": 1}).status_code == 202
            old.settled("jobs")
            late: list[int] = []

            def ask() -> None:
                try:
                    late.append(old.hit("jobs-asked", {"job": 2}).status_code)
                except httpx.TransportError:
                    late.append(0)

            with old.frozen():
                caller = threading.Thread(target=ask)
                caller.start()
                path = old.data / "journal" / "LOCK"
                path.unlink()
                if lock == "replaced":
                    path.touch(mode=0o600)
                later.enter_context(new)
                assert new.hit("jobs-asked", {"job": 3}).status_code == 202
            caller.join(20)
            assert old.process is not None
            assert old.process.wait(20) == 1
            assert late in ([0], [500], [503])
            said = old.log.read_text().splitlines()[-1]
            assert "epoch" in said
            assert "ExceptionGroup" not in said
            with load(new, start=10) as sent:
                until(new, lambda: len(sent.accepted) > 20)
            assert_kept(new, sent)
            assert new.settled("jobs")["completed"] == 2 + len(sent.accepted)
            assert httpx.get(f"{new.url}/readyz", verify=NO_TLS).status_code == 200
            assert new.terminate() == 0
        live, replayed = new.digests()
        assert live == replayed
