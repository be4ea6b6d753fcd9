"""Parked hits over the API: listed, and aimed by hand."""

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from protocol.answers import json_reply, problem
from protocol.inputs import Aim, Refused, Resumed
from protocol.state import HitRow, transaction_name
from runtime.door import shapes
from runtime.door.door import Door, as_response, engine_of
from runtime.door.lists import list_page
from runtime.door.parameters import NUMBER_MAX
from runtime.door.views import parked_view, transaction_of


def add_parking(app: QuartTrio, door: Door) -> None:
    """Add the routes to an application."""

    @app.get("/api/parked")
    async def parked() -> Response:
        engine = engine_of(door)
        rows, more = await list_page(engine, "/api/parked", HitRow, "due > 0")
        return as_response(json_reply(200, {"parked": [parked_view(engine, row) for row in rows], "next": more}))

    @app.post("/api/parked/<int:hit>/aim")
    async def aim(hit: int) -> Response:
        engine = engine_of(door)
        try:
            said = msgspec.json.decode(await request.get_data(as_text=False), type=shapes.Aim)
        except msgspec.DecodeError as fault:
            return as_response(problem(400, "Malformed body", f'the body is {{"transaction": NAME}}: {fault}'))
        await engine.checkpointed()
        row = transaction_of(engine, said.transaction)
        if row is None or hit > NUMBER_MAX:
            return as_response(problem(404, "Not found", f"there is no transaction {said.transaction}"))
        verdict = (await engine.order(Aim(row.cycle, engine.clock(), hit, row.id)).decided()).verdict
        if isinstance(verdict, Refused):
            return as_response(problem(verdict.status, verdict.title, verdict.detail))
        assert isinstance(verdict, Resumed), "an aim is refused or runs a transaction"
        return as_response(json_reply(200, {"hit": hit, "transaction": transaction_name(row.cycle, row.id)}))
