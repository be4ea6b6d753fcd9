"""The version of this build, as `pyproject.toml` says it."""

from importlib.metadata import version

VERSION = version("cyclewright")
