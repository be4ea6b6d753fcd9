"""Commands that look at transactions, and how one is printed: the same for a live one and for one of the past."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter

from runtime.cli.output import Json, out, print_json, print_line, print_table
from runtime.cli.remote import PAGE_LIMIT, After, Api, AtStep, Matched, Project, ServerUrl, Since, Until

TIMERS = {
    "hold": "the hold ends at",
    "delay": "goes on at",
    "retry": "the next attempt is at",
    "patience": "the remote is asked again at",
    "answer": "the caller{} waits until",
}


def add_transactions(app: App) -> None:
    """Add these commands to the application."""
    transactions = App(name="transactions", help="Look at transactions.")
    transactions.command(listed, name="ls")
    transactions.command(show)
    transactions.command(settle)
    app.command(transactions)


def listed(
    *,
    cycle: str = "",
    status: Annotated[str, Parameter(help="running, held, completed, failed or stopped")] = "",
    step: AtStep = "",
    value: Matched = "",
    since: Since = "",
    until: Until = "",
    limit: int = PAGE_LIMIT,
    after: After = None,
    project: Project = Path(),
    server: ServerUrl = "",
    json: Json = False,
) -> None:
    """List transactions, newest first."""
    named = {"cycle": cycle, "status": status, "step": step, "value": value, "since": since, "until": until}
    query: dict[str, Any] = {name: said for name, said in named.items() if said}
    query |= {"limit": limit} | ({} if after is None else {"after": after})
    page = Api(project, server).get("/api/transactions", params=query)
    if json:
        print_json(page)
        return
    columns = ("transaction", "status", "pass", "held_at", "started", "updated")
    print_table(columns, ([one[name] for name in columns] for one in page["transactions"]))
    if page["next"] is not None:
        out.print(f"more: --after {page['next']}")


def show(transaction: str, *, project: Project = Path(), server: ServerUrl = "", json: Json = False) -> None:
    """Show one transaction: the data of its steps, its passes and incidents; sensitive fields are masked."""
    found = Api(project, server).get(f"/api/transactions/{quote(transaction, safe='')}")
    if json:
        print_json(found)
    else:
        print_transaction(found)


def settle(
    transaction: str,
    answer: Annotated[
        Literal["resend", "done", "fail"],
        Parameter(help="Send it again, count it as done (the step then has no data), or let the transaction fail."),
    ],
    *,
    project: Project = Path(),
    server: ServerUrl = "",
    json: Json = False,
) -> None:
    """Say what became of a call that was under way when the server died, and that is not safe to repeat."""
    api = Api(project, server)
    receipt = api.said(api.call("POST", f"/api/transactions/{quote(transaction, safe='')}/{answer}"))
    if json:
        print_json(receipt)
    else:
        out.print(f"{transaction} is {receipt['status']}", markup=False)


def print_transaction(view: Mapping[str, Any]) -> None:
    """A transaction as `runtime.views.transaction_view` gives it."""
    place = "" if view["status"] == "completed" else f" at {view['step']}"
    why = f": {view['reason']}" if view["reason"] else ""
    print_line(f"{view['transaction']} {view['status']}{place}, pass {view['pass']}{why}")
    for name, data in view["steps"].items():
        print_line(f"  {name}: {msgspec.json.encode(data).decode()}")
    for timer in view["timers"]:
        whose = f" of hit {timer['hit']}" if timer["hit"] is not None else ""
        print_line(f"  {TIMERS[timer['for']].format(whose)} {timer['due']}")
    for step, key in view["matches_by"].items():
        print_line(f"  a request at {step} matches by {', '.join(key)}")
    if view["call"]:
        call = view["call"]
        answers = f"cyclewright transactions settle {view['transaction']} resend|done|fail"
        state = f"has an unknown outcome ({answers})" if call["unknown"] else "is open"
        print_line(f"  call {call['step']} {state}: attempt {call['attempt']}, {call['method']} {call['url']}")
    if view["queue"]:
        print_line(f"  hits that wait for their pass: {', '.join(map(str, view['queue']))}")
    for word in ("parent", "children"):
        if view[word]:
            print_line(f"  {word}: {view[word] if word == 'parent' else ', '.join(view[word])}")
    if view["redrives"]:
        print_line(f"  {_redrives(view['redrives'])}")
    if view["redriven"]:
        print_line(f"  redriven as {', '.join(view['redriven'])}")
    columns = ("pass", "step", "status", "received", "reply", "fate")
    print_table(columns, ([one[name] for name in columns] for one in view["passes"]))
    for one in view["passes"]:
        _print_lineage(one)
    for one in view["passes"]:
        if one["ambiguous"]:
            print_line(f"  hit {one['hit']} matched several: {', '.join(one['ambiguous'])}")
    for incident in view["incidents"]:
        print_line(f"  {incident['time']} {incident['step']}: {incident['message']}")


def _redrives(lineage: Mapping[str, Any]) -> str:
    """What something redrives, in words."""
    of = f" of {lineage['transaction']}" if lineage["transaction"] else ""
    what = f"hit {lineage['hit']}{of}" if lineage["action"] == "redeliver" else lineage["transaction"]
    return f"{lineage['action']} of {what}, by order {lineage['order']}"


def _print_lineage(one: Mapping[str, Any]) -> None:
    """What the hit of a pass was before, and what it was later."""
    lineage = one["redrives"]
    if lineage and lineage["action"] == "redeliver":
        print_line(f"  hit {one['hit']}: {_redrives(lineage)}")
    for later in one["redriven"]:
        print_line(f"  hit {one['hit']} came again as hit {later['hit']} of {later['transaction'] or 'no transaction'}")
