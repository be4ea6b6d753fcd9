"""`cyclewright doctor` beside a real server: a good one, a row broken behind its back, and the metric that stays 0."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from protocol.state import TransactionRow
from tests.runtime.doctor.patients import change
from tests.system.harness import NO_TLS, ROOT, Server

CYCLE = """
cycle: jobs
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: jobs-asked, fields: {job: {type: integer, required: true}}}
  back: {webhook: shop, identifier: jobs-back, fields: {job: integer}, match: {job: asked.job}, hold_for: 1 day}
  done: {note: nothing more}
"""


def doctor(server: Server, *arguments: str) -> tuple[int, Any]:
    """The exit code and the JSON of the command, run as a person runs it: beside the project, finding the server."""
    line = [sys.executable, "-m", "runtime.cli", "doctor", *arguments, "--project", str(server.project), "--json"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, timeout=100, check=False)
    return done.returncode, json.loads(done.stdout)


def levels(told: Any) -> dict[str, str]:
    """How each check came out."""
    return {one["name"]: one["level"] for one in told["checks"]}


def broken(server: Server) -> dict[str, int]:
    """The metric, by rule."""
    text = httpx.get(f"{server.url}/metrics", verify=NO_TLS).text
    lines = [line.split() for line in text.splitlines() if line.startswith("cyclewright_invariants_broken{")]
    return {name.split('"')[1]: int(value) for name, value in lines}


def test_given_a_running_server_then_the_doctor_asks_it_and_reads_the_journal_beside_it(tmp_path: Path) -> None:
    """Live, broken by hand, and stopped by a kill: what is broken is found each time and named."""
    (tmp_path / "jobs.cycle.yaml").write_text(CYCLE)
    server = Server(tmp_path)
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{server.port}"\nconnections_max = 200\n')
    with server:
        for job in range(3):
            assert server.hit("jobs-asked", {"job": job}).status_code == 202
        assert server.hit("jobs-back", {"job": 0}).status_code == 202
        server.settled("jobs", completed=1, held=2)
        code, told = doctor(server, "--compare")
        sick = {name for name, level in levels(told).items() if level in ("warning", "broken")}
        assert sick <= {"disk"}, told  # A machine of tests may have a slow disk, or one that lies.
        assert code == (1 if sick else 0)
        assert levels(told)["digest"] == levels(told)["journal"] == levels(told)["server"] == "ok"
        assert broken(server) == dict.fromkeys("12345678", 0)

        store = server.data / "store.sqlite"
        held = change(store, TransactionRow, "held", lambda row: setattr(row, "step", "nowhere"))
        code, told = doctor(server)
        assert code == 1
        assert levels(told)["invariant 3"] == "broken"
        assert f"jobs-{held}" in json.dumps(told)
        assert broken(server)["3"] == 1
        code, told = doctor(server)
        assert broken(server)["3"] == 1  # The same row, counted once.
        assert "an invariant is broken" in server.log.read_text()

        code, told = doctor(server, server.transactions("&status=completed")[0]["transaction"])
        assert (code, told["waits_for"]) == (0, "nothing")
        server.kill()
    code, told = doctor(server)
    assert code == 1
    assert levels(told)["server"] == "note"
    assert levels(told)["invariant 3"] == "broken"
