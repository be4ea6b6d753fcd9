"""Commands run in this process, and how they ended."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        assert self.out, (self.code, self.err)
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[Any]:
        """What it printed, a JSON value a line."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


Cli = Callable[..., Done]
