"""What listens for a door: the process of the engine itself, or others (`workers`)."""

import structlog

from runtime.config import Settings
from runtime.door.door import Door
from runtime.door.listener import Listener, file_limit, room
from runtime.door.own import OwnDesk, OwnHttp
from runtime.door.workers import Workers

log: structlog.stdlib.BoundLogger = structlog.get_logger("cyclewright.door")


def entrance(settings: Settings, door: Door) -> Listener | Workers:
    """What the settings ask for; raises `ConfigError` when they name no certificate."""
    asked = settings.connections_max
    if (
        room(settings) < asked != Settings().connections_max
    ):  # What nobody has asked for, `doctor` tells who wants to know.
        log.info(
            "fewer connections than connections_max: raise the limit of open files",
            connections=room(settings),
            connections_max=asked,
            open_files=file_limit(),
        )
    http = OwnHttp(settings, door)
    return Workers(settings, door, http) if settings.workers else Listener(settings, OwnDesk(door), http)
