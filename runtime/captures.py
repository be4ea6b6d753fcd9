"""Field capture (section 4): the next request to a webhook is shown, with the fields that it would declare.

1. A capture only looks: whatever becomes of the request becomes of it as without, also where its cycle is stopped.
2. It sees what was verified, as `before_webhook` left it: what is answered there declares no fields.
3. It lasts as long as the process, and there is one for each webhook; nothing of it is journaled.
"""

from typing import Any

import trio
from msgspec import Struct

from protocol.admission import Incoming, without_secrets
from protocol.bodies import BodyError
from protocol.discovery import discover_request
from protocol.program import Program
from runtime.clock import instant
from runtime.masking import MASK, hidden_of

SHOWN_MAX = 64 << 10  # Characters of a captured body; its fields are discovered in all of it.

Place = tuple[str, str]
"""A webhook: its cycle and its step."""


class Capture(Struct):
    """One webhook whose next request is looked at, and what was seen."""

    version: str  # The definition that asked for one, "" when only a person did.
    came: trio.Event
    seen: dict[str, Any] | None = None


class Captures:
    """The captures of a server: at most one for each webhook."""

    def __init__(self) -> None:
        self._captures: dict[Place, Capture] = {}

    def ask(self, place: Place, version: str = "") -> None:
        """Capture the next request; one that a definition asks for is captured once for each version of it."""
        before = self._captures.get(place)
        if version and before is not None and before.version == version:
            return
        if before is not None:
            before.came.set()  # Who waits for it looks again, and finds the new one.
            version = version or before.version
        self._captures[place] = Capture(version, trio.Event())

    def look(self, program: Program, step: str, given: Incoming) -> None:
        """Show a request, if it is the next one; one of a method that the step does not take comes to nobody."""
        capture = self._captures.get((program.definition.cycle, step))
        if capture is not None and capture.seen is None and given.method in program.webhook(step).step.methods:
            capture.seen = _seen(program, step, given)
            capture.came.set()

    async def shown(self, place: Place, within_s: float) -> dict[str, Any]:
        """What was captured, or is within so many seconds."""
        capture = self._captures.get(place)
        with trio.move_on_after(within_s):
            while capture is not None and capture.seen is None:
                await capture.came.wait()
                capture = self._captures[place]
        if capture is None:
            return {"status": "none"}
        return {"status": "waiting"} if capture.seen is None else {"status": "captured", **capture.seen}


def _seen(program: Program, step: str, given: Incoming) -> dict[str, Any]:
    hidden = hidden_of(program)
    kept = without_secrets(program.webhook(step), given.headers)
    shown = {
        "received": instant(given.at),
        "method": given.method,
        "headers": {name: kept.get(name, MASK) for name in given.headers},
        "query": hidden.query(step, given.query),
        "body": hidden.body(step, given.body, given.headers.get("content-type", ""))[:SHOWN_MAX],
        "body_bytes": len(given.body),
    }
    try:
        found = discover_request(given)
    except BodyError as fault:
        return {**shown, "fault": str(fault), "fields": {}, "left_out": [], "yaml": ""}
    return {**shown, "fault": None, "fields": found.fields, "left_out": found.left_out, "yaml": found.yaml}
