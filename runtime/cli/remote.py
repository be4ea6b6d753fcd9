"""Commands that talk to a running server: orders, hits and looks at transactions, over its API on loopback."""

import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from cyclopts import App, Parameter

from runtime.cli.output import FAULTS, UNREACHABLE, USAGE, fail, out, print_json, print_table
from runtime.config import TOKEN_FILE, TOKEN_VARIABLE, load_settings

TIMEOUT_S = 60.0


Project = Annotated[Path, Parameter(help="The project folder, for its settings and its token.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for machines.")]


class Api:
    """The API of a project's server."""

    def __init__(self, project: Path, server: str) -> None:
        settings = load_settings(project)
        host, port = settings.host_port
        self.url = (server or f"http://{host}:{port}").rstrip("/")
        token_file = Path(settings.data) / TOKEN_FILE
        self.token = os.environ.get(TOKEN_VARIABLE) or (token_file.read_text().strip() if token_file.exists() else "")

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request; fails the command when there is no server, or when it refuses."""
        headers = {**more.pop("headers", {}), "authorization": f"Bearer {self.token}"}
        try:
            response = httpx.request(method, self.url + path, headers=headers, timeout=TIMEOUT_S, **more)
        except httpx.TransportError as fault:
            fail(
                UNREACHABLE,
                f"no server answers at {self.url} ({type(fault).__name__}): is `cyclewright serve` running?",
            )
        if response.status_code == 401:
            fail(FAULTS, f"the server refuses the token: set {TOKEN_VARIABLE}, or name the project with --project")
        return response

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self.said(self.call("GET", path))

    def said(self, response: httpx.Response) -> Any:
        """The JSON of an answer; a problem fails the command with its words."""
        body = response.json()
        if response.status_code >= 400:
            fail(FAULTS, f"{body.get('title', 'refused')}: {body.get('detail', response.status_code)}")
        return body


def add_remote(app: App) -> None:
    """Add these commands to the application."""
    for order in ("start", "stop", "finish"):
        app.command(_order(order), name=order)
    app.command(hit)
    transactions = App(name="transactions", help="Look at transactions.")
    transactions.command(listed, name="ls")
    transactions.command(show)
    app.command(transactions)


def _order(order: str) -> Any:
    def command(cycle: str, *, project: Project = Path(), server: str = "", json: Json = False) -> None:
        api = Api(project, server)
        receipt = api.said(api.call("POST", f"/api/cycles/{cycle}/{order}"))
        if json:
            print_json(receipt)
        else:
            counts = ", ".join(f"{count} {name}" for name, count in receipt.items() if name != "status" and count)
            out.print(f"{cycle} is {receipt['status']}{f': {counts}' if counts else ''}")

    words = {
        "start": "Let a cycle accept requests; hits that were kept for it run now.",
        "stop": "Stop a cycle: passes in progress end now, holds stay, hits not yet begun are kept.",
        "finish": "Let a cycle finish what is in progress, then stop it.",
    }
    command.__doc__ = words[order]
    return command


def hit(
    target: Annotated[str, Parameter(help="CYCLE/STEP")],
    *,
    body: Annotated[str, Parameter(name="--json", help="The JSON body to send.")] = "{}",
    key: Annotated[str, Parameter(help="An idempotency key.")] = "",
    wait: Annotated[bool, Parameter(help="Wait until the transaction holds or has ended.")] = False,
    project: Project = Path(),
    server: str = "",
) -> None:
    """Send a request to a webhook step, and print the answer."""
    api = Api(project, server)
    cycle, _, step = target.partition("/")
    url = api.get(f"/api/cycles/{cycle}")["webhooks"].get(step)
    if url is None:
        fail(USAGE, f"{cycle} has no webhook {step!r}")
    headers = {"content-type": "application/json", **({"idempotency-key": key} if key else {})}
    path = "/webhook/" + url.rsplit("/webhook/", 1)[1]
    answer = api.call("POST", path, content=body.encode(), headers=headers)
    out.print(f"{answer.status_code} {answer.text}", markup=False)
    if wait and "location" in answer.headers:
        status = "/status/" + answer.headers["location"].rsplit("/status/", 1)[1]
        out.print(api.call("GET", status, headers={"prefer": "wait=30"}).text, markup=False)
    if answer.status_code >= 400:
        fail(FAULTS, "the request was refused")


def listed(
    *,
    cycle: str = "",
    status: str = "",
    limit: int = 50,
    after: int = -1,
    project: Project = Path(),
    server: str = "",
    json: Json = False,
) -> None:
    """List transactions, newest first."""
    query: dict[str, Any] = {"limit": limit}
    query |= {name: value for name, value in (("cycle", cycle), ("status", status)) if value}
    query |= {"after": after} if after >= 0 else {}
    api = Api(project, server)
    page = api.said(api.call("GET", "/api/transactions", params=query))
    if json:
        print_json(page)
        return
    columns = ("transaction", "status", "pass", "held_at", "updated")
    print_table(columns, ([one[name] for name in columns] for one in page["transactions"]))
    if page["next"] is not None:
        out.print(f"more: --after {page['next']}")


def show(transaction: str, *, project: Project = Path(), server: str = "", json: Json = False) -> None:
    """Show one transaction: the data of its steps, its passes and incidents."""
    found = Api(project, server).get(f"/api/transactions/{transaction}")
    if json:
        print_json(found)
        return
    place = f" at {found['held_at']}" if found["held_at"] else ""
    out.print(f"{found['transaction']} {found['status']}{place}, pass {found['pass']}")
    for name, data in found["steps"].items():
        out.print(f"  {name}: {msgspec.json.encode(data).decode()}", markup=False)
    columns = ("pass", "step", "status", "received", "reply", "fate")
    print_table(columns, ([one[name] for name in columns] for one in found["passes"]))
    for incident in found["incidents"]:
        out.print(f"  {incident['time']} {incident['step']}: {incident['message']}", markup=False)
