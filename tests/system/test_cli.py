"""The command line against a real server (section 15): the same words as the API, and endings that a shell can use."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.cli.main import run
from tests.system.harness import ROOT, Server, free_port
from tests.system.partner import Partner

ORDERS = """
cycle: orders
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction, while_stopped: collect}
steps:
  placed:
    webhook: shop
    identifier: orders-placed
    fields: {id: {type: text, required: true}, card: {type: text, sensitive: true}, mode: text}
  route: {decide: placed.mode, cases: {bad: broken}, default: book}
  book:
    post: remote
    path: /effects
    body: {total: "4.20", card: "{{ placed.card }}"}
    fields: {total: decimal, card: {type: text, sensitive: true}}
  changed:
    webhook: shop
    identifier: orders-changed
    fields: {id: {type: text, required: true}, total: {type: decimal, required: true}}
    match: {id: placed.id, total: book.total}
    next: end
  broken: {post: remote, url: "http://127.0.0.1:9/none"}
"""
QUOTES = """
cycle: quotes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: quotes-asked, fields: {sku: {type: text, required: true}}}
  answer: {respond: {body: {sku: "{{ asked.sku }}"}}}
"""
COMMAND_S = 30.0


class Shell:
    """Commands about one server: in a process of their own where they go on or end by a signal, else in this one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.project = server.project

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """A command that goes on."""
        command = [sys.executable, "-m", "runtime.cli", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(command, text=True, cwd=ROOT, **pipes)

    def run(self, *arguments: str, code: int = 0) -> str:
        """A command to its end, which is this code; returns what it said, and nobody ever sees a traceback."""
        said, complained = StringIO(), StringIO()
        with redirect_stdout(said), redirect_stderr(complained):
            ended = run(arguments)
        told = said.getvalue() + complained.getvalue()
        assert ended == code, told
        assert "Traceback" not in told
        return said.getvalue() if code == 0 else told

    def here(self, *arguments: str, code: int = 0) -> str:
        """A command to this server."""
        return self.run(*arguments, "--project", str(self.project), "--server", self.server.url, code=code)

    def listed(self, *filters: str) -> list[str]:
        """The order ids that a list with these filters shows, newest first, over pages of two."""
        found: list[str] = []
        after: list[str] = []
        while True:
            page = json.loads(self.here("transactions", "ls", "--json", "--limit", "2", *filters, *after))
            found += [one["transaction"] for one in page["transactions"]]
            if page["next"] is None:
                return found
            after = ["--after", str(page["next"])]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One server with five orders: A1 and A2 hold, A3 failed, A4 was changed once, A5 holds in secret."""
    project = tmp_path_factory.mktemp("cli")
    with Partner() as partner:
        (project / "orders.cycle.yaml").write_text(ORDERS % partner.url)
        (project / "quotes.cycle.yaml").write_text(QUOTES)
        with Server(project) as server:
            for order in ("A1", "A2", "A3", "A4", "A5"):
                body = {"id": order, "card": "secret-4111", "mode": "bad" if order == "A3" else ""}
                assert server.hit("orders-placed", body).status_code == 202
                server.settled("orders")
            server.hit("orders-changed", {"id": "A4", "total": 4.2})
            server.settled("orders")
            yield Shell(server)


def names(shell: Shell) -> list[str]:
    """Every order's transaction, oldest first."""
    return [one["transaction"] for one in shell.server.transactions("&cycle=orders")][::-1]


def test_4_urls_are_the_same_while_the_server_runs_and_when_it_has_stopped(tmp_path: Path) -> None:
    """Random identifiers come from the journal, pinned ones as well."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTES.replace("identifier: quotes-asked, ", ""))
    port = free_port()
    (tmp_path / "cyclewright.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    with Server(tmp_path, port=port) as server:
        shell = Shell(server)
        running = shell.run("urls", str(tmp_path), "--json")
        url = json.loads(running)["quotes"]["asked"]
        assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/webhook/[a-z2-7]{{26}}", url)
        assert url in shell.run("urls", str(tmp_path))
        assert server.terminate() == 0
        assert shell.run("urls", str(tmp_path), "--json") == running
        shell.run("urls", str(tmp_path), "--server", server.url, code=3)


def test_transactions_are_listed_by_every_filter(shell: Shell) -> None:
    """Cycle, status, step, the value of a match key, and time; page by page."""
    first, second, failed, changed, last = names(shell)
    assert shell.listed("--cycle", "orders") == [last, changed, failed, second, first]
    assert shell.listed("--status", "failed") == [failed]
    assert shell.listed("--step", "changed", "--cycle", "orders") == [last, second, first]
    assert shell.listed("--value", "A2") == [second]
    assert shell.listed("--value", "4.200") == [last, changed, second, first]
    assert shell.listed("--value", "4.2", "--status", "completed") == [changed]
    assert shell.listed("--value", "A3") == []
    assert shell.listed("--since", "1 hour ago", "--status", "held") == [last, second, first]
    assert shell.listed("--until", "1 hour") == []
    started = {one["transaction"]: one["started"] for one in shell.server.transactions()}
    assert shell.listed("--cycle", "orders", "--until", started[failed]) == [second, first]
    text = shell.here("transactions", "ls", "--limit", "2")
    assert re.search(r"^more: --after \d+$", text, re.MULTILINE)
    assert re.search(rf"^{last} +held +1 +changed ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--status", "hold"), "status must be one of completed, failed, held, running, stopped (did you mean held?)"),
        (("--cycle", "oders"), "cycle must be one of orders, quotes (did you mean orders?), found 'oders'"),
        (("--limit", "501"), "limit must be a whole number from 1 to 500, found '501'"),
        (("--since", "soon"), "since must be an instant (2026-01-31T12:00:00Z) or a length of time ago (2 hours)"),
    ],
)
def test_given_a_filter_that_is_none_then_parameter_rule_and_value_are_named(
    shell: Shell, arguments: tuple[str, str], said: str
) -> None:
    """Exit 1; never a silent default."""
    assert said in shell.here("transactions", "ls", *arguments, code=1)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("transactions?limit=abc&after=-1&stauts=held", ["stauts", "after", "limit"]),
        ("transactions?value=&limit=0", ["value", "limit"]),
        ("transactions?until=2026-13-01", ["until"]),
        ("parked?limit=1e3", ["limit"]),
        ("incidents?from=3", ["from"]),
    ],
)
def test_given_bad_parameters_then_the_api_lists_them_all(shell: Shell, query: str, wrong: list[str]) -> None:
    """400 with a fault each."""
    with pytest.raises(httpx.HTTPStatusError) as refused:
        shell.server.api(query)
    answer = refused.value.response
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    faults = answer.json()["faults"]
    assert [fault["where"] for fault in faults] == wrong
    assert all(fault["rule"] and fault["found"] for fault in faults)


def test_incidents_come_in_keyset_pages(shell: Shell) -> None:
    """Each page says where the next one begins, the last one that there is none."""
    everything = shell.server.api("incidents")
    assert everything["next"] is None
    first = shell.server.api("incidents?limit=1")
    assert first["incidents"] == everything["incidents"][:1]
    rest = shell.server.api(f"incidents?after={everything['incidents'][0]['id']}")
    assert rest["incidents"] == everything["incidents"][1:]


def test_a_transaction_is_shown_alike_live_and_replayed_without_its_secrets(shell: Shell) -> None:
    """The same words in the API, on the command line and in a replay; and the digest is the store's."""
    name = names(shell)[3]
    text = shell.here("transactions", "show", name)
    assert f"{name} completed, pass 2" in text
    assert "  a request at changed matches by A4, 4.2" in text
    live = json.loads(shell.here("transactions", "show", name, "--json"))
    past = json.loads(shell.run("replay", str(shell.project), "--transaction", name, "--json"))
    assert live.items() <= past.items()
    assert live["steps"]["placed"] == {"id": "A4", "card": "••••", "mode": ""}
    everything = text + repr(past) + shell.run("journal", "cat", str(shell.project))
    assert "secret-4111" not in everything
    assert "there is no transaction orders-0" in shell.here("transactions", "show", "orders-0", code=1)
    failed = shell.here("transactions", "show", names(shell)[2])
    assert f"{names(shell)[2]} failed at broken" in failed


def test_a_hit_is_sent_and_followed_to_where_it_comes(shell: Shell) -> None:
    """The answer, and with `--wait` the status it comes to; a run that failed is a failure of the command."""
    said = shell.here("hit", "quotes/asked", "--json", '{"sku": "tea"}', "--wait").splitlines()
    assert said[0] == '200 {"sku":"tea"}'
    assert json.loads(said[1])["status"] == "completed"
    said = shell.here("hit", "orders/placed", "--json", '{"id": "B1"}', "--key", "b1", "--wait").splitlines()
    assert said[0].startswith('202 {"status":"accepted"')
    assert json.loads(said[1]) == json.loads(said[1]) | {"status": "held", "held_at": "changed", "pass": 1}
    again = shell.here("hit", "orders/placed", "--json", '{"id": "B1"}', "--key", "b1")
    assert again.strip() == said[0]
    failed = shell.here("hit", "orders/placed", "--json", '{"id": "B2", "mode": "bad"}', "--wait", code=1)
    assert '"status":"failed"' in failed
    parked = shell.here("hit", "orders/changed", "--json", '{"id": "B3", "total": 1}', "--wait")
    assert '"status":"parked"' in parked.splitlines()[1]
    refused = shell.here("hit", "quotes/asked", "--json", "{}", code=1)
    assert refused.startswith("422 ")
    assert "there is no cycle 'quoets' (did you mean quotes?)" in shell.here("hit", "quoets/asked", code=1)
    assert "has no webhook 'ask' (did you mean asked?)" in shell.here("hit", "quotes/ask", code=1)


def test_a_cycle_is_stopped_finished_and_started_with_receipts(shell: Shell) -> None:
    """Section 11: what was cut, kept and held; hits that were kept run at the start."""
    held = shell.server.api("cycles/orders")["counts"]["held"]
    assert shell.here("stop", "orders") == f"orders is stopped: {held} held\n"
    kept = shell.here("hit", "orders/placed", "--json", '{"id": "C1"}')
    assert kept.startswith('202 {"status":"parked"')
    assert json.loads(shell.here("start", "orders", "--json"))["resumed"] >= 1
    shell.server.settled("orders")
    assert shell.here("finish", "quotes").startswith("quotes is stop")
    assert "Cycle is not running" in shell.here("hit", "quotes/asked", "--json", '{"sku": "x"}', code=1)
    assert shell.here("start", "quotes") == "quotes is running\n"
    assert "did you mean orders?" in shell.here("stop", "oders", code=1)


def test_events_are_followed_while_a_server_writes_them_until_ctrl_c(shell: Shell) -> None:
    """Each once, in order, without a gap, masked; and 130 at the end."""
    with shell.start("journal", "tail", str(shell.project), "--follow", "-n", "1", "--json") as process:
        killer = threading.Timer(COMMAND_S, process.kill)
        killer.start()
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline())]
        for order in ("D1", "D2", "D3"):
            shell.server.hit("orders-placed", {"id": order, "card": "secret-4111"})
            while not (events[-1]["event"] == "TransactionHeld" and events[-1]["key"][0] == order):
                events.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=COMMAND_S)
        killer.cancel()
    assert (process.returncode, complained) == (130, "")
    assert [one["seq"] for one in events] == list(range(events[0]["seq"], events[-1]["seq"] + 1))
    assert "secret-4111" not in repr(events)


def test_a_token_that_is_wrong_and_a_server_that_is_another_are_told_apart(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 with what to set, whether there is a token or none; 3 when what answers is no server of ours."""
    none = shell.run("transactions", "ls", "--project", str(tmp_path), "--server", shell.server.url, code=1)
    monkeypatch.setenv("CYCLEWRIGHT_TOKEN", "wrong")
    assert "set CYCLEWRIGHT_TOKEN" in none
    assert shell.here("transactions", "ls", code=1) == none
    monkeypatch.delenv("CYCLEWRIGHT_TOKEN")
    with Partner() as partner:
        told = shell.run("transactions", "ls", "--project", str(tmp_path), "--server", partner.url, code=3)
    assert "is no Cyclewright server" in told


def test_given_a_port_that_is_taken_when_served_then_the_cure_is_said(shell: Shell, tmp_path: Path) -> None:
    """Exit 1, and where to serve instead."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTES)
    with shell.start("serve", str(tmp_path), "--bind", f"127.0.0.1:{shell.server.port}") as process:
        _, told = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 1
    assert "Traceback" not in told
    assert "another program listens there already" in told
    assert "--bind" in told


def test_ctrl_c_drains_a_server_which_ends_with_0(tmp_path: Path) -> None:
    """Section 11."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTES)
    with Server(tmp_path) as server:
        assert server.hit("quotes-asked", {"sku": "tea"}).status_code == 200
        assert server.terminate(signal.SIGINT) == 0


def test_a_start_shows_on_a_terminal_how_far_the_journal_is_read(tmp_path: Path) -> None:
    """A bar on stderr where someone looks; the log is JSON and nothing else where nobody does."""
    (tmp_path / "quotes.cycle.yaml").write_text(QUOTES)
    server = Server(tmp_path)
    with server:
        server.hit("quotes-asked", {"sku": "tea"})
        assert server.terminate() == 0
    assert all(line.startswith("{") for line in server.log.read_text().splitlines())
    (server.data / "store.sqlite").unlink()
    ours, theirs = pty.openpty()
    process = Shell(server).start("serve", str(tmp_path), "--bind", "127.0.0.1:0", stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    while b"stopped" not in shown:
        shown += os.read(ours, 4096)
    assert process.wait(40) == 0
    os.close(ours)
    assert b"events folded" in shown
    assert b"100%" in shown


def test_12_usage_is_shown_as_a_table_as_values_and_for_machines(shell: Shell) -> None:
    """Section 12: by cycle, step and day; the three forms say the same."""
    found = json.loads(shell.here("usage", "--json"))
    assert found["total"] == sum(one["tasks"] for one in found["usage"]) > 0
    placed = [one["tasks"] for one in found["usage"] if (one["cycle"], one["step"]) == ("orders", "placed")]
    assert sum(placed) == len(names(shell))
    lines = shell.here("usage", "--csv").splitlines()
    assert lines[0] == "day,cycle,step,tasks"
    assert len(lines) == 1 + len(found["usage"])
    assert "total" in shell.here("usage")
    assert "must be one of" in shell.here("usage", "--cycle", "nobody", code=1)


def test_given_a_changed_project_with_faults_when_deployed_then_each_is_told_as_check_tells_it(shell: Shell) -> None:
    """The same lines, exit 1, and nothing changes."""
    wrong = shell.project / "wrong.cycle.yaml"
    wrong.write_text(QUOTES.replace("cycle: quotes", "cycle: wrong").replace("webhook: shop", "webhook: shp"))
    checked = shell.run("check", str(shell.project), code=1).splitlines()
    deployed = shell.here("deploy", code=1).splitlines()
    wrong.unlink()
    assert deployed[:-1] == checked[:-1]
    assert "wrong.cycle.yaml:5: step asked: webhook names no connector, found shp (did you mean shop?)" in deployed
    assert shell.here("deploy").startswith("unchanged: 2")


def test_6_5_a_parked_request_is_listed_and_aimed_by_hand(shell: Shell) -> None:
    """6.5: a callback with a typing mistake runs the order that a person names."""
    server = shell.server
    order = server.hit("orders-placed", {"id": "A7", "card": "secret-4111"}).json()["transaction"]
    server.settled("orders")
    parked = server.hit("orders-changed", {"id": "A77", "total": 4.2}).json()["hit"]
    assert f"{parked}  orders  changed  A77, 4.2  early" in re.sub(r" {2,}", "  ", shell.here("parked", "ls"))
    told = shell.here("parked", "aim", str(parked), order)
    assert told == f"hit {parked} runs {order}\n"
    left = json.loads(shell.here("parked", "ls", "--json", "--limit", "500"))
    assert parked not in [one["hit"] for one in left["parked"]]
    assert "Not parked: hit" in shell.here("parked", "aim", str(parked), order, code=1)
