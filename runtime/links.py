"""Links: requests from one cycle to another, in process, exactly once.

A link carries the idempotency key of its call as its delivery key, so a repeat after a crash finds the hit that the
first attempt made. Nothing waits in a slot: the parent's pass is a row until the answer comes back as an input.
"""

from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from protocol.admission import Incoming, admit, handed_over
from protocol.answers import problem
from protocol.events import CallIntended, Origin
from protocol.inputs import Accepted, CallAnswer, CallEnded, Duplicate, Hit, Resumed
from protocol.program import Program, WebhookPlan
from protocol.state import Reply
from runtime.reception import hit_of, is_looked_at
from runtime.ticket import Outcome

if TYPE_CHECKING:
    from runtime.engine import Engine


class Links:
    """Hands requests over between the cycles of one engine."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def hand_over(self, call: CallIntended, number: int, link: tuple[str, str], *, by_url: bool = False) -> None:
        """Hand a request to another cycle: the same checks and answers as over HTTP, without a socket.

        A webhook that verifies its callers trusts a link, which the author of a cycle has written. What was found by a
        URL may have been named by data, so it is refused as any caller who can not sign.
        """
        cycle, step = link
        row = self._engine.state.transaction(call.transaction)
        origin = Origin(call.cycle, call.transaction, call.step, number)
        incoming = handed_over(row, call.step, call.request, call.idempotency_key, self._engine.clock())
        try:
            program = self._engine.state.program(self._engine.state.cycle(cycle).definition_hash)
            plan = program.webhook(step)
        except KeyError:  # Of an older version: what it links to may be gone by now.
            self._answer(origin, problem(404, "No such webhook", f"there is no webhook {cycle}/{step}"), 0, "")
            return
        refusal = unsigned(plan) if by_url else None
        if refusal is not None:
            self._answer(origin, refusal, 0, "")
        elif is_looked_at(plan):
            self._engine.spawn(self._ask, program, step, incoming, origin)
        else:
            self._put(admit(program, step, incoming), origin)

    async def _ask(self, program: Program, step: str, incoming: Incoming, origin: Origin) -> None:
        self._put(await hit_of(self._engine, program, step, incoming), origin)

    def _put(self, hit: Hit | Reply, origin: Origin) -> None:
        if isinstance(hit, Reply):
            self._answer(origin, hit, 0, "")
        else:
            self._engine.order(hit, partial(self._decided, origin, hit.cycle))

    def _decided(self, origin: Origin, cycle: str, outcome: Outcome) -> None:
        if outcome.reply is None:
            return  # The target answers by a built reply, whose release goes to the parent by itself.
        child = 0
        match outcome.verdict:
            case Accepted(transaction=child) | Resumed(transaction=child):
                pass
            case Duplicate(hit=before):
                child = self._engine.state.hit(before).transaction
            case _:
                pass
        self._answer(origin, outcome.reply, child, cycle)

    def _answer(self, origin: Origin, reply: Reply, child: int, cycle: str) -> None:
        answer = CallAnswer(reply.status, reply.headers, reply.body, child, cycle)
        self._engine.post(
            CallEnded(origin.cycle, self._engine.clock(), origin.transaction, origin.step, origin.number, 0, answer)
        )


def unsigned(plan: WebhookPlan) -> Reply | None:
    """The refusal of a request that found its webhook by a URL, when that webhook verifies its callers."""
    if plan.step.verify is UNSET:
        return None
    return problem(401, "Not verified", "a webhook of this server that verifies its callers takes `cycle:` links alone")
