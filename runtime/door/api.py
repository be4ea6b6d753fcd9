"""The HTTP API: status URLs for callers, and everything below /api for who holds the admin token."""

from typing import Any, Literal

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from protocol.admission import preferences
from protocol.answers import json_reply, problem
from protocol.inputs import Receipt, Refused, Settle, Start, Stop
from protocol.state import CycleRow, HitRow, IncidentRow, TransactionRow
from runtime.door.door import Door, as_response, not_ready
from runtime.door.views import cycle_view, parked_view, status_view, transaction_view
from runtime.engine import Engine
from runtime.store.rows import TABLES

WAIT_MAX_S = 300.0  # The longest a caller may prefer to wait for a status.
PAGE_MAX = 500  # Rows of one page.
ANSWERS: dict[str, Literal["resend", "done", "fail"]] = {"resend": "resend", "done": "done", "fail": "fail"}
FINAL = ("held", "completed", "failed", "stopped", "expired", "parked")


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

    @app.get("/status/<name>")
    async def status(name: str) -> Response:
        refusal = _refusal(door)
        if refusal is not None:
            return refusal
        hit = door.signed(name)
        if hit is None:
            return _missing("no hit has this address")
        return await _status(_engine(door), hit)

    _add_cycles(app, door)
    _add_transactions(app, door)
    _add_lists(app, door)


def _refusal(door: Door) -> Response | None:
    """What a server says that still recovers; one that drains goes on answering looks and orders."""
    refusal = None if door.draining else not_ready(door)
    return None if refusal is None else as_response(refusal)


def _engine(door: Door) -> Engine:
    assert door.engine is not None, "guarded routes run on a ready server"
    return door.engine


def _add_cycles(app: QuartTrio, door: Door) -> None:
    @app.get("/api/cycles")
    async def cycles() -> Response:
        engine = _engine(door)
        shown = _json({"cycles": [cycle_view(engine, row) for row in engine.state.cycles()]})
        return await _durable(engine, shown)

    @app.get("/api/cycles/<name>")
    async def cycle(name: str) -> Response:
        engine = _engine(door)
        row = _cycle(engine, name)
        shown = _missing(f"there is no cycle {name}") if row is None else _json(cycle_view(engine, row))
        return await _durable(engine, shown)

    @app.post("/api/cycles/<name>/<order>")
    async def order(name: str, order: str) -> Response:
        engine = _engine(door)
        if _cycle(engine, name) is None:
            return _missing(f"there is no cycle {name}")
        at = engine.clock()
        match order:
            case "start":
                given: Start | Stop = Start(name, at)
            case "stop" | "finish":
                given = Stop(name, at, order)
            case _:
                return _missing(f"a cycle can start, stop or finish, not {order}")
        return _told((await engine.order(given).decided()).verdict)


def _add_transactions(app: QuartTrio, door: Door) -> None:
    @app.get("/api/transactions")
    async def transactions() -> Response:
        return await _transactions(_engine(door))

    @app.get("/api/transactions/<name>")
    async def transaction(name: str) -> Response:
        engine = _engine(door)
        await engine.checkpointed()
        row = _transaction(engine, name)
        return _missing(f"there is no transaction {name}") if row is None else _json(transaction_view(engine, row))

    @app.post("/api/transactions/<name>/<action>")
    async def settle(name: str, action: str) -> Response:
        engine = _engine(door)
        await engine.checkpointed()
        row = _transaction(engine, name)
        answer = ANSWERS.get(action)
        if row is None or answer is None:
            return _missing("a transaction whose call is unknown can be told: resend, done or fail")
        given = Settle(row.cycle, engine.clock(), row.id, answer)
        return _told((await engine.order(given).decided()).verdict)


def _add_lists(app: QuartTrio, door: Door) -> None:
    @app.get("/api/parked")
    async def parked() -> Response:
        engine = _engine(door)
        await engine.checkpointed()
        after, limit = _page()
        found = engine.state.database.rows(TABLES[HitRow], "due > 0 AND id > ? ORDER BY id LIMIT ?", (after, limit))
        return _json({"parked": [parked_view(row) for row in found]})

    @app.get("/api/incidents")
    async def incidents() -> Response:
        engine = _engine(door)
        await engine.checkpointed()
        after, limit = _page()
        rows = engine.state.database.rows(TABLES[IncidentRow], "id > ? ORDER BY id LIMIT ?", (after, limit))
        return _json({"incidents": [msgspec.structs.asdict(row) for row in rows]})


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


def _transaction(engine: Engine, name: str) -> TransactionRow | None:
    cycle, _, number = name.rpartition("-")
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        return None
    row = engine.state.database.row(TABLES[TransactionRow], int(number))
    return row if isinstance(row, TransactionRow) and row.cycle == cycle else None


def _number(name: str, default: int) -> int:
    said = request.args.get(name, "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 19 else default


def _page() -> tuple[int, int]:
    return _number("after", -1), min(PAGE_MAX, max(1, _number("limit", 50)))


async def _transactions(engine: Engine) -> Response:
    """A page, newest first; `after` is the number of the last one seen."""
    await engine.checkpointed()
    after, limit = _page()
    where, values = ["id < ?"], [after if after >= 0 else 2**62]
    for name in ("cycle", "status", "step"):
        if name in request.args:
            where.append(f"{name} = ?")
            values.append(request.args[name])  # type: ignore[arg-type]  # Bound as a parameter, of either type.
    condition = f"{' AND '.join(where)} ORDER BY id DESC LIMIT ?"
    rows = list(engine.state.database.rows(TABLES[TransactionRow], condition, (*values, limit + 1)))
    page = rows[:limit]
    more = page[-1].id if len(rows) > limit else None
    return _json({"transactions": [status_view(row) for row in page], "next": more})


async def _status(engine: Engine, hit: int) -> Response:
    """The status of a hit's transaction; `Prefer: wait=N` waits until it is final or holds."""
    said = preferences({"prefer": request.headers.get("prefer", "")}).get("wait", "")
    bound = min(WAIT_MAX_S, int(said)) if said.isascii() and said.isdecimal() else 0.0
    with trio.move_on_after(bound):
        while bound:
            row = _hit(engine, hit)
            if row is None or row.status in FINAL or not row.transaction:
                break
            if row.status == "done":
                break
            await engine.changed(row.transaction)
    return await _durable(engine, _hit_status(engine, hit))


async def _durable(engine: Engine, shown: Response) -> Response:
    """A look at the state in memory, told once all it was made of is durable: a crash takes back nothing told."""
    await engine.committer.flushed()
    return shown


def _hit_status(engine: Engine, hit: int) -> Response:
    row = _hit(engine, hit)
    if row is None:
        return _missing("the hit is no longer kept")
    if not row.transaction:
        return _json({"transaction": None, "cycle": row.cycle, "status": _without(row), "answer": _answer(row)})
    transaction = engine.state.transaction(row.transaction)
    return _json({**status_view(transaction), "answer": _answer(row)})


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
