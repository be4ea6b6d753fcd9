"""What leaves for a caller, and what is still to come for him, as the way sees it that carries it."""

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from protocol.state import Reply

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


class Awaited(Protocol):
    """An answer that is still to come."""

    @property
    def within(self) -> float:
        """How many seconds the caller waits from when his request is durable; without end where others see to that."""
        ...

    @property
    def is_answered(self) -> bool:
        """Whether `answer` has one."""
        ...

    async def decided(self) -> None:
        """Return once the request is durable, which takes no longer than a sync; at once where nobody can know."""
        ...

    def answer(self) -> Answer | None:
        """The answer, to be told once; None while it is not there."""
        ...

    def when_answered(self, tell: Callable[[], None]) -> None:
        """Have something called when the answer is there, which it is not yet."""
        ...

    def late(self) -> Answer:
        """What is told when `within` is over."""
        ...

    def gone(self) -> None:
        """The caller has hung up; what he asked for goes on."""
        ...
