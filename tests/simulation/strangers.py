"""Requests of whoever knows a URL: each is refused as the contract says, and leaves nothing behind."""

from dataclasses import dataclass, field

import trio

from protocol.admission import Incoming
from protocol.chain import CHAIN_HEADER
from runtime.door.door import Door, Route
from runtime.door.webhook import Answer, find, receive
from tests.simulation.partner import Breach
from tests.simulation.programs import TRIGGER
from tests.simulation.world import World

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Stranger:
    """A request that is refused, whatever state the cycle is in, and how."""

    status: int
    method: str = "POST"
    body: bytes = b'{"id": 1}'
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    cycle: str = "main"
    step: str = TRIGGER


STRANGERS = (
    Stranger(404, cycle="", step=""),
    Stranger(405, method="GET", body=b""),
    Stranger(415, headers={"content-type": "application/x-unheard-of"}),
    Stranger(400, body=b'{"id": '),
    Stranger(422, body=b'{"id": "not a number"}'),
)


DEEP = Stranger(508, headers={**JSON, CHAIN_HEADER: f"1-{1:032x}-100-{0:032x}"})
"""One that comes back for the hundredth time, by somebody's word: refused with one incident."""


FULL = 503
"""What anybody may be told: whether there is room is known before a request is read (seed 62)."""


async def ask(world: World, door: Door, stranger: Stranger) -> None:
    """Send it; raises `Breach` when it is not refused as it must be."""
    engine = door.engine
    assert engine is not None, "a process that is up has an engine"
    found = Route(stranger.cycle, stranger.step) if stranger.cycle else find(door, "nowhere")
    if isinstance(found, Answer):
        reply = found.reply
    else:
        incoming = Incoming(
            method=stranger.method, headers=stranger.headers, query={}, body=stranger.body, at=world.clock()
        )
        given = await receive(door, found, incoming)
        reply = (given if isinstance(given, Answer) else await given.answered()).reply
    await trio.lowlevel.checkpoint()
    world.saw(f"answer {reply.status}")
    if reply.status not in (stranger.status, FULL):
        raise Breach(f"{stranger} was told {reply.status}")
