"""A request on its way to being a hit: what its step's `before_webhook` says of it, then the checks of its contract.

The door and links share this, so that a link meets the same scripts and checks as a request over HTTP. Nothing is
recorded here: whatever does not become a hit leaves a line in the log.
"""

from typing import TYPE_CHECKING

import structlog

from protocol.admission import Incoming, admit, admit_repeat, check_method, delivery_of
from protocol.answers import problem
from protocol.hooks import heed, view
from protocol.inputs import Hit
from protocol.program import Program, WebhookPlan
from protocol.routing import delivered
from protocol.state import Reply
from runtime.captures import Captures
from runtime.scripts import ScriptFailed, TooManyAsked

if TYPE_CHECKING:
    from runtime.engine import Engine

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.reception")


def is_looked_at(plan: WebhookPlan) -> bool:
    """Whether a function of the project is asked about each request to a step."""
    return isinstance(plan.step.before_webhook, str)


async def hit_of(
    engine: "Engine", program: Program, step: str, request: Incoming, captures: Captures | None = None
) -> Hit | Reply:
    """A hit ready for its cycle, or the answer to a request that becomes none.

    A delivery that was accepted before is not put to the script again: it is answered as it was.
    """
    plan = program.webhook(step)
    function = plan.step.before_webhook
    if not isinstance(function, str):
        return _admit(program, step, request, captures)
    refusal = check_method(plan, step, request)
    if refusal is not None:
        return refusal
    cycle = program.definition.cycle
    delivery = delivery_of(plan, request)
    if delivered(engine.state, cycle, step, delivery, request.at) is not None:
        return admit_repeat(program, step, request, delivery)
    try:
        heeded = await engine.scripts.ask(function, view(plan, request), lambda word: heed(plan, request, word))
    except TooManyAsked as full:
        return problem(503, "Overloaded", str(full), headers={"retry-after": "1"})
    except ScriptFailed as failed:
        fault = engine.secrets.said(str(failed))
        log.error("before_webhook failed, so nothing was accepted", cycle=cycle, step=step, fault=fault)  # noqa: TRY400 - A fault of the project's, whose traceback would show its data.
        detail = f"the before_webhook of step {step} failed; nothing was accepted, so send the request again"
        return problem(500, "The request could not be looked at", detail, step=step)
    if isinstance(heeded, Reply):
        log.info("before_webhook answered", cycle=cycle, step=step, status=heeded.status)
        return heeded
    return _admit(program, step, heeded, captures)


def _admit(program: Program, step: str, request: Incoming, captures: Captures | None) -> Hit | Reply:
    if captures is not None:
        captures.look(program, step, request)
    return admit(program, step, request)
