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
from protocol.program import Program
from protocol.state import Reply
from runtime.door.door import Door, Route, engine_of, not_ready
from runtime.engine import Engine
from runtime.metering import QuotaReached
from runtime.reception import admitted, hit_of, is_looked_at
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

    def answer(self) -> Answer | None:
        """The answer, to be told once; None while it is not durable."""
        outcome = self.ticket.outcome
        if outcome is None:
            return None
        repeated = isinstance(outcome.verdict, Duplicate)
        if outcome.reply is not None:
            return self._counted(_marked(outcome.reply, repeated))
        if self.ticket.reply is None:
            return None
        return self._counted(_marked(self.ticket.reply, repeated), self._repeated if repeated else self._settle)

    def late(self) -> Answer:
        """What is told when the time is over: the run goes on, and can be followed."""
        outcome = self.ticket.outcome
        assert outcome is not None, "the time begins when the request is durable"
        self.engine.leave(self.hit.cycle, self.ticket, "deadline")
        url = self.engine.status_url(outcome.waits)
        if self.on_late == "accept":
            body = {"status": "accepted", "hit": outcome.waits, "status_url": url}
            late = Reply(202, {"content-type": "application/json", "location": url}, json.encode(body))
        else:
            detail = f"no answer within {self.within:g} seconds; the run goes on"
            late = problem(504, "Answer is late", detail, headers={"location": url}, status_url=url)
        return self._counted(_marked(late, isinstance(outcome.verdict, Duplicate)))

    def gone(self) -> None:
        """The caller has hung up; the transaction goes on."""
        self.engine.counters.hits[self.hit.cycle, "gone"] += 1
        self.engine.leave(self.hit.cycle, self.ticket, "gone")

    async def answered(self, wait: Callable[[], Awaitable[object]] | None = None) -> Answer:
        """Wait within the caller's and the step's bounds.

        Args:
            wait: how, until the ticket has its answer; who is cancelled in it, or raises, is a caller who is gone.
        """
        try:
            await self.ticket.decided()
            answer = self.answer()
            if answer is None:
                with trio.move_on_after(self.within):
                    await (wait or self.ticket.answered)()
        except BaseException:  # Cancelled, or what the way that carries the answer raises when its caller hangs up.
            self.gone()
            raise
        return answer or self.answer() or self.late()

    def _counted(self, reply: Reply, fate: Callable[[Fate], None] | None = None) -> Answer:
        self.engine.counters.hits[self.hit.cycle, str(reply.status)] += 1
        return Answer(reply, fate)

    def _settle(self, fate: Fate) -> None:
        outcome = self.ticket.outcome
        assert outcome is not None, "what is answered was decided"
        self.engine.settle(self.hit.cycle, outcome.waits, fate)

    def _repeated(self, fate: Fate) -> None:
        if fate == "sent":  # Who repeats a delivery and hangs up says nothing of the first caller.
            self._settle(fate)


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
    """Verify, read and check a request, and put it to its cycle; a script of the project may look at it first."""
    given = receive_now(door, route, request)
    if given is not None:
        return given
    verified = _verified(door, route, request)
    if isinstance(verified, Answer):
        return _counted(door, route, verified)
    engine = engine_of(door)
    hit = await hit_of(engine, _program(door, route), route.step, verified, door.captures)
    return _put(door, route, verified, hit)


def receive_now(door: Door, route: Route, request: Incoming) -> Answer | Waiting | None:
    """The same at once; None when a script is to look at the request, and nothing has been done with it yet."""
    program = _program(door, route)
    if is_looked_at(program.webhook(route.step)):
        return None
    verified = _verified(door, route, request)
    if isinstance(verified, Answer):
        return _counted(door, route, verified)
    return _put(door, route, verified, admitted(program, route.step, verified, door.captures))


def _program(door: Door, route: Route) -> Program:
    state = engine_of(door).state
    return state.program(state.cycle(route.cycle).definition_hash)


def _verified(door: Door, route: Route, request: Incoming) -> Answer | Incoming:
    """A request for which there is room and which is signed as its step asks, with its chain."""
    try:  # First: refusing what was read and checked would cost as much as taking it.
        engine_of(door).check_room(len(request.body))
    except Overloaded as full:
        return _overloaded(full)
    refusal = door.verified(_program(door, route).webhook(route.step), route, request)
    if refusal is not None:
        return Answer(refusal)
    chain, depth = read_chain(request.headers, door.chain_key)
    return request if chain is NO_CHAIN else structs.replace(request, chain=chain, depth=depth)


def _put(door: Door, route: Route, request: Incoming, hit: Hit | Reply) -> Answer | Waiting:
    if isinstance(hit, Reply):
        return _counted(door, route, Answer(hit))
    plan = _program(door, route).webhook(route.step)
    within = answer_within(plan, request.headers) / 1e9
    return _counted(door, route, deliver(engine_of(door), hit, within, plan.step.on_late))


def _counted(door: Door, route: Route, given: Answer | Waiting) -> Answer | Waiting:
    if isinstance(given, Answer):
        door.count(route.cycle, given.reply)
    return given


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


def _marked(reply: Reply, repeated: bool) -> Reply:
    return structs.replace(reply, headers={**reply.headers, DUPLICATE_HEADER: "true"}) if repeated else reply
