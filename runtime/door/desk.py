"""Where a listener takes what it reads: to the engine of its own process (`own`), or of another one (`worker`)."""

from typing import Any, Protocol

from protocol.state import Reply
from runtime.door.answer import Answer, Awaited
from runtime.door.http1 import Head


class Desk(Protocol):
    """Takes requests at webhook URLs, part by part as the lane reads them."""

    def find(self, identifier: str) -> Any:
        """Where an identifier leads, for `take`; or the `Answer` that refuses it before its body is read."""
        ...

    def is_full(self) -> bool:
        """Whether a request that comes now has to wait for its place."""
        ...

    async def place(self) -> None:
        """Wait for it; for a moment, whether or not there is one then."""
        ...

    def at_once(self, found: Any, head: Head, body: bytes) -> Answer | Awaited | None:
        """A whole request: refused, or with its cycle; None when that takes a wait, for `take`."""
        ...

    async def take(self, found: Any, head: Head, body: bytes) -> Answer | Awaited:
        """The same with a wait: for a script of the project, which looks at the request first."""
        ...

    def too_large(self) -> Reply:
        """What a body past its bound is told."""
        ...

    def too_slow(self) -> Reply:
        """What a body that does not come is told."""
        ...


class Http(Protocol):
    """Serves connections that are none of the lane's."""

    async def serve(self, stream: Any) -> None:
        """One connection, to its end."""
        ...

    async def stop(self) -> None:
        """Let each connection end after its answer."""
        ...
