"""One input on its way through the engine: its verdict, and the built answer that may follow."""

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
    """One input on its way: its outcome, and the answer that may follow."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.reply: Reply | None = None
        self.left: Literal["gone", "deadline"] | None = None  # Why its caller left before it was decided.
        self._decided = trio.Event()
        self._answered = trio.Event()

    def decide(self, outcome: Outcome) -> None:
        """The turn is durable."""
        self.outcome = outcome
        self._decided.set()

    def answer(self, reply: Reply) -> None:
        """The built answer is durable."""
        self.reply = reply
        self._answered.set()

    async def decided(self) -> Outcome:
        """Wait for the outcome."""
        await self._decided.wait()
        assert self.outcome is not None, "the outcome is set before its event"
        return self.outcome

    async def answered(self) -> Reply:
        """Wait for the built answer, without end: the caller bounds it by a cancel scope."""
        await self._answered.wait()
        assert self.reply is not None, "the answer is set before its event"
        return self.reply
