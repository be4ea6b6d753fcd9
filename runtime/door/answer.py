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
    """An answer that is still to come, as the way sees it that will carry it.

    Attributes:
        within: how many seconds its caller waits for what a pass responds.
        exact: whether that is to be kept to the instant, as for every caller who wants such an answer.
    """

    @property
    def within(self) -> float: ...

    @property
    def exact(self) -> bool: ...

    def tell(self, told: Callable[[], None]) -> None:
        """Have something called whenever there may be an answer."""
        ...

    def answer(self) -> Answer | None:
        """The answer, to be told once; None while it is not durable."""
        ...

    def late(self) -> Answer | None:
        """What is told when `within` is over; None while not even the request is durable."""
        ...

    def gone(self) -> None:
        """The caller has hung up; what he asked for goes on."""
        ...
