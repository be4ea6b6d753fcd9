"""The functions of the simulated project: not async, since those take the seam to what blocks."""

from typing import Any


def double(data: dict[str, Any]) -> dict[str, Any]:
    """Twice the id that the trigger brought."""
    return {"twice": 2 * data["asked"]["id"]}


def look(request: dict[str, Any]) -> dict[str, Any] | None:
    """A `before_webhook`: refuses every fifth, and marks the others; what is no request of ours it leaves alone."""
    body = request["body"]
    if not isinstance(body, dict) or not isinstance(body.get("id"), int):
        return None
    return {"reject": "every fifth"} if body["id"] % 5 == 0 else {"body": {**body, "looked": True}}


def tidy(data: dict[str, Any]) -> dict[str, Any]:
    """An `after_webhook`: lets every third run nothing, and marks the others."""
    asked = data["asked"]
    return {"filter": "every third"} if asked["id"] % 3 == 0 else {"data": {**asked, "tidied": True}}
