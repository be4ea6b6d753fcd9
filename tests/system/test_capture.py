"""Field capture over real HTTP (section 4): the next request shows which fields a webhook would declare."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.system.harness import ROOT, Server

CYCLE = """
cycle: shop
connectors: {shop: {}}
steps:
  placed:
    webhook: shop
    identifier: shop-placed
    %sfields: {pin: {type: text, sensitive: true}}
  answer: {respond: {body: {done: true}}}
  back: {webhook: shop, identifier: shop-back, match: {id: placed.pin}, check: "off"}
"""
PATH = "cycles/shop/capture/placed"
YAML = 'fields:\n  order.id: integer\n  "[lines].sku": text\n  pin: text\n'
BODY = {"order": {"id": 7}, "lines": [{"sku": "a"}], "pin": "2468"}


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose definition asks for one capture."""
    project = tmp_path_factory.mktemp("capture")
    (project / "shop.cycle.yaml").write_text(CYCLE % "capture: next\n    ")
    with Server(project) as running:
        yield running


def capturing(server: Server, *arguments: str) -> subprocess.Popen[str]:
    """The command, once the server knows that it waits; what was asked for before has come."""
    server.hit("shop-placed", {})
    assert server.api(PATH)["status"] == "captured"
    command = [sys.executable, "-m", "runtime.cli", "capture", "shop/placed", "--project", str(server.project)]
    command += ["--server", server.url, *arguments]
    started = subprocess.Popen(command, text=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while server.api(PATH)["status"] != "waiting":
        assert started.poll() is None, started.communicate()
        server.pause()
    return started


def ended(command: subprocess.Popen[str]) -> tuple[int, str]:
    """How it ended, and what it printed."""
    try:
        said, _ = command.communicate(timeout=30)
    finally:
        command.kill()
    return command.returncode, said


def test_4_capture_next_shows_the_next_request_and_changes_nothing_of_it(server: Server) -> None:
    """Section 4: asked for by the definition, once; secrets and sensitive fields are masked; the request runs."""
    assert server.api(PATH) == {"status": "waiting"}
    assert server.hit("shop-placed", BODY, authorization="Bearer s3cret").json() == {"done": True}
    shown: dict[str, Any] = server.api(PATH)
    assert (shown["status"], shown["method"], shown["yaml"]) == ("captured", "POST", YAML)
    assert (shown["headers"]["authorization"], shown["headers"]["content-type"]) == ("••••", "application/json")
    assert ("2468" in repr(shown), "s3cret" in repr(shown), '"sku":"a"' in shown["body"]) == (False, False, True)
    server.hit("shop-placed", {"other": 1})
    server.api("deploy", method="POST")
    assert server.api(PATH) == shown
    (server.project / "shop.cycle.yaml").write_text((CYCLE % "capture: next\n    ") + "  end_note: {note: x}\n")
    server.api("deploy", method="POST")
    assert server.api(PATH) == {"status": "waiting"}


def test_4_the_command_waits_for_the_next_request_of_a_running_or_a_stopped_cycle(server: Server) -> None:
    """Section 4: what it prints can be pasted; a refused request is shown too, and stays refused."""
    for order, status in (("start", 200), ("stop", 409)):
        server.api(f"cycles/shop/{order}", method="POST")
        command = capturing(server)
        assert server.hit("shop-placed", {"total": 1.5}).status_code == status
        code, said = ended(command)
        assert (code, said.splitlines()[1:]) == (0, ["fields:", "  total: decimal"])
    last = [sys.executable, "-m", "runtime.cli", "capture", "shop/placed", "--last", "--json"]
    done = subprocess.run(
        [*last, "--project", str(server.project), "--server", server.url], cwd=ROOT, capture_output=True, check=True
    )
    assert b'"fields":{"total":"decimal"}' in done.stdout


def test_4_a_capture_of_what_can_not_be_read_says_so_and_nothing_else_is_captured(server: Server) -> None:
    """Section 4: only what is verified and comes to this webhook; a body that is none is a fault of its sender."""
    command = capturing(server)
    assert server.hit("shop-back", {}).status_code >= 400
    assert httpx.put(f"{server.url}/webhook/shop-placed", json={}).status_code == 405
    assert server.api(PATH) == {"status": "waiting"}
    assert httpx.post(f"{server.url}/webhook/shop-placed", content=b"{oops").status_code == 400
    assert ended(command) == (1, "")
    assert "not JSON" in server.api(PATH)["fault"]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        server.api("cycles/shop/capture/answer", method="POST")


def test_4_nobody_waits_for_a_request_without_end(server: Server) -> None:
    """The command has a bound, and says what did not come."""
    assert ended(capturing(server, "--timeout", "1 second")) == (1, "")
