"""Section 10 over real sockets: no kill -9 loses an alert, and who is told can tell a repeat by its key."""

import random
from collections import defaultdict
from pathlib import Path

from tests.system.harness import Server
from tests.system.partner import Partner

ORDERS = """
cycle: orders
connectors: {shop: {}, gone: {base_url: "http://127.0.0.1:9", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: orders-asked, fields: {n: {type: integer, required: true}}}
  %s
"""
SETTINGS = """
[alerts]
url = "%s/effects"
allow_private = true
"""
KILLS = 8


def test_10_every_incident_is_told_whenever_the_process_dies(tmp_path: Path) -> None:
    """Given failing steps and kills at random instants, then each incident is told, under one key and body."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    steps = "\n  ".join(f"call_{letter}: {{post: gone, path: /}}" for letter in "abc")
    (tmp_path / "orders.cycle.yaml").write_text(ORDERS % steps)
    with Partner() as partner:
        (tmp_path / "cyclewright.toml").write_text(SETTINGS % partner.url)
        server = Server(tmp_path)
        for kill in range(KILLS):
            server.start()
            for n in range(chance.randrange(1, 5)):
                assert server.hit("orders-asked", {"n": n}).status_code == 202
                for _ in range(chance.randrange(20)):
                    server.pause()
            server.kill()
            if kill == KILLS // 2:
                server.forget_store()
        with server:
            for _ in range(1000):
                told = server.api("cycles/orders")["alerts"]
                if not told["waiting"] and not told["sending"] and server.settled("orders"):
                    break
                server.pause()
            incidents = {one["id"] for one in server.api("incidents?limit=500")["incidents"]}
            assert server.terminate() == 0
        replayed, live = server.digests()
        assert replayed == live
    bodies: defaultdict[str, list[str]] = defaultdict(list)
    for headers, body in zip(partner.heard, partner.bodies, strict=True):
        bodies[headers["idempotency-key"]].append(str(body))
    assert all(len(set(told)) == 1 for told in bodies.values()), "a repeat says the same"
    first_of_each = {told[0]: next(body for body in partner.bodies if str(body) == told[0]) for told in bodies.values()}
    assert sum(body["count"] for body in first_of_each.values()) == len(incidents)
    assert {body["kind"] for body in first_of_each.values()} == {"connection_failed"}
