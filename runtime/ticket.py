"""One input on its way through the engine: its verdict, and the built answer that may follow."""

from collections.abc import Callable
from typing import Literal

import trio
from msgspec import Struct

from protocol.inputs import Verdict
from protocol.state import Reply


class Overloaded(Exception):
    """The backlog is full; `retry_after` is seconds, from the measured rate."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the backlog is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Outcome(Struct, frozen=True):
    """The durable verdict on an input; `waits` is the hit whose built answer is still to come."""

    verdict: Verdict
    reply: Reply | None = None
    waits: int = 0


class Ticket:
    """One input on its way: its outcome, and the answer that may follow.

    Attributes:
        outcome: the durable verdict, once there is one.
        reply: the built answer, once it is durable.
        left: why its caller left before it was decided.
        then: called with the outcome, by who does not wait for it.
        tell: called once the built answer is there, by who does not wait for it.
    """

    def __init__(self, then: Callable[[Outcome], None] | None = None) -> None:
        self.outcome: Outcome | None = None
        self.reply: Reply | None = None
        self.left: Literal["gone", "deadline"] | None = None
        self.then = then
        self.tell: Callable[[], None] | None = None
        self._decided: trio.Event | None = None  # Events are made by who waits: most tickets need none.
        self._answered: trio.Event | None = None

    def decide(self, outcome: Outcome) -> None:
        """The turn is durable."""
        self.outcome = outcome
        if self._decided is not None:
            self._decided.set()
        if self.then is not None:
            self.then(outcome)

    def answer(self, reply: Reply) -> None:
        """The built answer is durable."""
        self.reply = reply
        if self._answered is not None:
            self._answered.set()
        if self.tell is not None:
            self.tell()

    async def decided(self) -> Outcome:
        """Wait for the outcome."""
        if self.outcome is None:
            self._decided = self._decided or trio.Event()
            await self._decided.wait()
        else:
            await trio.lowlevel.checkpoint()
        assert self.outcome is not None, "the outcome is set before its event"
        return self.outcome

    async def answered(self) -> Reply:
        """Wait for the built answer, without end: the caller bounds it by a cancel scope."""
        if self.reply is None:
            self._answered = self._answered or trio.Event()
            await self._answered.wait()
        else:
            await trio.lowlevel.checkpoint()
        assert self.reply is not None, "the answer is set before its event"
        return self.reply
