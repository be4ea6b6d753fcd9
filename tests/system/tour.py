"""An example as a newcomer runs it: `examples/run.py` on a copy of its folder, and its lines pasted into a shell."""

import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.system.harness import ROOT, Server, free_port

EXAMPLES = ROOT / "examples"
READY_S = 30.0
PASTED_S = 30.0
SHOWN_AT = "Ctrl-C stops both."
END = "-- pasted --"
RUN: dict[str, Any] = runpy.run_path(str(EXAMPLES / "run.py"))


def paragraphs(name: str) -> list[str]:
    """The shell commands that an example prints, one string for each paragraph."""
    return [part.strip() for part in RUN["lines_to_paste"](EXAMPLES / name).split("\n\n")]


class Tour:
    """A running example.

    Attributes:
        name: of the example.
        server: its server, which `examples/run.py` started.
        partner: the address of its partner.
        left: the paragraphs that were not pasted yet.
    """

    def __init__(self, name: str, server: Server, partner: str, shell: subprocess.Popen[str]) -> None:
        self.name = name
        self.server = server
        self.partner = partner
        self.left = paragraphs(name)
        self._shell = shell
        self.places = {
            "127.0.0.1:8080": server.url.removeprefix("http://"),
            "127.0.0.1:9000": partner.removeprefix("http://"),
            ".venv/bin/cyclewright": f"{sys.executable} -m runtime.cli",
            f"examples/{name}": str(server.project),
        }

    @property
    def secrets(self) -> dict[str, str]:
        """Those of its demo.env."""
        found: dict[str, str] = RUN["demo_secrets"](EXAMPLES / self.name)
        return found

    def ask_partner(self, path: str, **headers: str) -> Any:
        """What the partner shows."""
        response = httpx.get(f"{self.partner}{path}", headers=headers, timeout=10)
        response.raise_for_status()
        return response.json()

    def paste(self) -> str:
        """Paste the next paragraph into the one shell of the tour, and give what it printed."""
        text = self.left.pop(0)
        for printed, here in self.places.items():
            text = text.replace(printed, here)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{text}\necho '{END}'\n")
        self._shell.stdin.flush()
        guard = threading.Timer(PASTED_S, self._shell.kill)
        guard.start()
        try:
            said: list[str] = []
            for line in self._shell.stdout:
                if line.strip() == END:
                    return "".join(said).strip()
                said.append(line)
        finally:
            guard.cancel()
        raise AssertionError(f"the shell ended at\n{text}\nafter it said\n{''.join(said)}")


@contextmanager
def running(name: str, folder: Path, changes: Mapping[str, str] | None = None) -> Generator[Tour]:
    """An example on ports of its own, from a copy of its folder; at the end Ctrl-C, which must stop both.

    Args:
        name: of the example.
        folder: where the copy is made.
        changes: texts of its cycle files to be replaced in the copy, such as a hold of days.
    """
    server, partner = _copy(name, folder, changes or {})
    command = [sys.executable, str(EXAMPLES / "run.py"), str(server.project)]
    pipe = subprocess.PIPE
    with (
        server.log.open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process,
        subprocess.Popen(["/bin/bash", "-eu"], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as shell,
    ):
        server.process = process  # Whoever waits for the server waits on it.
        try:
            _await_lines(server)
            yield Tour(name, server, f"http://{partner}", shell)
            process.send_signal(signal.SIGINT)
            assert process.wait(40) == 0, server.log.read_text()
        finally:
            shell.kill()
            if process.poll() is None:
                process.terminate()


def _await_lines(server: Server) -> None:
    """Wait until the lines to paste are shown, which is when both are ready."""
    until = time.perf_counter() + READY_S
    while SHOWN_AT not in server.log.read_text():
        assert server.process is not None
        assert server.process.poll() is None, server.log.read_text()
        assert time.perf_counter() < until, server.log.read_text()
        server.pause()


@contextmanager
def beside_partner(name: str, folder: Path) -> Generator[tuple[Server, str]]:
    """The server of an example, not started yet and to be killed at will, beside its partner, which lives on."""
    server, partner = _copy(name, folder, {})
    command = [sys.executable, str(EXAMPLES / "run.py"), str(server.project), "partner"]
    with server.log.open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process:
        try:
            yield server, f"http://{partner}"
        finally:
            process.terminate()


def _copy(name: str, folder: Path, changes: Mapping[str, str]) -> tuple[Server, str]:
    """A copy of an example on ports of its own: its server, and the address of its partner."""
    project = folder / name
    shutil.copytree(EXAMPLES / name, project, ignore=shutil.ignore_patterns(".cyclewright", "__pycache__"))
    server, partner = Server(project, environment=RUN["demo_secrets"](project)), f"127.0.0.1:{free_port()}"
    (project / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{server.port}"\n')
    connectors = project / "connectors.yaml"
    connectors.write_text(connectors.read_text().replace("127.0.0.1:9000", partner))
    for cycle in project.glob("*.cycle.yaml") if changes else ():
        for old, new in changes.items():
            cycle.write_text(cycle.read_text().replace(old, new))
    return server, partner
