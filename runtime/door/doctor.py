"""The doctor over the API: whether what must be true is true, and what a transaction waits for."""

from collections.abc import Iterator
from functools import partial
from os import environ
from pathlib import Path

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from protocol.answers import json_reply, problem
from protocol.definition import Definition
from protocol.remotes import remote_of
from protocol.state import TransactionRow
from runtime.calling import connector_of
from runtime.clock import wall_clock
from runtime.doctor import Check, Looked, Report, explain
from runtime.doctor.advice import cycles_checks, settings_check
from runtime.doctor.explain import Surroundings
from runtime.doctor.live import Busy
from runtime.doctor.machine import machine_checks
from runtime.doctor.rest import invariant_checks
from runtime.door.door import Door, as_response, engine_of
from runtime.door.openapi import QUERIES
from runtime.door.parameters import Parameters
from runtime.door.views import transaction_of
from runtime.engine import Engine
from runtime.gates import limits_of

SECONDS_DEFAULT, SECONDS_MAX = 10, 300


def add_doctor(app: QuartTrio, door: Door) -> None:
    """Add the routes to an application."""

    @app.get("/api/doctor")
    async def doctor() -> Response:
        engine = engine_of(door)
        given = Parameters(request.args, QUERIES["/api/doctor"])
        seconds = given.number("seconds", SECONDS_DEFAULT, 1, SECONDS_MAX)
        given.close()
        assert door.doctor is not None, "a door that is ready has one"
        try:
            looked = await door.doctor.look(seconds)
        except Busy:
            return as_response(problem(409, "A look is under way", "one at a time: ask again when it is over"))
        definitions = [engine.state.program(row.definition_hash).definition for row in engine.state.cycles()]
        checks = await door.doctor.blocking(partial(_checks, engine, looked, definitions))
        return as_response(json_reply(200, Report(looked.applied, looked.whole, checks)))

    @app.get("/api/doctor/<name>")
    async def why(name: str) -> Response:
        engine = engine_of(door)
        await engine.checkpointed()
        database = engine.state.database
        with database.snapshot():
            row = transaction_of(engine, name)
            if row is None:
                return as_response(problem(404, "Not found", f"there is no transaction {name}"))
            around = Surroundings(
                database,
                engine.state.program,
                lambda identifier: f"{engine.public_url}/webhook/{identifier}",
                partial(_gate, engine),
                engine.clock(),
                live=True,
            )
            told = explain(row, around)
        return as_response(json_reply(200, told))


def _checks(engine: Engine, looked: Looked, definitions: list[Definition]) -> list[Check]:
    """Everything that the server itself looks at. Blocks."""
    return list(_all(engine, looked, definitions))


def _all(engine: Engine, looked: Looked, definitions: list[Definition]) -> Iterator[Check]:
    yield from invariant_checks(looked)
    data = Path(engine.state.database.path).parent
    settings = msgspec.structs.replace(engine.settings, data=str(data))
    segments = engine.journal.segments()
    yield from machine_checks(settings, wall_clock()(), segments[-1].last_at if segments else 0)
    yield settings_check(settings)
    yield from cycles_checks(definitions, settings, environ)


def _gate(engine: Engine, row: TransactionRow) -> str:
    """What is known of the way to the remote of an open call."""
    if row.call is None or row.call.link is not None:
        return ""
    connector = connector_of(engine.state, row.cycle, row.call.request.connector, row.definition_hash)
    gate = engine.calling.gates.gate(row.cycle, remote_of(row.call.request), connector)
    if not gate.waiting:
        return ""
    limits = limits_of(connector)
    rate = "" if limits.rate is None else f" and the rate {connector.rate}"
    bound = f"its connector allows {limits.concurrency} at once{rate}"
    return f"{gate.in_flight} calls are under way and {gate.waiting} wait for their place, since {bound}"
