"""A request at a webhook URL, whichever way it came: from the identifier to the answer, and what became of it.

1. A request is refused before anything is recorded, or its answer comes after its events are durable.
2. Who waits for a built answer is bounded by his own deadline; the transaction knows nothing of it.
3. The way that carries the answer tells its fate: `settle` once, `sent` when the last byte was handed on.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import trio
from msgspec import Struct, json, structs

from protocol.admission import Incoming, answer_within
from protocol.answers import DUPLICATE_HEADER, problem
from protocol.chain import NO_CHAIN, read_chain
from protocol.inputs import Duplicate, Hit
from protocol.state import Reply
from runtime.door.door import Door, Route, engine_of, not_ready
from runtime.engine import Engine
from runtime.metering import QuotaReached
from runtime.reception import hit_of
from runtime.ticket import Overloaded, Ticket

Fate = Literal["sent", "gone"]


class Answer(Struct, frozen=True):
    """What leaves for a caller.

    Attributes:
        fate: told what became of it, where that is recorded.
    """

    reply: Reply
    fate: Callable[[Fate], None] | None = None

    def settle(self, fate: Fate) -> None:
        """Record what became of a built answer; of any other nothing is recorded."""
        if self.fate is not None:
            self.fate(fate)


class Waiting(Struct, frozen=True):
    """The request is with its cycle: its caller is told the durable verdict, or what the pass will respond.

    Attributes:
        within: how many seconds the caller waits for what the pass responds, from when his request is durable.
        on_late: what he is told then, by the version of the cycle that took his request: a deploy may drop the step.
    """

    engine: Engine
    hit: Hit
    ticket: Ticket
    within: float
    on_late: str

    async def answered(self, wait: Callable[[], Awaitable[object]] | None = None) -> Answer:
        """Wait within the caller's and the step's bounds.

        Args:
            wait: how, until the ticket has its answer; who is cancelled in it, or raises, is a caller who is gone.
        """
        engine, cycle, ticket = self.engine, self.hit.cycle, self.ticket
        try:
            outcome = await ticket.decided()
            if outcome.reply is None and ticket.reply is None:
                with trio.move_on_after(self.within):
                    await (wait or ticket.answered)()
        except BaseException:  # Cancelled, or what the way that carries the answer raises when its caller hangs up.
            engine.counters.hits[cycle, "gone"] += 1
            engine.leave(cycle, ticket, "gone")
            raise
        repeated, fate = isinstance(outcome.verdict, Duplicate), None
        reply = outcome.reply or ticket.reply
        if reply is None:
            reply = self._late(outcome.waits)
        elif outcome.reply is None:
            fate = partial(self._settle, outcome.waits, repeated)
        engine.counters.hits[cycle, str(reply.status)] += 1
        if repeated:
            reply = structs.replace(reply, headers={**reply.headers, DUPLICATE_HEADER: "true"})
        return Answer(reply, fate)

    def _late(self, waits: int) -> Reply:
        """What is told when the time is over: the run goes on, and can be followed."""
        self.engine.leave(self.hit.cycle, self.ticket, "deadline")
        url = self.engine.status_url(waits)
        if self.on_late == "accept":
            body = {"status": "accepted", "hit": waits, "status_url": url}
            return Reply(202, {"content-type": "application/json", "location": url}, json.encode(body))
        detail = f"no answer within {self.within:g} seconds; the run goes on"
        return problem(504, "Answer is late", detail, headers={"location": url}, status_url=url)

    def _settle(self, waits: int, repeated: bool, fate: Fate) -> None:
        if fate == "sent" or not repeated:  # Who repeats a delivery and hangs up says nothing of the first caller.
            self.engine.settle(self.hit.cycle, waits, fate)


def find(door: Door, identifier: str) -> Route | Answer:
    """Where a webhook identifier leads, or the answer that refuses the request before its body is read."""
    refusal = not_ready(door)
    route = None if refusal is not None else door.route(identifier)
    if route is None:
        refusal = refusal or problem(404, "No such webhook", "no cycle has this identifier")
        door.count("", refusal)
        return Answer(refusal)
    return route


def too_large(door: Door) -> Reply:
    """What a body past its bound is told."""
    reply = problem(413, "Body too large", f"a body has at most {door.settings.body_bytes_max} bytes")
    door.count("", reply)
    return reply


def too_slow(door: Door) -> Reply:
    """What a body that does not come is told."""
    reply = problem(408, "Body too slow", f"the body did not come within {door.settings.body_timeout_s:g} seconds")
    door.count("", reply)
    return reply


async def receive(door: Door, route: Route, request: Incoming) -> Answer | Waiting:
    """Verify, read and check a request, and put it to its cycle."""
    given = await _receive(door, route, request)
    if isinstance(given, Answer):
        door.count(route.cycle, given.reply)
    return given


async def _receive(door: Door, route: Route, request: Incoming) -> Answer | Waiting:
    engine = engine_of(door)
    program = engine.state.program(engine.state.cycle(route.cycle).definition_hash)
    plan = program.webhook(route.step)
    try:  # First: refusing what was read and checked would cost as much as taking it.
        engine.check_room(len(request.body))
    except Overloaded as full:
        return _overloaded(full)
    refusal = door.verified(plan, route, request)
    if refusal is not None:
        return Answer(refusal)
    chain, depth = read_chain(request.headers, door.chain_key)
    if chain is not NO_CHAIN:
        request = structs.replace(request, chain=chain, depth=depth)
    admitted = await hit_of(engine, program, route.step, request, door.captures)
    if isinstance(admitted, Reply):
        return Answer(admitted)
    return deliver(engine, admitted, answer_within(plan, request.headers) / 1e9, plan.step.on_late)


def deliver(engine: Engine, hit: Hit, within: float, on_late: str) -> Answer | Waiting:
    """Put a hit to its cycle, for a caller who waits so many seconds for what its pass responds, and what then."""
    try:
        return Waiting(engine, hit, engine.accept(hit), within, on_late)
    except Overloaded as full:
        return _overloaded(full)
    except QuotaReached as used:
        headers = {"retry-after": str(used.retry_after)}
        return Answer(problem(429, "Quota reached", str(used), headers=headers))


def _overloaded(full: Overloaded) -> Answer:
    return Answer(problem(503, "Overloaded", str(full), headers={"retry-after": str(full.retry_after)}))
