"""The one function of the simulated project: not async, since those take the seam to what blocks."""

from typing import Any


def double(data: dict[str, Any]) -> dict[str, Any]:
    """Twice the id that the trigger brought."""
    return {"twice": 2 * data["asked"]["id"]}
