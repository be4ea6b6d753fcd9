"""The command line: `cyclewright`."""

from runtime.cli.main import main

__all__ = ["main"]
