"""The doctor: looks whether what must be true is true, and says of a transaction what it waits for."""

from runtime.doctor.explain import Waiting, explain
from runtime.doctor.report import Check, Level, Report, found_of
from runtime.doctor.rules import Broken, Looked, Looking, look_through

__all__ = ["Broken", "Check", "Level", "Looked", "Looking", "Report", "Waiting", "explain", "found_of", "look_through"]
