"""Retention of a real server, killed while it goes on (section 11): the disk shrinks, and nothing kept is lost."""

import random
import time
from pathlib import Path

import httpx
import pytest

from journal import LocalLog, verify
from runtime.config import CONFIG_FILE
from tests.system.harness import Server

PARCELS = """
cycle: parcels
connectors: {shop: {}}
settings: {retention: {completed: 500 milliseconds, failed: 1 second}}
steps:
  sent: {webhook: shop, identifier: parcels-sent, fields: {job: integer, text: text}}
  holds: {decide: "sent.job == 0", else: end}
  back: {webhook: shop, identifier: parcels-back, fields: {job: integer}, match: {job: sent.job}}
  done: {decide: "true"}
"""
LETTERS = """
cycle: letters
connectors: {shop: {}}
settings: {retention: {completed: 1 second}}
steps:
  sent: {webhook: shop, identifier: letters-sent, dedupe: {header: x-id, window: 1 hour}, fields: {text: text}}
  said: {respond: {body: {text: "{{ sent.text }}"}}}
"""
SEGMENT = 32 << 20
BIG = "x" * 900_000


def disk(server: Server) -> int:
    """Bytes of all segments."""
    return sum(path.stat().st_size for path in (server.data / "journal").glob("*.seg") if path.exists())


def first_seq(server: Server) -> int:
    return LocalLog.open_reader(server.data / "journal").first_seq


def fill(server: Server, count: int, text: str = BIG) -> None:
    """Requests of a megabyte each, which are journaled as they came and as data."""
    for number in range(count):
        assert server.hit("parcels-sent", {"job": number + 1, "text": text}).status_code == 202


def until_dropped(server: Server, after: int, most: int, seconds: float = 60.0) -> int:
    """Wait until the journal begins later than it did, and takes so many bytes at most; returns where it begins."""
    end = time.perf_counter() + seconds
    while (first := first_seq(server)) <= after or disk(server) > most:
        assert time.perf_counter() < end, server.log.read_text()[-3000:]
        fill(server, 1, "little")  # Segments go up to the older of two snapshots, so there must be something new.
    return first


@pytest.mark.timeout(240)
def test_11_the_disk_shrinks_and_what_is_kept_survives_kills_and_a_lost_store(tmp_path: Path) -> None:
    """Rows and segments go while the server is killed again and again; the store, lost, comes back from a snapshot."""
    (tmp_path / "parcels.cycle.yaml").write_text(PARCELS)
    (tmp_path / "letters.cycle.yaml").write_text(LETTERS)
    (tmp_path / CONFIG_FILE).write_text(f'segment_bytes = {SEGMENT}\n[retention]\nfailed = "1 day"\n')
    chance = random.Random(11)
    server = Server(tmp_path)
    with server:
        fill(server, 90)  # Five segments, of which some may have gone already.
        server.hit("parcels-sent", {"job": 0, "text": "held"})
        parcel = server.hit("parcels-sent", {"job": 1}, **{"idempotency-key": "p1"}).json()
        letter = server.hit("letters-sent", {"text": "dear"}, **{"x-id": "l1"})
        first = until_dropped(server, 0, 3 * SEGMENT)
        for _ in range(4):  # While rounds go on: rows go, a snapshot is written, segments are dropped.
            fill(server, 20)
            end = time.perf_counter() + chance.uniform(0.2, 2.5)
            while time.perf_counter() < end:
                server.pause()
            server.kill()
            assert verify(server.data / "journal").faults == ()
            if chance.random() < 0.5:
                server.forget_store()
            server.start()
        status = httpx.get(parcel["status_url"]).json()
        assert (status["status"], status["transaction"]) == ("removed", parcel["transaction"])
        again = server.hit("letters-sent", {"text": "dear"}, **{"x-id": "l1"})
        assert (again.status_code, again.content, again.headers["cyclewright-duplicate"]) == (
            200,
            letter.content,
            "true",
        )
        assert server.hit("parcels-back", {"job": 0}).json()["status"] == "resumed"
        assert server.terminate() == 0
    replayed, live = server.digests()
    assert replayed == live
    server.forget_store()
    server.start()
    assert server.terminate() == 0
    assert len(set(server.digests())) == 1
    assert first_seq(server) >= first > 0
