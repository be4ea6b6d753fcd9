"""The front door: HTTP in, and the same answers whichever way a request came."""

from runtime.door.app import SentNotes, make_app
from runtime.door.door import Door
from runtime.door.listener import Listener

__all__ = ["Door", "Listener", "SentNotes", "make_app"]
