"""A real server in a process of its own, over real sockets, that can be killed and started again."""

import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from journal import LocalLog
from runtime.replay import fold_journal
from runtime.store import Database, digest

ROOT = Path(__file__).resolve().parents[2]
READY_S = 30.0
PORTS = range(10_000, 32_000)  # Below those that a system gives to whoever connects, who could be first.
_numbers = count(os.getpid() * 7919)  # Far from those of the process that began just before or after.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # Loading the certificates takes longer than most calls.


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no test of another process is given meanwhile."""
    for number in _numbers:
        port = PORTS[number % len(PORTS)]
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always another number")


def limit_servers(patch: pytest.MonkeyPatch, what: int, most: int) -> None:
    """Let servers that are started have at most so much of a resource: before their first lines of Python have run."""
    popen = subprocess.Popen

    def limited(*arguments: Any, **more: Any) -> Any:
        process = popen(*arguments, **more)
        resource.prlimit(process.pid, what, (most, most))
        return process

    patch.setattr("tests.system.harness.subprocess.Popen", limited)


class Server:
    """`cyclewright serve` on a project folder."""

    def __init__(self, project: Path, *, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        self.project = project
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = project / ".cyclewright"
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.log = project / "server.log"

    def start(self) -> float:
        """Start it and wait until it is ready; returns the seconds that took."""
        began = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runtime.cli", "serve", str(self.project), "--bind", f"127.0.0.1:{self.port}"],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "default", **self.environment},
            )
        while time.perf_counter() - began < READY_S:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2, verify=NO_TLS).status_code == 200:
                    return time.perf_counter() - began
            except httpx.TransportError:
                pass
            self.pause()
        raise AssertionError(f"not ready within {READY_S} s: {self.log.read_text()}")

    def pause(self) -> None:
        """Give the server a moment; waits for a process, which has no clock of ours."""
        assert self.process is not None
        try:
            self.process.wait(0.02)
        except subprocess.TimeoutExpired:
            return

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Keep the server from running for as long as the block lasts; the kernel goes on for it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def terminate(self, by: signal.Signals = signal.SIGTERM) -> int:
        """SIGTERM, or the SIGINT of a Ctrl-C; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(by)
        return self.process.wait(40)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def hit(self, identifier: str, body: Any, **headers: str) -> httpx.Response:
        """POST to a webhook."""
        return httpx.post(f"{self.url}/webhook/{identifier}", json=body, headers=headers, timeout=30)

    def api(self, path: str, *, method: str = "GET") -> Any:
        """A call to the API with the admin token."""
        token = (self.data / "admin.token").read_text()
        headers = {"authorization": f"Bearer {token}"}
        response = httpx.request(method, f"{self.url}/api/{path}", headers=headers, timeout=30, verify=NO_TLS)
        response.raise_for_status()
        return response.json()

    def redrive(self, **asked: Any) -> httpx.Response:
        """An order to redrive."""
        token = (self.data / "admin.token").read_text()
        headers = {"authorization": f"Bearer {token}"}
        return httpx.post(f"{self.url}/api/redrive", json=asked, headers=headers, timeout=30, verify=NO_TLS)

    def forget_store(self) -> None:
        """Delete the store; the next start builds it from the journal."""
        for suffix in ("", "-wal", "-shm"):
            (self.data / f"store.sqlite{suffix}").unlink(missing_ok=True)

    def digests(self) -> tuple[str, str]:
        """Of a stopped server: the digest of its journal's replay and that of its store, which must be as far."""
        replayed = fold_journal(LocalLog.open_reader(self.data / "journal"))
        database = Database(self.data / "store.sqlite")
        try:
            assert database.meta("applied") == replayed.seq
            return digest(replayed.state), digest(database)
        finally:
            database.close()

    def parked(self) -> list[dict[str, Any]]:
        """Every parked hit, oldest first, over as many pages as there are."""
        found: list[dict[str, Any]] = []
        while page := self.api(f"parked?limit=500&after={found[-1]['hit'] if found else 0}")["parked"]:
            found += page
        return found

    def transactions(self, query: str = "") -> list[dict[str, Any]]:
        """Every transaction, newest first, over as many pages as there are."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self.api(f"transactions?limit=500{after}{query}")
            found += page["transactions"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    def settled(self, cycle: str, seconds: float = 20.0, **expected: int) -> dict[str, int]:
        """The counts of a cycle once nothing of it runs, and those that are named are as expected."""
        until = time.perf_counter() + seconds
        counts: dict[str, int] = {}
        while time.perf_counter() < until:
            counts = self.api(f"cycles/{cycle}")["counts"]
            if counts["running"] == 0 and expected.items() <= counts.items():
                return counts
            self.pause()
        raise AssertionError(f"{cycle} still runs, or is not at {expected}: {counts}")
