"""Structured logs: for people at a terminal, as JSON lines otherwise; always to stderr.

A line that can not be written is lost, and the next one that can says how many were: a log often lies on the very disk
that is full, and a server that ended for want of a sentence about it would refuse everybody.
"""

import io
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

SECRET_WORDS = ("token", "secret", "password", "authorization", "cookie")


def hide_secrets(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every value whose name says that it is a secret: a log is read by more people than may know one."""
    for name in entry:
        if any(word in name.lower() for word in SECRET_WORDS):
            entry[name] = "••••"
    return entry


class Lines(io.TextIOBase):
    """Writes to a file's descriptor, past Python's buffer, which would keep a line that failed and fail again at exit.

    Attributes:
        lost: lines that could not be written since the last one that could.
    """

    def __init__(self, handle: int) -> None:
        super().__init__()
        self.lost = 0
        self._handle = handle

    def write(self, text: str) -> int:
        """Write a line, or count it as lost."""
        rest = text.encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            self.lost = 0
        except OSError:
            self.lost += 1
        return len(text)

    def note_lost(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Say in an entry how many before it were lost."""
        return {**entry, "lines_lost": self.lost} if self.lost else entry


def configure_logs() -> None:
    """Set up logging for this process."""
    lines = Lines(sys.stderr.fileno())
    structlog.configure(
        processors=[lines.note_lost, *processors(terminal=sys.stderr.isatty())],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", lines)),
    )


def processors(*, terminal: bool) -> list[Any]:
    """What an entry goes through, up to its line."""
    shown: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    if terminal:
        return [*shown, structlog.dev.ConsoleRenderer()]
    return [*shown, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
