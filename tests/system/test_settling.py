"""Section 7 over real sockets: a kill -9 amid a call that nobody may repeat, and a person's three answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.harness import ROOT, Server
from tests.system.partner import Partner

CYCLE = """
cycle: pays
connectors: {shop: {}, bank: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, identifier: pays-asked, fields: {n: {type: integer, required: true}}}
  pay: {post: bank, path: /signal, body: {n: "{{ asked.n }}"}, safe_to_repeat: no}
  note: {post: bank, path: /effects, body: {noted: "{{ asked.n }}"}}
"""


def command(server: Server, *arguments: str) -> Any:
    """What a command prints as JSON, in a process of its own as a person runs it."""
    line = [sys.executable, "-m", "runtime.cli", *arguments, "--project", str(server.project), "--server", server.url]
    done = subprocess.run([*line, "--json"], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def say(server: Server, way: str, transaction: str, answer: str) -> str:
    """A person's word; the status that the transaction has then."""
    if way == "api":
        return str(server.api(f"transactions/{transaction}/{answer}", method="POST")["status"])
    return str(command(server, "transactions", "settle", transaction, answer)["status"])


@pytest.mark.parametrize("way", ["api", "command line"])
def test_7_a_person_settles_what_a_kill_left_unknown(tmp_path: Path, way: str) -> None:
    """Given three calls in flight at a kill -9, then none is repeated by itself, and each answer does what it says."""
    with Partner() as partner:
        (tmp_path / "pays.cycle.yaml").write_text(CYCLE % partner.url)
        server = Server(tmp_path)
        with partner.waiting() as asked:
            server.start()
            for n in range(3):
                assert server.hit("pays-asked", {"n": n}).status_code == 202
            for _ in range(3):
                asked()
            server.kill()
        with server:
            assert server.settled("pays")["held"] == 3, "each waits for a person"
            rows = [server.api(f"transactions/{one['transaction']}") for one in server.transactions()]
            assert [row["call"]["unknown"] for row in rows] == [True] * 3
            assert [one["kind"] for row in rows for one in row["incidents"]] == ["unknown_outcome"] * 3
            assert not [body for body in partner.bodies if "noted" in body]
            keys = {row["transaction"]: row["call"]["idempotency_key"] for row in rows}
            names = {row["steps"]["asked"]["n"]: row["transaction"] for row in rows}
            assert [say(server, way, names[n], answer) for n, answer in enumerate(("resend", "done", "fail"))] == [
                *("running", "running", "failed")
            ]
            counts = server.settled("pays")
            assert (counts["completed"], counts["failed"]) == (2, 1)
            assert [partner.effects[keys[names[n]]] for n in range(3)] == [2, 1, 1], "only one was sent again"
            assert sorted(body["noted"] for body in partner.bodies if "noted" in body) == [0, 1]
            with pytest.raises(httpx.HTTPStatusError, match="409"):
                server.api(f"transactions/{names[0]}/resend", method="POST")
            assert server.terminate() == 0
        replayed, live = server.digests()
        assert replayed == live
