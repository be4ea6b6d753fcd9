"""Run once (section 11) over HTTP, by the command and the API, and through kill -9."""

import subprocess
import sys
from pathlib import Path

import httpx

from tests.system.harness import ROOT, Server, free_port

CYCLE = """
cycle: tries
connectors: {shop: {}}
settings: {while_stopped: refuse}
steps:
  asked: {webhook: shop, identifier: tries-asked, fields: {name: {type: text, required: true}}}
  answer: {respond: {body: "hello {{ asked.name }}", body_as: text}}
  back: {webhook: shop, identifier: tries-back, fields: {name: text}, match: {name: asked.name}}
  bye: {respond: {body: bye, body_as: text}}
"""


def order(project: Path, *words: str) -> str:
    """An order by the command line; what it prints."""
    command = [sys.executable, "-m", "runtime.cli", *words, "tries", "--project", str(project)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False).stdout


def test_11_a_stopped_cycle_runs_one_request_also_after_a_crash(tmp_path: Path) -> None:
    """Section 11: the order is durable when it is answered; the second request finds the cycle stopped."""
    port = free_port()
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    (tmp_path / "tries.cycle.yaml").write_text(CYCLE)
    with Server(tmp_path, port=port) as server:
        token = {"authorization": f"Bearer {(server.data / 'admin.token').read_text()}"}
        refused = httpx.post(f"{server.url}/api/cycles/tries/run-once", headers=token)
        assert (refused.status_code, refused.json()["detail"]) == (409, "cycle tries is running: stop it first")
        assert order(tmp_path, "stop") == "tries is stopped\n"
        assert order(tmp_path, "run-once") == "tries is stopped and waits for one request\n"
        server.kill()
        server.start()
        shown = server.api("cycles/tries")
        assert (shown["status"], shown["once"]) == ("stopped", "waiting")
        assert server.hit("tries-asked", {"nme": "ada"}).status_code == 422
        assert server.hit("tries-asked", {"name": "ada"}).text == "hello ada"
        assert server.hit("tries-asked", {"name": "bob"}).status_code == 409
        assert server.hit("tries-back", {"name": "ada"}).status_code == 409
        shown = server.api("cycles/tries")
        assert (shown["status"], shown["once"], shown["counts"]["held"]) == ("stopped", None, 1)
        assert order(tmp_path, "run-once") == "tries is stopped and waits for one request\n"
        assert order(tmp_path, "stop") == "tries is stopped: 1 held\n"
        assert server.hit("tries-asked", {"name": "bob"}).status_code == 409
        order(tmp_path, "start")
        assert server.hit("tries-back", {"name": "ada"}).text == "bye"
        assert server.terminate() == 0
        replayed, stored = server.digests()
        assert replayed == stored
