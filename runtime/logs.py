"""Structured logs: for people at a terminal, as JSON lines otherwise; always to stderr."""

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET_WORDS = ("token", "secret", "password", "authorization", "cookie")


def hide_secrets(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every value whose name says that it is a secret: a log is read by more people than may know one."""
    for name in entry:
        if any(word in name.lower() for word in SECRET_WORDS):
            entry[name] = "••••"
    return entry


def configure_logs() -> None:
    """Set up logging for this process."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=processors(terminal=terminal), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
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
