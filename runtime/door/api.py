"""The HTTP API: status URLs for callers, and everything below /api for who holds the admin token."""

from functools import partial
from typing import Any, Literal, get_args

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from protocol.answers import faults_problem, json_reply, problem
from protocol.duration import DAY_NS
from protocol.inputs import Receipt, Refused, RunOnce, Settle, Start, Stop
from protocol.state import (
    CycleRow,
    HitRow,
    IncidentRow,
    TransactionStatus,
    transaction_name,
    usage_name,
)
from runtime.door.capture import add_capture
from runtime.door.doctor import add_doctor
from runtime.door.door import Door, as_response, engine_of, not_ready
from runtime.door.journal import add_journal
from runtime.door.lists import list_page
from runtime.door.matching import canonical_texts, matches_by
from runtime.door.openapi import QUERIES, add_openapi
from runtime.door.parameters import BadParameters, Parameters, wait_s
from runtime.door.parking import add_parking
from runtime.door.redrive import add_redrive
from runtime.door.views import cycle_view, transaction_of, transaction_view
from runtime.engine import Engine
from runtime.metering import ROWS_MAX, month, usage_view
from runtime.project import ProjectError
from runtime.store.search import ID_MAX, Filter, find_transactions
from runtime.views import followed_view, listed_incident_view, status_view

ANSWERS: dict[str, Literal["resend", "done", "fail"]] = {"resend": "resend", "done": "done", "fail": "fail"}
FINAL = ("held", "completed", "failed", "stopped", "expired", "parked", "ignored")


def add_api(app: QuartTrio, door: Door) -> None:
    """Add the routes of the API to an application."""

    @app.before_request
    async def guard() -> Response | None:
        if not request.path.startswith("/api"):
            return None
        if not door.authorized(request.headers.get("authorization", "")):
            headers = {"www-authenticate": "Bearer"}
            return as_response(problem(401, "Unauthorized", "the API needs the admin token", headers=headers))
        return _refusal(door)

    @app.errorhandler(BadParameters)
    async def bad_parameters(bad: BadParameters) -> Response:
        said = "; ".join(f"{one.where} {one.rule}, found {one.found}" for one in bad.faults)
        return as_response(problem(400, "Bad parameters", said, faults=bad.faults))

    @app.get("/status/<name>")
    async def status(name: str) -> Response:
        refusal = _refusal(door)
        if refusal is not None:
            return refusal
        hit = door.signed(name)
        if hit is None:
            return _missing("no hit has this address")
        return await _status(engine_of(door), hit)

    _add_cycles(app, door)
    _add_deploy(app, door)
    _add_transactions(app, door)
    _add_lists(app, door)
    add_parking(app, door)
    add_journal(app, door)
    add_openapi(app)
    add_redrive(app, door)
    add_capture(app, door)
    add_doctor(app, door)


def _refusal(door: Door) -> Response | None:
    """What a server says that still recovers; one that drains goes on answering looks and orders."""
    refusal = None if door.draining else not_ready(door)
    return None if refusal is None else as_response(refusal)


def _add_cycles(app: QuartTrio, door: Door) -> None:
    @app.get("/api/cycles")
    async def cycles() -> Response:
        engine = engine_of(door)
        return await _durably(engine, {"cycles": [cycle_view(engine, row) for row in engine.state.cycles()]})

    @app.get("/api/cycles/<name>")
    async def cycle(name: str) -> Response:
        row = _cycle(engine_of(door), name)
        if row is None:
            return _missing(f"there is no cycle {name}")
        return await _durably(engine_of(door), cycle_view(engine_of(door), row))

    @app.post("/api/cycles/<name>/<order>")
    async def order(name: str, order: str) -> Response:
        engine = engine_of(door)
        if _cycle(engine, name) is None:
            return _missing(f"there is no cycle {name}")
        at = engine.clock()
        match order:
            case "start":
                given: Start | Stop | RunOnce = Start(name, at)
            case "stop" | "finish":
                given = Stop(name, at, order)
            case "run-once":
                given = RunOnce(name, at)
            case _:
                return _missing(f"a cycle can start, stop, finish or run-once, not {order}")
        return _told((await engine.order(given).decided()).verdict)


def _add_deploy(app: QuartTrio, door: Door) -> None:
    @app.post("/api/deploy")
    async def deploy() -> Response:
        assert door.reload is not None, "a ready server can deploy"
        try:
            done = await door.reload()
        except (ProjectError, OSError) as fault:
            return as_response(problem(422, "The project can not be read", str(fault)))
        if done.faults:
            return as_response(faults_problem(422, "The project has faults; nothing was deployed", done.faults))
        return _json(done)


def _add_transactions(app: QuartTrio, door: Door) -> None:
    @app.get("/api/transactions")
    async def transactions() -> Response:
        return await _transactions(engine_of(door))

    @app.get("/api/transactions/<name>")
    async def transaction(name: str) -> Response:
        engine = engine_of(door)
        await engine.checkpointed()
        with engine.state.database.snapshot():
            row = transaction_of(engine, name)
            shown = None if row is None else transaction_view(engine, row)
        return _missing(f"there is no transaction {name}") if shown is None else _json(shown)

    @app.post("/api/transactions/<name>/<action>")
    async def settle(name: str, action: str) -> Response:
        engine = engine_of(door)
        await engine.checkpointed()
        row = transaction_of(engine, name)
        answer = ANSWERS.get(action)
        if row is None or answer is None:
            return _missing("a transaction whose call is unknown can be told: resend, done or fail")
        given = Settle(row.cycle, engine.clock(), row.id, answer)
        return _told((await engine.order(given).decided()).verdict)


def _add_lists(app: QuartTrio, door: Door) -> None:
    @app.get("/api/incidents")
    async def incidents() -> Response:
        engine = engine_of(door)
        rows, more = await list_page(engine, "/api/incidents", IncidentRow, "1")
        return _json({"incidents": [listed_incident_view(row) for row in rows], "next": more})

    @app.get("/api/usage")
    async def usage() -> Response:
        engine = engine_of(door)
        given = Parameters(request.args, QUERIES["/api/usage"])
        now = engine.clock()
        cycle = given.one_of("cycle", [row.name for row in engine.state.cycles()])
        since = given.instant("since", now, month(now)[0] * DAY_NS)
        until = given.instant("until", now, now + 1)
        given.close()
        rows = engine.state.usages(usage_name(since // DAY_NS, "", ""), ROWS_MAX)
        wanted = [row for row in rows if row.day * DAY_NS < until and cycle in ("", row.cycle)]
        return await _durably(engine, {"usage": usage_view(wanted), "total": sum(row.tasks for row in wanted)})


async def _durably(engine: Engine, view: Any) -> Response:
    """Show what was seen just now, once it is durable: a crash must not take back what a reader was told."""
    shown = json_reply(200, view)
    await engine.committer.flushed()
    return as_response(shown)


def _json(body: Any) -> Response:
    return as_response(json_reply(200, body))


def _missing(detail: str) -> Response:
    return as_response(problem(404, "Not found", detail))


def _told(verdict: Any) -> Response:
    if isinstance(verdict, Refused):
        return as_response(problem(verdict.status, verdict.title, verdict.detail))
    assert isinstance(verdict, Receipt), "orders are answered with a receipt"
    return _json(verdict)


def _cycle(engine: Engine, name: str) -> CycleRow | None:
    try:
        return engine.state.cycle(name)
    except KeyError:
        return None


async def _transactions(engine: Engine) -> Response:
    """A page, newest first; `after` is the number of the last one seen."""
    given = Parameters(request.args, QUERIES["/api/transactions"])
    now = engine.clock()
    value = given.text("value")
    wanted = Filter(
        cycle=given.one_of("cycle", [row.name for row in engine.state.cycles()]),
        status=given.one_of("status", get_args(TransactionStatus)),
        step=given.text("step"),
        values=canonical_texts(value),
        since=given.instant("since", now, 0),
        until=given.instant("until", now, ID_MAX),
    )
    after, limit = given.page()
    given.close()
    await engine.checkpointed()
    fits = partial(matches_by, engine.state, value=value) if value else lambda _: True
    page = find_transactions(engine.state.database, wanted, after, limit, fits)
    return _json({"transactions": [status_view(row) for row in page.rows], "next": page.next})


async def _status(engine: Engine, hit: int) -> Response:
    """The status of a hit's transaction; `Prefer: wait=N` waits until it is final or holds."""
    bound = wait_s()
    with trio.move_on_after(bound):
        while bound:
            row = _hit(engine, hit)
            if row is None or row.status in FINAL or not row.transaction:
                break
            if row.status == "done":
                break
            await engine.watchers.changed(row.transaction)
    row = _hit(engine, hit)
    if row is None:
        return _missing("the hit is no longer kept")
    name = transaction_name(row.cycle, row.transaction) if row.transaction else None
    shown = {"transaction": name, "cycle": row.cycle, **dict.fromkeys(("pass", "held_at", "started", "updated"))}
    if not row.transaction or row.status == "ignored":
        shown["status"] = _without(row)
    else:
        try:
            shown = followed_view(engine.state.transaction(row.transaction))
        except KeyError:
            shown |= {"status": "removed", "pass": row.number}
    return await _durably(engine, {**shown, "answer": _answer(row)})


def _hit(engine: Engine, hit: int) -> HitRow | None:
    try:
        return engine.state.hit(hit)
    except KeyError:
        return None


def _without(row: HitRow) -> str:
    return "parked" if row.status in ("parked", "collected") else row.status


def _answer(row: HitRow) -> Any:
    if row.reply is None:
        return None
    try:
        body = msgspec.json.decode(row.reply.body)
    except msgspec.DecodeError:
        body = row.reply.body.decode("utf-8", "replace")
    return {"status": row.reply.status, "headers": row.reply.headers, "body": body}
