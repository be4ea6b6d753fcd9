"""The example and the README are run, so that what a newcomer pastes works and shows what was promised."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from protocol.check import check_project
from protocol.loading import Source
from runtime.project import read_project
from tests.system.harness import ROOT, Server, free_port

ORDERS = ROOT / "examples" / "orders"
README = (ROOT / "README.md").read_text()
COMMAND_S = 30.0


def make_warehouse() -> Any:
    """The warehouse of the example, with empty books."""
    return runpy.run_path(str(ORDERS / "warehouse.py"))["make_warehouse"]()


def tour(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shell commands that `make serve` prints, one string for each paragraph."""
    monkeypatch.syspath_prepend(ORDERS)
    text: str = runpy.run_path(str(ORDERS / "run.py"))["TOUR"]
    return [part for part in text.split("\n\n") if part.lstrip().startswith("#")]


def test_given_the_example_when_checked_then_it_has_no_faults() -> None:
    """Every cycle of the example is fit to run."""
    definitions, faults = read_project(ORDERS)
    assert not faults
    assert set(definitions) == {"order_fulfilment", "quote", "refund", "refund_ledger"}


def test_given_the_cycle_of_the_readme_when_checked_then_it_has_no_faults() -> None:
    """The cycle a newcomer reads first can be copied and run."""
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    connectors = Source("connectors.yaml", (ORDERS / "connectors.yaml").read_text())
    definitions, faults = check_project([Source("readme.cycle.yaml", found[1]), connectors])
    assert not faults
    assert set(definitions) == {"order_fulfilment"}


@pytest.mark.parametrize("path", ["/shipments", "/messages"])
async def test_given_a_key_when_a_call_comes_again_then_it_has_one_effect(path: str) -> None:
    """The warehouse honours Idempotency-Key; calls without one are each their own."""
    client = make_warehouse().test_client()
    once = {"idempotency-key": "order_fulfilment-1.step.1"}
    answers = [await (await client.post(path, json={}, headers=key)).get_json() for key in (once, once, {}, {})]
    assert answers[0] == answers[1]
    assert len({json.dumps(answer) for answer in answers}) == 3
    counts = await (await client.get("/counts")).get_json()
    assert counts["requests"] == {path: 4}
    assert counts[path.strip("/")] == 3


async def test_given_the_example_when_the_tour_is_pasted_then_it_shows_what_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of `make serve`, in a real shell against both real servers, on ports of their own."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    paragraphs = tour(monkeypatch)
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, make_warehouse(), config, shutdown_trigger=trio.sleep_forever))
        warehouse = urls[0].removeprefix("http://")
        await trio.to_thread.run_sync(_take_the_tour, tmp_path / "orders", warehouse, paragraphs)
        nursery.cancel_scope.cancel()


def _take_the_tour(project: Path, warehouse: str, paragraphs: list[str]) -> None:
    shutil.copytree(ORDERS, project, ignore=shutil.ignore_patterns(".cyclewright", "__pycache__"))
    port = free_port()
    (project / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    connectors = project / "connectors.yaml"
    connectors.write_text(connectors.read_text().replace("127.0.0.1:9000", warehouse))
    places = {
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        "127.0.0.1:9000": warehouse,
        ".venv/bin/cyclewright": f"{sys.executable} -m runtime.cli",
        "examples/orders": str(project),
    }
    with Server(project, port=port) as server:
        order, reports, messages, look, quote, refund = (partial(_paste, part, places) for part in paragraphs)
        _order_is_told_once(server, order, reports, messages)
        transaction = server.transactions()[0]["transaction"]
        places["order_fulfilment-N"] = transaction
        seen = look()
        assert f"{transaction} completed, pass 5" in seen
        assert re.findall(r"^\d +(\w+) +done ", seen, re.MULTILINE) == ["order_placed", *["status_changed"] * 4]
        assert quote().strip() == '{"sku":"tea","total":12}'
        assert quote().strip() in README
        assert re.fullmatch(r'\{"order":"A1","entry":"refund_ledger-\d+"\}', refund().strip())
        assert server.terminate() == 0


def _order_is_told_once(
    server: Server, order: Callable[[], str], reports: Callable[[], str], messages: Callable[[], str]
) -> None:
    """One order, four reports, one message; a report that overtakes the booking is parked, which is as good."""
    assert json.loads(order())["status"] == "accepted"
    answers = [json.loads(line) for line in reports().splitlines()]
    assert len(answers) == 4
    assert {answer["status"] for answer in answers} <= {"resumed", "parked"}
    counts = server.settled("order_fulfilment")
    assert counts["completed"] == 1
    said = messages().strip()
    assert said == '{"messages":[{"text":"On its way","to":"A1"}]}'
    assert said in README


def _paste(paragraph: str, places: dict[str, str]) -> str:
    for printed, here in places.items():
        paragraph = paragraph.replace(printed, here)
    done = subprocess.run(
        ["/bin/bash", "-euc", paragraph], capture_output=True, text=True, timeout=COMMAND_S, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
