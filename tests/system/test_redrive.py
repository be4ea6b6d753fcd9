"""Redrive over a real server (section 13): filters, previews, receipts and lineage; and a kill -9 in the middle."""

import json
import os
import pty
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.cli.main import run
from tests.system.harness import ROOT, Server
from tests.system.partner import Partner

CYCLE = """
cycle: jobs
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, identifier: jobs-asked, fields: {job: {type: integer, required: true}}}
  work: {post: remote, path: /effects, body: {job: "{{ asked.job }}"}}
  back:
    webhook: shop
    identifier: jobs-back
    fields: {job: {type: integer, required: true}}
    match: {job: asked.job}
    park: 1 second
  tell: {post: remote, path: /effects, body: {told: "{{ asked.job }}"}}
"""
JOBS = 40
KILLS = 5


class World:
    """A server and the remote system that it calls."""

    def __init__(self, server: Server, partner: Partner) -> None:
        self.server = server
        self.partner = partner

    def ask(self, *jobs: int, status: int = 500) -> list[str]:
        """Requests whose first call is answered so; their transactions."""
        self.partner.status = status
        names = [self.server.hit("jobs-asked", {"job": job}).json()["transaction"] for job in jobs]
        self.server.settled("jobs")
        self.partner.status = 200
        return names

    def redrive(self, **asked: Any) -> Any:
        """The receipt of an order that is taken."""
        answer = self.server.redrive(**asked)
        assert answer.status_code == 200, answer.text
        self.server.settled("jobs")
        return answer.json()

    def show(self, name: str) -> Any:
        """A transaction."""
        return self.server.api(f"transactions/{name}")

    def cli(self, *arguments: str, code: int = 0) -> str:
        """What a command to this server says."""
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            ended = run(["redrive", *arguments, "--project", str(self.server.project), "--server", self.server.url])
        assert ended == code, said.getvalue()
        return said.getvalue()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A running server with one cycle."""
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(CYCLE % partner.url)
        with Server(tmp_path) as server:
            yield World(server, partner)


def outcomes(receipt: Any) -> dict[Any, str]:
    """What became of each item."""
    return {one["item"]: one["outcome"] for one in receipt["items"]}


def test_13_a_set_is_looked_at_resumed_once_and_its_lineage_shown(world: World) -> None:
    """Section 13: a preview changes nothing; a receipt says what each item became; both ways lead to each other."""
    first, second = world.ask(1, 2)
    (held,) = world.ask(3, status=200)
    chosen = {"action": "resume", "filter": {"cycle": "jobs", "status": "failed"}}
    seen = world.redrive(**chosen, preview=True)
    assert (outcomes(seen), seen["possible"], seen["order"]) == ({first: "possible", second: "possible"}, 2, None)
    assert world.server.api("cycles/jobs")["counts"]["failed"] == 2
    done = world.redrive(**chosen, order="o1")
    assert (done["done"], done["refused"], done["next"]) == (2, 0, None)
    (one,) = (item for item in done["items"] if item["item"] == first)
    new = world.show(one["transaction"])
    assert (new["status"], one["step"], list(new["steps"])) == ("held", "work", ["asked", "work"])
    assert new["redrives"]["transaction"] == first
    assert (new["redrives"]["action"], new["redrives"]["order"]) == ("resume", "o1")
    old = world.show(first)
    assert (old["status"], old["redriven"]) == ("failed", [one["transaction"]])
    assert old["passes"][0]["redriven"] == [{"hit": one["hit"], "transaction": one["transaction"]}]
    assert world.show(held)["redriven"] == []
    again = world.redrive(**chosen, order="o1")
    assert (again["already"], {item["transaction"] for item in again["items"]}) == (
        2,
        {item["transaction"] for item in done["items"]},
    )
    assert world.server.redrive(**{**chosen, "filter": {}}, ids=[first], order="o1").status_code == 409


def test_13_a_call_that_may_have_acted_is_repeated_under_its_key(world: World) -> None:
    """Section 13: the remote of a 500 sees one key over both transactions; that of a 422 sees two."""
    for status, keys in ((500, 1), (422, 2)):
        world.partner.effects.clear()
        (name,) = world.ask(status, status=status)
        world.redrive(action="resume", ids=[name], order=f"o{status}")
        assert (len(world.partner.effects), sum(world.partner.effects.values())) == (keys, 2)


def test_13_requests_are_delivered_again_from_the_journal(world: World) -> None:
    """Section 13: the store has no body any more; those that expired are found, too."""
    (name,) = world.ask(1)
    parked = world.server.hit("jobs-back", {"job": 7})
    assert parked.json()["status"] == "parked"
    while world.server.parked():
        world.server.pause()
    receipt = world.redrive(action="redeliver", filter={"status": "expired", "value": "7"}, order="o1")
    assert [(one["item"], one["outcome"], one["transaction"]) for one in receipt["items"]] == [
        (parked.json()["hit"], "done", None)
    ]
    receipt = world.redrive(action="redeliver", filter={"status": "failed"}, order="o2")
    (one,) = receipt["items"]
    new = world.show(one["transaction"])
    assert (new["status"], new["steps"]["asked"]) == ("held", {"job": 1})
    assert new["passes"][0]["redrives"]["transaction"] == name
    refused = world.redrive(action="redeliver", ids=[name], order="o3")
    assert "it was redriven as hit" in refused["items"][0]["reason"]


def test_13_a_rerun_is_found_by_the_value_it_had_reached(world: World) -> None:
    """Section 13: what failed after its hold is no candidate any more, and is still found by its value."""
    (name,) = world.ask(41, status=200)
    world.ask(42, status=200)
    world.partner.status = 500
    world.server.hit("jobs-back", {"job": 41})
    world.server.settled("jobs")
    world.partner.status = 200
    receipt = world.redrive(action="rerun", filter={"status": "failed", "value": "41"}, order="o1")
    assert outcomes(receipt) == {name: "done"}
    new = world.show(receipt["items"][0]["transaction"])
    assert (new["status"], new["pass"]) == ("held", 1)


def test_13_pages_go_on_below_the_one_before(world: World) -> None:
    """Section 13: an order is bounded; its pages never hold what the order itself made."""
    names = world.ask(1, 2, 3)[::-1]
    world.partner.status = 500
    chosen: dict[str, Any] = {"action": "resume", "filter": {"status": "failed"}, "order": "o1", "limit": 2}
    world.partner.status = 500
    first = world.redrive(**chosen)
    second = world.redrive(**chosen, after=first["next"])
    assert [one["item"] for one in (*first["items"], *second["items"])] == names
    assert second["next"] is None
    assert world.server.api("cycles/jobs")["counts"]["failed"] == 6
    assert world.redrive(**chosen)["already"] == 2
    assert world.redrive(**chosen)["next"] == first["next"]


def test_13_a_stopped_cycle_refuses_each_item_and_the_same_order_goes_on_later(world: World) -> None:
    """Section 13: refused with the reason, in the receipt."""
    (name,) = world.ask(1)
    world.server.api("cycles/jobs/stop", method="POST")
    refused = world.redrive(action="rerun", ids=[name], order="o1")
    assert (refused["refused"], "start it first" in refused["items"][0]["reason"]) == (1, True)
    world.server.api("cycles/jobs/start", method="POST")
    assert world.redrive(action="rerun", ids=[name], order="o1")["done"] == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"action": "resume", "filter": {"status": "failed"}}, "order"),
        ({"action": "resume", "order": "o1"}, "choose a set"),
        ({"action": "resume", "order": "o1", "filter": {"status": "fialed"}}, "did you mean failed"),
        ({"action": "resume", "order": "o1", "filter": {"cyle": "jobs"}}, "did you mean cycle"),
        ({"action": "resume", "order": "o1", "ids": ["jobs-999"]}, "ids[0]"),
        ({"action": "resume", "order": "o1", "ids": [1]}, "ids[0]"),
        ({"action": "undo", "order": "o1", "ids": ["jobs-1"]}, "$.action"),
        ({"action": "resume", "order": "o1", "ids": ["jobs-1"] * 501}, "$.ids"),
        ({"action": "resume", "order": "o1", "ids": ["jobs-1"], "unknown": 1}, "unknown"),
    ],
)
def test_13_a_bad_order_is_refused_by_name(asked: dict[str, Any], said: str, quiet: Server) -> None:
    """Section 13: nothing is redriven of an order that is not understood."""
    answer = quiet.redrive(**asked)
    assert (answer.status_code, said in answer.text) == (400, True), answer.text
    assert httpx.post(f"{quiet.url}/api/redrive", json=asked).status_code == 401


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server where nothing happens."""
    project = tmp_path_factory.mktemp("quiet")
    (project / "jobs.cycle.yaml").write_text(CYCLE % "http://127.0.0.1:9")
    with Server(project) as server:
        yield server


def test_13_the_command_line_shows_first_and_does_what_it_is_told(world: World) -> None:
    """Section 13 and 15: the same words as the API; nobody is asked where nobody is."""
    (name,) = world.ask(1)
    assert f"{name}  possible  work" in re.sub(" +", "  ", world.cli("resume", "--status", "failed", "--preview"))
    assert "say --yes" in world.cli("resume", name, code=2)
    assert world.show(name)["redriven"] == []
    assert "order fix: 1 done" in world.cli("resume", name, "--yes", "--order", "fix")
    world.server.settled("jobs")
    receipt = json.loads(world.cli("resume", name, "--yes", "--order", "fix", "--json"))
    assert receipt["already"] == 1
    assert "redriven as" in world.cli("resume", "--status", "failed", "--yes", code=1)
    said = StringIO()
    with redirect_stdout(said):
        run(["transactions", "show", name, "--project", str(world.server.project), "--server", world.server.url])
    new = receipt["items"][0]["transaction"]
    assert f"  redriven as {new}" in said.getvalue()
    with redirect_stdout(said):
        run(["transactions", "show", new, "--project", str(world.server.project), "--server", world.server.url])
    assert f"  resume of {name}, by order fix" in said.getvalue()


def test_13_at_a_terminal_a_person_is_asked(world: World) -> None:
    """Section 13: an order is given by a yes, and by nothing else."""
    (name,) = world.ask(1)
    place = ["--project", str(world.server.project), "--server", world.server.url]
    for said, code, redriven in ((b"n\n", 1, 0), (b"y\n", 0, 1)):
        master, terminal = pty.openpty()
        os.write(master, said)
        done = subprocess.run(
            [sys.executable, "-m", "runtime.cli", "redrive", "rerun", name, *place],
            stdin=terminal,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=False,
        )
        os.close(master)
        os.close(terminal)
        assert (done.returncode, "rerun 1?" in done.stderr) == (code, True), done
        assert len(world.show(name)["redriven"]) == redriven


@pytest.mark.timeout(180)
def test_13_an_order_acts_once_also_when_the_process_is_killed_in_its_middle(tmp_path: Path) -> None:
    """Section 13: given again until it is done, each item has one redrive, and the remote sees one key for each."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    order = {"action": "resume", "filter": {"status": "failed"}, "order": "fix"}
    with Partner() as partner:
        (tmp_path / "jobs.cycle.yaml").write_text(CYCLE % partner.url)
        server = Server(tmp_path)
        server.start()
        names = World(server, partner).ask(*range(JOBS))
        server.kill()
        for kill in range(KILLS):
            server.start()
            _killed_meanwhile(server, order, chance.uniform(0.0, 0.25))
            if kill == 2:
                server.forget_store()
        with server:
            print("already", len(server.transactions()) - JOBS)
            receipt = server.redrive(**order).json()
            server.settled("jobs")
            assert (receipt["done"] + receipt["already"], receipt["refused"]) == (JOBS, 0)
            assert server.redrive(**order).json()["already"] == JOBS
            redriven = Counter(len(server.api(f"transactions/{name}")["redriven"]) for name in names)
            assert redriven == {1: JOBS}
            assert len(server.transactions()) == 2 * JOBS
            assert server.terminate() == 0
            replayed, live = server.digests()
            assert replayed == live
        assert len(partner.effects) == JOBS, "an effect ran under a second key"


def _killed_meanwhile(server: Server, order: dict[str, Any], after_s: float) -> None:
    """Give an order, and kill the server some time later, wherever it is by then."""

    def give() -> None:
        try:
            server.redrive(**order)
        except httpx.TransportError:
            return

    client = threading.Thread(target=give)
    client.start()
    client.join(after_s)
    server.kill()
    client.join()
