"""The seam to remote systems: what the engine asks of them, and what tests and simulations bring instead."""

from typing import Protocol

from protocol.definition import Connector
from protocol.events import CallIntended
from protocol.inputs import CallAnswer, CallFailure
from runtime.egress import OwnAddress


class Network(Protocol):
    """Remote systems as the engine reaches them; tests and simulations bring their own."""

    def listen_at(self, own: OwnAddress | None) -> None:
        """Note where this server listens: calls to it over the network are refused."""
        ...

    async def perform(
        self, call: CallIntended, connector: Connector, *, safe_to_repeat: bool | None = None
    ) -> CallAnswer | CallFailure:
        """Send one attempt and bring its outcome; never raises for what a remote or a network does."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
