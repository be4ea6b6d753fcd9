"""The fulfilment example: an order split by line, a call for each, one closing message for all."""

import json
from pathlib import Path

import httpx

from tests.system.tour import beside_partner, running


def test_given_the_example_when_the_tour_is_pasted_then_each_line_is_handled_and_one_van_called(tmp_path: Path) -> None:
    """Section 9: four lines, of which one is tried twice and one reordered; the van comes after the last of them."""
    with running("fulfilment", tmp_path) as tour:
        assert json.loads(tour.paste())["status"] == "accepted"
        counts = tour.server.settled("fulfilment")
        assert {name: count for name, count in counts.items() if count} == {"completed": 6}
        books = json.loads(tour.paste())
        picked = {one["sku"]: one["count"] for one in books["picks"]}
        assert picked == {"tea": 3, "cup": 6, "slow-lamp": 1}
        assert books["picks"][-1] == {"order": "A1", "sku": "slow-lamp", "count": 1}
        assert books["reorders"] == [{"order": "A1", "sku": "pot", "missing": 1}]
        assert books["vans"] == [{"text": "4 lines are ready"}]
        assert tour.paste().count("completed") == 6
        order = tour.server.transactions()[-1]["transaction"]
        assert len(tour.server.api(f"transactions/{order}")["children"]) == 4
        empty, refused = map(json.loads, tour.paste().splitlines())
        assert empty["status"] == "accepted"
        assert (refused["status"], len(refused["faults"])) == (422, 4)
        assert not tour.left


def test_9_given_two_orders_when_the_server_is_killed_among_their_lines_then_each_is_picked_once(
    tmp_path: Path,
) -> None:
    """Sections 7 and 9: what was open is called again under its key; every line goes by a van, and by one only."""
    counts = range(1, 101)
    with beside_partner("fulfilment", tmp_path) as (server, partner), server:
        for name in ("A1", "A2"):
            lines = [{"sku": "cup", "count": count} for count in counts]
            assert server.hit("orders-to-pick", {"id": name, "lines": lines}).status_code == 202
        while not httpx.get(f"{partner}/books").json()["picks"]:
            server.pause()
        server.kill()
        assert len(httpx.get(f"{partner}/books").json()["picks"]) < 2 * len(counts)
        server.start()
        server.settled("fulfilment")
        books = httpx.get(f"{partner}/books").json()
    picks = sorted((one["order"], one["count"]) for one in books["picks"])
    assert picks == [(name, count) for name in ("A1", "A2") for count in counts]
    assert sum(int(one["text"].split()[0]) for one in books["vans"]) == 2 * len(counts)
