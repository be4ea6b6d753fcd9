"""A request at a webhook URL, whichever way it came: from the identifier to the answer, and what became of it.

1. A request is refused before anything is recorded, or its answer comes after its events are durable.
2. Who waits for a built answer is bounded by his own deadline; the transaction knows nothing of it.
3. The way that carries the answer tells its fate: `settle` once, `sent` when the last byte was handed on.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

import trio
from msgspec import Struct, json, structs

from protocol.admission import Incoming, answer_within
from protocol.answers import DUPLICATE_HEADER, problem
from protocol.chain import NO_CHAIN, read_chain
from protocol.inputs import Duplicate, Hit
from protocol.state import Reply
from runtime.door.door import Door, Route, not_ready
from runtime.engine import Engine
from runtime.metering import QuotaReached
from runtime.reception import hit_of
from runtime.ticket import Overloaded, Ticket

Fate = Literal["sent", "gone"]


class Answer(Struct, frozen=True):
    """What leaves for a caller."""

    reply: Reply
    engine: Engine | None = None  # Set when the fate of the answer is recorded.
    cycle: str = ""
    hit: int = 0
    repeated: bool = False

    def settle(self, fate: Fate) -> None:
        """Record what became of a built answer; of any other nothing is recorded."""
        if self.engine is None:
            return
        if fate == "sent" or not self.repeated:  # Who repeats a delivery and hangs up says nothing of the first caller.
            self.engine.settle(self.cycle, self.hit, fate)


class Waiting(Struct, frozen=True):
    """The request is durable, and its caller waits for what the pass will respond."""

    engine: Engine
    hit: Hit
    ticket: Ticket
    waits: int  # The hit whose answer it is; another than the request's own when it came before.
    marks: dict[str, str]

    async def answer(self, wait: Callable[[], Awaitable[object]] | None = None) -> Answer:
        """Wait within the caller's and the step's bounds.

        Args:
            wait: how, until the ticket has its answer; who is cancelled in it, or raises, is a caller who is gone.
        """
        hits, status = self.engine.counters.hits, "gone"
        try:
            answer = await self._answer(wait or self.ticket.answered)
            status = str(answer.reply.status)
        finally:
            hits[self.hit.cycle, status] += 1
        return answer

    async def _answer(self, wait: Callable[[], Awaitable[object]]) -> Answer:
        engine, hit, ticket = self.engine, self.hit, self.ticket
        plan = engine.state.program(engine.state.cycle(hit.cycle).definition_hash).webhook(hit.step)
        bound = answer_within(plan, hit.headers) / 1e9
        if ticket.reply is None:
            try:
                with trio.move_on_after(bound):
                    await wait()
            except BaseException:  # Cancelled, or what the way that carries the answer raises when its caller hangs up.
                engine.leave(hit.cycle, ticket, "gone")
                raise
        if ticket.reply is not None:  # Also when the bound is zero, or came in the same instant.
            return Answer(_marked(ticket.reply, self.marks), engine, hit.cycle, self.waits, bool(self.marks))
        engine.leave(hit.cycle, ticket, "deadline")
        url = engine.status_url(self.waits)
        if plan.step.on_late == "accept":
            body = {"status": "accepted", "hit": self.waits, "status_url": url}
            late = Reply(202, {"content-type": "application/json", "location": url}, json.encode(body))
        else:
            detail = f"no answer within {bound:g} seconds; the run goes on"
            late = problem(504, "Answer is late", detail, headers={"location": url}, status_url=url)
        return Answer(_marked(late, self.marks))


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
    answer = await _receive(door, route, request)
    if isinstance(answer, Answer):
        door.count(route.cycle, answer.reply)
    return answer


async def _receive(door: Door, route: Route, request: Incoming) -> Answer | Waiting:
    engine = door.engine
    assert engine is not None, "a ready door has an engine"
    program = engine.state.program(engine.state.cycle(route.cycle).definition_hash)
    try:  # First: refusing what was read and checked would cost as much as taking it.
        engine.check_room(len(request.body))
    except Overloaded as full:
        return _overloaded(full)
    refusal = door.verified(program.webhook(route.step), route, request)
    if refusal is not None:
        return Answer(refusal)
    chain, depth = read_chain(request.headers, door.chain_key)
    if chain is not NO_CHAIN:
        request = structs.replace(request, chain=chain, depth=depth)
    admitted = await hit_of(engine, program, route.step, request, door.captures)
    if isinstance(admitted, Reply):
        return Answer(admitted)
    return await deliver(engine, admitted)


async def deliver(engine: Engine, hit: Hit) -> Answer | Waiting:
    """Put a hit to its cycle; answered once it is durable, or at what its pass responds."""
    try:
        ticket = engine.accept(hit)
    except Overloaded as full:
        return _overloaded(full)
    except QuotaReached as used:
        headers = {"retry-after": str(used.retry_after)}
        return Answer(problem(429, "Quota reached", str(used), headers=headers))
    try:
        outcome = await ticket.decided()
    except trio.Cancelled:
        engine.leave(hit.cycle, ticket, "gone")
        raise
    marks = {DUPLICATE_HEADER: "true"} if isinstance(outcome.verdict, Duplicate) else {}
    if outcome.reply is not None:
        return Answer(_marked(outcome.reply, marks))
    return Waiting(engine, hit, ticket, outcome.waits, marks)


def _overloaded(full: Overloaded) -> Answer:
    return Answer(problem(503, "Overloaded", str(full), headers={"retry-after": str(full.retry_after)}))


def _marked(reply: Reply, marks: dict[str, str]) -> Reply:
    return structs.replace(reply, headers={**reply.headers, **marks}) if marks else reply
