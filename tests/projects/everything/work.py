"""Functions that steps call."""

from typing import Any

import trio


def total(data: dict[str, Any]) -> dict[str, Any]:
    """The number of pieces of an order."""
    return {"pieces": sum(line["count"] for line in data["placed"]["lines"])}


async def stamp(data: dict[str, Any]) -> str:
    """A result that is no object is found as `result`."""
    await trio.lowlevel.checkpoint()
    return f"stamped {data['line']['sku']}"


def welcome(request: dict[str, Any]) -> dict[str, Any] | None:
    """A handshake is answered, and an older way to write a batch is written anew."""
    body = request["body"]
    if "challenge" in body:
        return {"answer": {"body": {"challenge": body["challenge"]}}}
    return {"body": {"parcels": body["batch"]}} if "batch" in body else None


def heavy(data: dict[str, Any]) -> dict[str, Any]:
    """Light parcels are nobody's business."""
    return {"data": {"parcels": [one for one in data["arrived"]["parcels"] if float(one["weight"]) >= 1]}}
