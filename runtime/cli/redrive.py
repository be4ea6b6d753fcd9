"""Commands that redrive: a set chosen by filter or by name, shown first, and a receipt for what was done."""

import secrets
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from runtime.cli.output import (
    FAULTS,
    OK,
    UNREACHABLE,
    USAGE,
    CommandFailed,
    Json,
    err,
    fail,
    print_json,
    print_line,
    print_table,
)
from runtime.cli.remote import After, Api, AtStep, Matched, Project, ServerUrl, Since, Until

ORDER_BYTES = 4  # Of a name made here: it only has to differ from those of the same server.
COLUMNS = ("item", "outcome", "step", "hit", "transaction", "reason")
COUNTS = ("done", "already", "refused", "possible")

WORDS = {
    "redeliver": "Deliver requests again, through routing: hits by their numbers, or those of transactions' latest "
    "passes; --status expired finds those that came in vain.",
    "resume": "Go on with failed or stopped transactions at the step where they ended.",
    "rerun": "Run transactions again from their start, with the request that began them.",
}


def add_redrive(app: App) -> None:
    """Add these commands to the application."""
    redrive = App(name="redrive", help="Do again what failed or came in vain; nothing of what was is changed.")
    for action in WORDS:
        redrive.command(_command(action), name=action)
    app.command(redrive)


def _command(action: str) -> Any:
    def command(
        *ids: Annotated[str, Parameter(help="Transactions, or hits to redeliver, instead of filters.")],
        cycle: str = "",
        status: Annotated[str, Parameter(help="Of the transaction; `resume` takes failed ones by default.")] = "",
        step: AtStep = "",
        value: Matched = "",
        since: Since = "",
        until: Until = "",
        definition: Annotated[Literal["original", "current"], Parameter(help="The version to run.")] = "original",
        again: Annotated[bool, Parameter(help="Also what was redriven before.")] = False,
        preview: Annotated[bool, Parameter(help="Only show what would be done.")] = False,
        yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
        order: Annotated[str, Parameter(help="The order's name; given twice under one name it acts once.")] = "",
        limit: Annotated[int | None, Parameter(help="At most so many at once.")] = None,
        after: After = None,
        project: Project = Path(),
        server: ServerUrl = "",
        json: Json = False,
    ) -> None:
        named = {"cycle": cycle, "status": status, "step": step, "value": value, "since": since, "until": until}
        asked: dict[str, Any] = {
            "action": action,
            "filter": {name: said for name, said in named.items() if said},
            "ids": ids,
            "definition": definition,
            "again": again,
            "order": order or f"{action}-{secrets.token_hex(ORDER_BYTES)}",
        }
        asked |= {name: said for name, said in (("limit", limit), ("after", after)) if said is not None}
        api = Api(project, server)
        if preview:
            _told(api, asked | {"preview": True}, json=json)
            return
        if not yes:
            _confirm(action, api, asked, json=json)
        try:
            done = _told(api, asked, json=json)
        except CommandFailed as failed:
            if failed.code != UNREACHABLE:
                raise
            fail(UNREACHABLE, f"{failed}; what was done stands: give the rest with --order {asked['order']}")
        if done["refused"]:
            fail(FAULTS, f"{done['refused']} refused; give --order {asked['order']} again when the reasons are gone")

    command.__doc__ = WORDS[action]
    return command


def _told(api: Api, asked: dict[str, Any], *, json: bool) -> dict[str, Any]:
    """Send an order, or a look at it, and print the receipt."""
    answer = api.call("POST", "/api/redrive", json=asked)
    told: dict[str, Any] = api.said(answer)
    if json:
        print_json(told)
        return told
    print_table(COLUMNS, ([one[name] for name in COLUMNS] for one in told["items"]))
    counts = ", ".join(f"{told[name]} {name}" for name in COUNTS if told[name]) or "nothing fits"
    print_line(counts if told["preview"] else f"order {told['order']}: {counts}")
    if told["next"] is not None:
        same = "" if told["preview"] else f"--order {told['order']} "
        print_line(f"more: {same}--after {told['next']}")
    return told


def _confirm(action: str, api: Api, asked: dict[str, Any], *, json: bool) -> None:
    """Show what would be done and ask the person; where there is none, nothing is done."""
    if json or not sys.stdin.isatty():
        fail(USAGE, f"nothing was done, since nobody can be asked: say --yes to {action}, or --preview to look only")
    seen = _told(api, asked | {"preview": True}, json=False)
    if not seen["possible"]:
        fail(FAULTS if seen["refused"] else OK, "nothing to do")
    err.print(f"{action} {seen['possible']}? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail(FAULTS, "nothing was done")
