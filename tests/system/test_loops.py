"""Section 8 over real sockets: a loop ends with 508 and one incident, whichever way it comes back."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocol.chain import CHAIN_HEADER, TRACE_HEADER
from tests.system.harness import Server, free_port
from tests.system.partner import Partner

LOOP = """
cycle: %s
connectors: {shop: {}, on: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction, max_depth: 5}
steps:
  asked: {webhook: shop, identifier: %s-asked}
  onward: {post: on, path: "/webhook/%s-asked", body: {again: true}}
"""
ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def relaying(port: int) -> Generator[str]:
    """A proxy in front of a server on this port, under a name of its own; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told = httpx.post(
                f"http://127.0.0.1:{port}{self.path}", content=body, headers=dict(self.headers), timeout=30
            )
            self.send_response(told.status_code)
            self.send_header("content-type", told.headers["content-type"])
            self.send_header("content-length", str(len(told.content)))
            self.end_headers()
            self.wfile.write(told.content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - The base class names it so.
            """Say nothing: a test's output is for failures."""

    relay = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    relay.daemon_threads = True
    thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{relay.server_address[1]}"
    finally:
        relay.shutdown()
        relay.server_close()
        thread.join()


def project(folder: Path, name: str, onward: str, to: str = "") -> Path:
    """A cycle that calls a webhook onward, its own by default."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.cycle.yaml").write_text(LOOP % (name, onward, name, to or name))
    return folder


def loops(server: Server) -> list[dict[str, Any]]:
    """The incidents that tell of a loop."""
    return [one for one in server.api("incidents")["incidents"] if one["kind"] == "loop_detected"]


def settle(server: Server, name: str, count: int) -> list[dict[str, Any]]:
    """The transactions of a cycle once there are so many and none runs."""
    for _ in range(500):
        if len(server.transactions(f"&cycle={name}")) >= count:
            break
        server.pause()
    server.settled(name)
    return server.transactions(f"&cycle={name}")


def test_8_a_loop_through_a_proxy_ends_with_508_and_one_incident(tmp_path: Path) -> None:
    """Given a cycle that calls itself by another name, then each way round is one deeper, up to `max_depth`."""
    port = free_port()
    with relaying(port) as url:
        project(tmp_path, "selfish", url)
        with Server(tmp_path, port=port) as server:
            trace = f"00-{ID}-00f067aa0ba902b7-01"
            assert server.hit("selfish-asked", {}, traceparent=trace).status_code == 202
            rows = settle(server, "selfish", 6)
            assert len(rows) == 6, "depths 0 to 5"
            (incident,) = loops(server)
            assert incident["detail"] == {"chain": ID, "depth": 6, "signed": True}
            assert incident["level"] == "error"
            shown = [server.api(f"transactions/{row['transaction']}") for row in rows]
            assert [(one["chain"], one["depth"]) for one in shown] == [(ID, depth) for depth in range(5, -1, -1)]
            assert shown[0]["status"] == "failed"
            assert "508" in shown[0]["reason"]
            assert server.terminate() == 0
        replayed, live = server.digests()
        assert replayed == live


@pytest.mark.parametrize("shared", [False, True], ids=["strangers", "one operator"])
def test_8_a_loop_between_two_servers_ends(tmp_path: Path, *, shared: bool) -> None:
    """Given two servers that call each other, then the depth goes along, whether or not they know each other's key."""
    ports = [free_port(), free_port()]
    environment = {"CYCLEWRIGHT_CHAIN_KEY": "of us both"} if shared else {}
    first = project(tmp_path / "a", "here", f"http://127.0.0.1:{ports[1]}", "there")
    second = project(tmp_path / "b", "there", f"http://127.0.0.1:{ports[0]}", "here")
    with (
        Server(first, port=ports[0], environment=environment) as here,
        Server(second, port=ports[1], environment=environment) as there,
    ):
        assert here.hit("here-asked", {}).status_code == 202
        ours, theirs = settle(here, "here", 3), settle(there, "there", 3)
        assert (len(ours), len(theirs)) == (3, 3), "depths 0, 2, 4 and 1, 3, 5"
        (incident,) = loops(here) + loops(there)
        assert (incident["detail"]["depth"], incident["detail"]["signed"]) == (6, shared)
        assert incident["level"] == ("error" if shared else "warning")
        rows = [(here, row) for row in ours] + [(there, row) for row in theirs]
        chains = {server.api(f"transactions/{row['transaction']}")["chain"] for server, row in rows}
        assert chains == {incident["detail"]["chain"]}


def test_8_a_call_to_an_own_webhook_by_its_url_opens_no_socket(tmp_path: Path) -> None:
    """Given a URL as `urls` prints it, then it is a link: parent and child name each other, and the loop ends."""
    port = free_port()
    project(tmp_path, "inward", f"http://127.0.0.1:{port}")
    with Server(tmp_path, port=port) as server:
        assert server.hit("inward-asked", {}).status_code == 202
        rows = settle(server, "inward", 6)
        shown = [server.api(f"transactions/{row['transaction']}") for row in rows]
        assert [one["depth"] for one in shown] == [5, 4, 3, 2, 1, 0]
        names = [row["transaction"] for row in rows]
        assert [one["parent"] for one in shown] == [*names[1:], None]
        assert [one["children"] for one in shown] == [[], *([name] for name in names[:-1])]
        assert len(loops(server)) == 1
    assert "is this server itself" not in server.log.read_text()


def test_7_every_attempt_says_its_key_its_trace_and_its_chain_also_after_a_crash(tmp_path: Path) -> None:
    """Given a call in flight at a kill -9, then the attempt after it carries the same three headers."""
    with Partner() as partner:
        (tmp_path / "c.cycle.yaml").write_text(
            f'cycle: c\nconnectors: {{shop: {{}}, far: {{base_url: "{partner.url}", allow_private: true}}}}\n'
            "steps:\n  t: {webhook: shop, identifier: call-asked}\n  call: {post: far, path: /signal, body: {x: 1}}\n"
        )
        server = Server(tmp_path)
        with partner.waiting() as asked:
            server.start()
            server.hit("call-asked", {}, traceparent=f"00-{ID}-00f067aa0ba902b7-00")
            asked()
            server.kill()
            with server:
                asked()
        said = [
            tuple(headers[name] for name in ("idempotency-key", TRACE_HEADER, CHAIN_HEADER))
            for headers in partner.heard
        ]
        assert len(said) == 2
        assert len(set(said)) == 1
        assert said[0][1].startswith(f"00-{ID}-")
        assert said[0][1].endswith("-00")
        assert said[0][2].startswith(f"1-{ID}-1-")
