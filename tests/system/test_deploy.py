"""Deploying a changed project into a running server (section 11), by the command, the API and the signal."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.system.harness import ROOT, Server, free_port

CYCLE = """
cycle: greets
connectors: {{shop: {{}}}}
steps:
  asked: {{webhook: shop, identifier: greets-asked, fields: {{name: {{type: text, required: true}}}}}}
  words: {{script: "words:greet"}}
  answer: {{respond: {{body: "{0}{{{{ words.result }}}}", body_as: text}}}}
  back: {{webhook: shop, identifier: {1}, fields: {{name: text}}, match: {{name: asked.name}}}}
  bye: {{respond: {{body: "{0}bye", body_as: text}}}}
"""


def write(project: Path, mark: str, identifier: str, words: str) -> None:
    """A version of the project."""
    (project / "greets.cycle.yaml").write_text(CYCLE.format(mark, identifier))
    (project / "words.py").write_text(f"def greet(data): return '{words} ' + data['asked']['name']\n")


def deploy(project: Path) -> subprocess.CompletedProcess[str]:
    """`cyclewright deploy`."""
    command = [sys.executable, "-m", "runtime.cli", "deploy", "--project", str(project)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_11_a_deploy_changes_what_is_new_and_what_held_at_its_next_pass(tmp_path: Path) -> None:
    """Section 11: new requests get the new version, code included; a held transaction moves to it when it is run."""
    port = free_port()
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    write(tmp_path, "1:", "greets-back", "hello")
    with Server(tmp_path, port=port) as server:
        assert server.hit("greets-asked", {"name": "ada"}).text == "1:hello ada"
        write(tmp_path, "2:", "greets-back", "hi")
        done = deploy(tmp_path)
        assert (done.returncode, done.stdout) == (0, "changed: greets\nunchanged: 0\n")
        assert server.hit("greets-asked", {"name": "bob"}).text == "2:hi bob"
        assert server.hit("greets-back", {"name": "ada"}).text == "2:bye"
        assert server.hit("greets-back", {"name": "bob"}).text == "2:bye"
        assert deploy(tmp_path).stdout == "unchanged: 1\n"


def test_11_a_project_with_a_fault_changes_nothing_and_says_why(tmp_path: Path) -> None:
    """Section 11: by command and by API; the server goes on with what it has."""
    port = free_port()
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    write(tmp_path, "1:", "greets-back", "hello")
    with Server(tmp_path, port=port) as server:
        write(tmp_path, "2:", "short", "hi")
        done = deploy(tmp_path)
        assert done.returncode == 1
        assert "greets.cycle.yaml:8: step back: identifier" in done.stdout
        token = (server.data / "admin.token").read_text()
        refused = httpx.post(f"{server.url}/api/deploy", headers={"authorization": f"Bearer {token}"})
        assert (refused.status_code, len(refused.json()["faults"])) == (422, 1)
        assert server.hit("greets-asked", {"name": "ada"}).text == "1:hello ada"
        assert httpx.post(f"{server.url}/api/deploy").status_code == 401


def test_11_sighup_reads_the_project_again(tmp_path: Path) -> None:
    """Section 11: as `deploy` does; an address that is gone is 404, a new one works."""
    write(tmp_path, "1:", "greets-back", "hello")
    with Server(tmp_path) as server:
        assert server.hit("greets-other", {"name": "ada"}).status_code == 404
        write(tmp_path, "2:", "greets-other", "hi")
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        while server.hit("greets-other", {"name": "ada"}).status_code == 404:
            server.pause()
        assert server.hit("greets-back", {"name": "ada"}).status_code == 404
        assert server.terminate() == 0


def test_11_code_that_can_not_be_loaded_is_a_fault_of_the_deploy(tmp_path: Path) -> None:
    """Section 11: the functions of before go on; a server does not start with code that is broken."""
    port = free_port()
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    write(tmp_path, "1:", "greets-back", "hello")
    with Server(tmp_path, port=port) as server:
        (tmp_path / "words.py").write_text("def greet(data) return 1")
        done = deploy(tmp_path)
        assert done.returncode == 1
        assert "words.py" in done.stdout
        assert "SyntaxError" in done.stdout
        assert server.hit("greets-asked", {"name": "ada"}).text == "1:hello ada"
        assert server.terminate() == 0
    command = [sys.executable, "-m", "runtime.cli", "serve", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 1
    assert "SyntaxError" in refused.stderr
    assert "Traceback" not in refused.stderr


STEPS = """
cycle: moves
connectors: {{shop: {{}}}}
steps:
  asked: {{webhook: shop, identifier: moves-asked, fields: {{name: {{type: text, required: true}}{0}}}}}
  back: {{webhook: shop, identifier: moves-back, fields: {{name: text}}, match: {{name: asked.name}}}}
  bye: {{respond: {{body: "{1}", body_as: text}}}}
"""


def test_11_a_transaction_that_held_through_a_deploy_and_kill_9_moves_and_stays_moved(tmp_path: Path) -> None:
    """Section 11: the move is in the journal; a version that maps what it was never given leaves it where it is."""
    port = free_port()
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    project = tmp_path / "moves.cycle.yaml"
    project.write_text(STEPS.format(", pin: {type: text, sensitive: true}", "1 {{ asked.name }}"))
    with Server(tmp_path, port=port) as server:
        assert server.hit("moves-asked", {"name": "ada", "pin": "secret-1"}).status_code == 202
        server.kill()
        server.start()
        project.write_text(STEPS.format("", "2 {{ asked.name }}"))
        assert deploy(tmp_path).stdout == "changed: moves\nunchanged: 0\n"
        server.kill()
        server.forget_store()
        server.start()
        assert server.hit("moves-back", {"name": "ada"}).text == "2 ada"
        server.kill()
        server.start()
        (shown,) = server.transactions()
        row = server.api(f"transactions/{shown['transaction']}")
        assert row["hash"] == server.api("cycles/moves")["hash"]
        assert "secret-1" not in str(row), "what it was given under a version that hides it stays hidden"
        project.write_text(STEPS.format(", vip: text", "3 {{ asked.vip }}"))
        assert deploy(tmp_path).returncode == 0
        assert server.hit("moves-asked", {"name": "bob", "vip": "yes"}).status_code == 202
        assert server.hit("moves-back", {"name": "ada"}).text == "2 ada"
        assert server.hit("moves-back", {"name": "bob"}).text == "3 yes"
        assert server.terminate() == 0
        replayed, stored = server.digests()
        assert replayed == stored
