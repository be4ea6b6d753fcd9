"""The front door: HTTP in, and the same answers whichever way a request came."""

from runtime.door.app import SentNotes, make_app
from runtime.door.door import Door

__all__ = ["Door", "SentNotes", "make_app"]
