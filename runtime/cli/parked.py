"""Commands about parked hits: listed, and aimed by hand at a transaction that their values do not find."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from runtime.cli.output import Json, out, print_json, print_table
from runtime.cli.remote import PAGE_LIMIT, Api, Project, ServerUrl


def add_parked(app: App) -> None:
    """Add these commands to the application."""
    parked = App(name="parked", help="Requests that wait for a transaction, or for their cycle to start.")
    parked.command(listed, name="ls")
    parked.command(aim)
    app.command(parked)


def listed(
    *,
    limit: int = PAGE_LIMIT,
    after: Annotated[int | None, Parameter(help="Go on after this hit, as the page before says.")] = None,
    project: Project = Path(),
    server: ServerUrl = "",
    json: Json = False,
) -> None:
    """List parked hits, oldest first."""
    query: dict[str, Any] = {"limit": limit} | ({} if after is None else {"after": after})
    page = Api(project, server).get("/api/parked", params=query)
    if json:
        print_json(page)
        return
    columns = ("hit", "cycle", "step", "key", "reason", "received", "until")
    rows = ({**one, "key": ", ".join(one["key"])} for one in page["parked"])
    print_table(columns, ([one[name] for name in columns] for one in rows))
    if page["next"] is not None:
        out.print(f"more: --after {page['next']}")


def aim(
    hit: Annotated[int, Parameter(validator=Number(gte=0))],
    transaction: str,
    *,
    project: Project = Path(),
    server: ServerUrl = "",
    json: Json = False,
) -> None:
    """Give a parked hit to a transaction, which runs from the hit's step as if the two had matched."""
    api = Api(project, server)
    done = api.said(api.call("POST", f"/api/parked/{hit}/aim", json={"transaction": transaction}))
    if json:
        print_json(done)
    else:
        out.print(f"hit {done['hit']} runs {done['transaction']}", markup=False)
