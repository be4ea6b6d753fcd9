"""The example and the README are run, so that what a newcomer pastes works and shows what was promised."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from protocol.check import check_project
from protocol.loading import Source
from runtime.project import read_project
from tests.system.harness import ROOT
from tests.system.tour import EXAMPLES, RUN, Tour, paragraphs, running

FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/README.md"))
ORDERS = EXAMPLES / "orders"
README = (ROOT / "README.md").read_text()
README_LINES_MAX = 40


def make_warehouse() -> Any:
    """The warehouse of the example, with empty books."""
    return RUN["partner_app"](ORDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_given_an_example_when_checked_then_it_has_no_faults(folder: Path) -> None:
    """Every cycle of an example is fit to run."""
    definitions, faults = read_project(folder)
    assert not faults, [str(fault) for fault in faults]
    assert definitions


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_given_an_example_then_its_readme_is_short_and_shows_lines_to_paste(folder: Path) -> None:
    """What it shows, how to run it, what to try: on one screen; and the README of the project leads there."""
    assert len((folder / "README.md").read_text().splitlines()) < README_LINES_MAX
    assert f"examples/{folder.name}" in README
    assert all(part.startswith("#") for part in paragraphs(folder.name))


def test_given_the_cycle_of_the_readme_when_checked_then_it_has_no_faults() -> None:
    """The cycle a newcomer reads first can be copied and run."""
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    definitions, faults = check_project([Source("readme.cycle.yaml", found[1])])
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


def test_given_the_example_when_the_tour_is_pasted_then_it_shows_what_the_readme_says(tmp_path: Path) -> None:
    """The lines of `make serve`, in a real shell against both real servers, on ports of their own."""
    with running("orders", tmp_path) as tour:
        _order_is_told_once(tour)
        transaction = tour.server.transactions()[0]["transaction"]
        tour.places["order_fulfilment-N"] = transaction
        seen = tour.paste()
        assert f"{transaction} completed, pass 5" in seen
        assert re.findall(r"^\d +(\w+) +done ", seen, re.MULTILINE) == ["order_placed", *["status_changed"] * 4]
        quote = tour.paste()
        assert quote == '{"sku":"tea","total":12}'
        assert quote in README
        assert re.fullmatch(r'\{"order":"A1","entry":"refund_ledger-\d+"\}', tour.paste())
        assert not tour.left


def _order_is_told_once(tour: Tour) -> None:
    """One order, four reports, one message; a report that overtakes the booking is parked, which is as good."""
    assert json.loads(tour.paste())["status"] == "accepted"
    answers = [json.loads(line) for line in tour.paste().splitlines()]
    assert len(answers) == 4
    assert {answer["status"] for answer in answers} <= {"resumed", "parked"}
    assert tour.server.settled("order_fulfilment")["completed"] == 1
    said = tour.paste()
    assert said == '{"messages":[{"text":"On its way","to":"A1"}]}'
    assert said in README
