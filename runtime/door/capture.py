"""The API of field capture: ask for the next request to a webhook, and see it."""

from quart import Response
from quart_trio import QuartTrio

from protocol.answers import json_reply, problem
from runtime.door.door import Door, as_response, engine_of
from runtime.door.parameters import wait_s


def add_capture(app: QuartTrio, door: Door) -> None:
    """Add these routes to an application."""

    @app.post("/api/cycles/<cycle>/capture/<step>")
    async def ask(cycle: str, step: str) -> Response:
        if _is_webhook(door, cycle, step):
            door.captures.ask((cycle, step))
        return await _told(door, cycle, step)

    @app.get("/api/cycles/<cycle>/capture/<step>")
    async def look(cycle: str, step: str) -> Response:
        return await _told(door, cycle, step)


def _is_webhook(door: Door, cycle: str, step: str) -> bool:
    state = engine_of(door).state
    try:
        state.program(state.cycle(cycle).definition_hash).webhook(step)
    except KeyError:
        return False
    return True


async def _told(door: Door, cycle: str, step: str) -> Response:
    if not _is_webhook(door, cycle, step):
        return as_response(problem(404, "Not found", f"there is no webhook {cycle}/{step}"))
    return as_response(json_reply(200, await door.captures.shown((cycle, step), wait_s())))
