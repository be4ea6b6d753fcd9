"""Commands that talk to a running server: orders, hits and URLs, over its API on loopback."""

import os
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import msgspec
from cyclopts import App, Parameter

from journal import LocalLog
from protocol.loading import CheckFault
from runtime.cli.journal import journal_folder, known_of
from runtime.cli.output import (
    FAULTS,
    UNREACHABLE,
    USAGE,
    CommandFailed,
    Json,
    err,
    fail,
    nearest,
    out,
    print_json,
    print_line,
    print_table,
)
from runtime.config import TOKEN_FILE, TOKEN_VARIABLE, load_settings

TIMEOUT_S = 60.0
WAIT_S = 30  # Of one look at a hit's status; `--wait` looks again until it is final.
LOOK_S = 0.2  # Between looks, since not every address waits.
ONCE = {"": "", "waiting": " and waits for one request", "running": " and runs one request"}  # Beside the status.
FAILURES = ("failed", "stopped", "expired")

Project = Annotated[Path, Parameter(help="The project folder, for its settings and its token.")]
ServerUrl = Annotated[str, Parameter(help="The server's URL, where it is not the one of the settings.")]
AtStep = Annotated[str, Parameter(help="Where it holds, runs or failed.")]
Matched = Annotated[str, Parameter(help="A value that a request would match it by.")]
Since = Annotated[str, Parameter(help="Begun at or after: 2026-01-31T12:00:00Z, or '2 hours' ago.")]
Until = Annotated[str, Parameter(help="Begun before.")]
After = Annotated[int | None, Parameter(help="Go on after this number, as the page before says.")]
PAGE_LIMIT = 50  # Rows of a list, unless said otherwise.


class Api:
    """The API of a project's server."""

    def __init__(self, project: Path, server: str) -> None:
        settings = load_settings(project)
        self.url = (server or settings.local_url).rstrip("/")
        token_file = Path(settings.data) / TOKEN_FILE
        self.token = os.environ.get(TOKEN_VARIABLE) or (token_file.read_text().strip() if token_file.exists() else "")

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request; fails the command when there is no server, or when it refuses the token."""
        headers = more.pop("headers", {})
        webhook = path.startswith("/webhook/")  # Called as its sender calls it, who has no admin token.
        if self.token and not webhook:
            headers = {**headers, "authorization": f"Bearer {self.token}"}
        try:
            response = httpx.request(method, self.url + path, headers=headers, timeout=TIMEOUT_S, **more)
        except httpx.InvalidURL as fault:
            fail(USAGE, f"{self.url} is no URL of a server, such as http://127.0.0.1:8080: {fault}")
        except (httpx.TransportError, httpx.UnsupportedProtocol) as fault:
            fail(
                UNREACHABLE,
                f"no server answers at {self.url} ({type(fault).__name__}): is `cyclewright serve` running there? "
                "Name another address with --server",
            )
        if response.status_code == 401 and not webhook:
            fail(FAULTS, f"the server refuses the token: set {TOKEN_VARIABLE}, or name the project with --project")
        return response

    def get(self, path: str, **more: Any) -> Any:
        """The JSON of a GET."""
        return self.said(self.call("GET", path, **more))

    def said(self, response: httpx.Response) -> Any:
        """The JSON of an answer; a problem fails the command with its words."""
        try:
            body = response.json()
        except ValueError:
            fail(UNREACHABLE, f"what answers at {self.url} ({response.status_code}) is no Cyclewright server")
        if response.status_code >= 400:
            fail(FAULTS, f"{body.get('title', 'refused')}: {body.get('detail', response.status_code)}")
        return body

    def webhooks(self) -> dict[str, dict[str, str]]:
        """The webhook URLs of every cycle, by step."""
        return {one["cycle"]: one["webhooks"] for one in self.get("/api/cycles")["cycles"]}


def add_remote(app: App) -> None:
    """Add these commands to the application."""
    for order in ("start", "stop", "finish", "run-once"):
        app.command(_order(order), name=order)
    app.command(hit)
    app.command(usage)
    app.command(deploy)
    app.command(urls)


def usage(
    *,
    cycle: str = "",
    since: Annotated[str, Parameter(help="A date, an instant, or a length of time ago; by default this month.")] = "",
    until: str = "",
    csv: Annotated[bool, Parameter(name="--csv", help="Print comma-separated values, for a spreadsheet.")] = False,
    project: Project = Path(),
    server: ServerUrl = "",
    json: Json = False,
) -> None:
    """Show the tasks of each step on each day (UTC)."""
    wanted = {name: said for name, said in (("cycle", cycle), ("since", since), ("until", until)) if said}
    found = Api(project, server).get("/api/usage", params=wanted)
    columns = ("day", "cycle", "step", "tasks")
    rows = [[one[name] for name in columns] for one in found["usage"]]
    if json:
        print_json(found)
    elif csv:
        for row in (columns, *rows):
            print_line(",".join(map(str, row)))
    else:
        print_table(columns, [*rows, ["total", "", "", found["total"]]])


def deploy(*, project: Project = Path(), server: ServerUrl = "", json: Json = False) -> None:
    """Let the server read its project again; with a fault nothing changes. New transactions and passes get it."""
    api = Api(project, server)
    answer = api.call("POST", "/api/deploy")
    if answer.status_code == 422 and not json:
        for fault in answer.json().get("faults", ()):
            print_line(str(msgspec.convert(fault, CheckFault)))
    done = api.said(answer)
    if json:
        print_json(done)
        return
    for what in ("new", "changed", "gone"):
        if done[what]:
            print_line(f"{what}: {', '.join(done[what])}")
    print_line(f"unchanged: {len(done['unchanged'])}")


def _order(order: str) -> Any:
    def command(cycle: str, *, project: Project = Path(), server: ServerUrl = "", json: Json = False) -> None:
        api = Api(project, server)
        _known(cycle, api.webhooks())
        receipt = api.said(api.call("POST", f"/api/cycles/{quote(cycle, safe='')}/{order}"))
        if json:
            print_json(receipt)
        else:
            once = ONCE[receipt.pop("once", "")]
            counts = ", ".join(f"{count} {name}" for name, count in receipt.items() if name != "status" and count)
            out.print(f"{cycle} is {receipt['status']}{once}{f': {counts}' if counts else ''}", markup=False)

    words = {
        "start": "Let a cycle accept requests; hits that were kept for it run now.",
        "stop": "Stop a cycle: passes in progress end now, holds stay, hits not yet begun are kept.",
        "finish": "Let a cycle finish what is in progress, then stop it.",
        "run-once": "Let a stopped cycle run one request: the oldest kept for its trigger, or the next one.",
    }
    command.__doc__ = words[order]
    return command


def _known(cycle: str, cycles: dict[str, Any]) -> None:
    if cycle not in cycles:
        fail(FAULTS, f"there is no cycle {cycle!r}{nearest(cycle, cycles)}")


def find_webhook(api: Api, target: str) -> tuple[str, str, str]:
    """Cycle, step and URL of a webhook named CYCLE/STEP; fails the command when there is none."""
    cycle, slash, step = target.partition("/")
    if not (cycle and slash and step):
        fail(USAGE, f"a webhook is named CYCLE/STEP, not {target!r}")
    found = api.webhooks()
    _known(cycle, found)
    if step not in found[cycle]:
        fail(FAULTS, f"cycle {cycle} has no webhook {step!r}{nearest(step, found[cycle])}")
    return cycle, step, found[cycle][step]


def hit(
    target: Annotated[str, Parameter(help="CYCLE/STEP")],
    *,
    body: Annotated[str, Parameter(name="--json", help="The JSON body to send.")] = "{}",
    key: Annotated[str, Parameter(help="An idempotency key.")] = "",
    wait: Annotated[bool, Parameter(help="Wait until the transaction holds or has ended.")] = False,
    project: Project = Path(),
    server: ServerUrl = "",
) -> None:
    """Send a request to a webhook step, and print the answer; with --wait also the status it comes to."""
    api = Api(project, server)
    _, _, url = find_webhook(api, target)
    headers = {"content-type": "application/json", **({"idempotency-key": key} if key else {})}
    path = "/webhook/" + url.rsplit("/webhook/", 1)[1]
    answer = api.call("POST", path, content=body.encode(), headers=headers)
    print_line(f"{answer.status_code} {answer.text}")
    if wait:
        _follow(api, answer)
    if answer.status_code >= 400:
        fail(FAULTS, "the request was not answered with success")


def _follow(api: Api, answer: httpx.Response) -> None:
    """Print the status that a hit's transaction comes to."""
    if "location" in answer.headers:
        path = "/status/" + answer.headers["location"].rsplit("/status/", 1)[1]
    elif "cyclewright-transaction" in answer.headers:
        path = "/api/transactions/" + answer.headers["cyclewright-transaction"]
    else:
        return  # Refused: there is nothing to follow.
    while (status := api.get(path, headers={"prefer": f"wait={WAIT_S}"}))["status"] == "running":
        time.sleep(LOOK_S)
    shown = ("transaction", "cycle", "status", "pass", "held_at", "reason")
    print_line(msgspec.json.encode({name: status[name] for name in shown if name in status}).decode())
    if status["status"] in FAILURES:
        fail(FAULTS, f"the run is {status['status']}: {status.get('reason') or 'see its incidents'}")


def urls(project: Path, *, server: ServerUrl = "", json: Json = False) -> None:
    """Print the webhook URL of every step: from the running server, else as the journal has them."""
    try:
        found = Api(project, server).webhooks()
    except CommandFailed as failed:
        if failed.code != UNREACHABLE or server:
            raise
        found = _journaled_urls(project)
        err.print(
            f"no server answers at {load_settings(project).local_url}: these are as journal and settings have them"
        )
    if json:
        print_json(found)
    else:
        rows = ((cycle, step, url) for cycle, steps in found.items() for step, url in steps.items())
        print_table(("cycle", "step", "url"), rows)


def _journaled_urls(project: Path) -> dict[str, dict[str, str]]:
    settings = load_settings(project)
    base = settings.public_url.rstrip("/") or settings.local_url
    place = journal_folder(Path(settings.data))
    known = known_of(place, LocalLog.open_reader(place))
    return {
        name: {step: f"{base}/webhook/{identifier}" for step, identifier in cycle.webhooks.items()}
        for name, cycle in sorted(known.cycles.items())
    }
