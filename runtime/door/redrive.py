"""`POST /api/redrive` (section 13): a set chosen by filter or by name, looked at first if asked so, and a receipt."""

from functools import partial
from typing import Any, get_args

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from protocol.answers import json_reply, problem
from protocol.events_redrive import RedriveAction
from protocol.fields import Fault
from protocol.inputs import Refused
from protocol.state import HitRow, TransactionStatus
from runtime.door.door import Door, as_response, not_ready
from runtime.door.matching import canonical_texts, matches_by
from runtime.door.parameters import BadParameters, Parameters
from runtime.door.shapes import RedriveAsked
from runtime.door.views import transaction_of
from runtime.engine import Engine
from runtime.redriving import Order, Told, fixed, redrive_item
from runtime.store.rows import TABLES
from runtime.store.search import ID_MAX, Filter, find_expired, find_transactions

EXPIRED = "expired"  # A status of hits, which only a redelivery can choose.
FILTERS = ("cycle", "status", "step", "value", "since", "until")


def add_redrive(app: QuartTrio, door: Door) -> None:
    """Add the route to an application."""

    @app.post("/api/redrive")
    async def redrive() -> Response:
        refusal = not_ready(door)  # What drains begins nothing.
        if refusal is not None:
            return as_response(refusal)
        assert door.engine is not None, "a ready door has an engine"
        body = await request.get_data(as_text=False)
        try:
            asked = msgspec.json.decode(body, type=RedriveAsked)
        except msgspec.DecodeError as fault:
            return as_response(problem(400, "Bad order", f"the body is no order to redrive: {fault}"))
        faults = [*_faults(asked)]
        if faults:
            raise BadParameters(faults)
        return await _redrive(door.engine, asked)


def _faults(asked: RedriveAsked) -> list[Fault]:
    faults: list[Fault] = []
    if not asked.preview and not (asked.order and asked.order.isprintable()):
        rule = "must name the order, by a text not used before: given twice under one name, it acts once"
        faults.append(Fault("order", rule, repr(asked.order)))
    if bool(asked.filter) == bool(asked.ids):
        rule = "must choose a set, either by a filter or by ids"
        faults.append(Fault("filter", rule, f"{len(asked.filter)} filters and {len(asked.ids)} ids"))
    return faults


async def _redrive(engine: Engine, asked: RedriveAsked) -> Response:
    order = Order(
        name=asked.order,
        page="" if asked.after is None else str(asked.after),
        action=asked.action,
        digest=asked.digest,
        current=asked.definition == "current",
        again=asked.again,
    )
    await engine.checkpointed()
    known = bool(order.name and engine.state.find("ordered", (order.name, "page", order.page), 1))
    items, after = ([], 0) if known else _chosen(engine, asked)
    if known or not asked.preview:
        fixing = await fixed(engine, order, items, after)
        if isinstance(fixing, Refused):
            return as_response(problem(fixing.status, fixing.title, fixing.detail))
        items, after = fixing.items, fixing.after
    told = [await redrive_item(engine, order, item, preview=asked.preview) for item in items]
    await engine.committer.flushed()  # What a preview saw must not be taken back by a crash.
    return as_response(json_reply(200, _receipt(asked, order, told, after)))


def _receipt(asked: RedriveAsked, order: Order, told: list[Told], after: int) -> dict[str, Any]:
    counts = {name: sum(one.outcome == name for one in told) for name in ("done", "already", "refused", "possible")}
    return {
        "order": order.name or None,
        "action": asked.action,
        "definition": asked.definition,
        "preview": asked.preview,
        **counts,
        "items": told,
        "next": after or None,
    }


def _chosen(engine: Engine, asked: RedriveAsked) -> tuple[list[int], int]:
    """The items of a page, newest first, and the number to go on after, 0 at the end."""
    if asked.ids:
        return _named(engine, asked), 0
    database = engine.state.database
    wanted, value = _filter(engine, asked)
    after = -1 if asked.after is None else asked.after
    if wanted.status == EXPIRED:
        hits, on = find_expired(database, wanted, after, asked.limit)
        return [hit.id for hit in hits], on or 0
    fits = partial(matches_by, engine.state, value=value) if value else lambda _: True
    page = find_transactions(database, wanted, after, asked.limit, fits)
    items = [row.hit if asked.action == "redeliver" else row.id for row in page.rows]
    return [item for item in dict.fromkeys(items) if item], page.next or 0


def _filter(engine: Engine, asked: RedriveAsked) -> tuple[Filter, str]:
    given = Parameters(asked.filter, FILTERS)
    now = engine.clock()
    statuses = get_args(TransactionStatus)
    value = given.text("value")
    wanted = Filter(
        cycle=given.one_of("cycle", [row.name for row in engine.state.cycles()]),
        status=given.one_of("status", (*statuses, EXPIRED) if asked.action == "redeliver" else statuses)
        or ("failed" if asked.action == "resume" else ""),
        step=given.text("step"),
        values=canonical_texts(value),
        since=given.instant("since", now, 0),
        until=given.instant("until", now, ID_MAX),
    )
    given.close()
    return wanted, value


def _named(engine: Engine, asked: RedriveAsked) -> list[int]:
    """The items of names: transactions, or hits by their numbers; a transaction's hit began its latest pass.

    Raises:
        BadParameters: with every name that leads nowhere.
    """
    faults: list[Fault] = []
    items: list[int] = []
    for at, name in enumerate(asked.ids):
        item = _item(engine, asked.action, str(name))
        if not item:
            what = "a transaction, or a hit by its number," if asked.action == "redeliver" else "a transaction"
            faults.append(Fault(f"ids[{at}]", f"must name {what} that there is", repr(name)))
        items.append(item)
    if faults:
        raise BadParameters(faults)
    return list(dict.fromkeys(items))


def _item(engine: Engine, action: RedriveAction, name: str) -> int:
    if "-" in name:
        row = transaction_of(engine, name)
        return 0 if row is None else row.hit if action == "redeliver" else row.id
    if action != "redeliver" or not name.isascii() or not name.isdecimal() or len(name) > 18:
        return 0
    hit = engine.state.database.row(TABLES[HitRow], int(name))
    return hit.id if isinstance(hit, HitRow) else 0
