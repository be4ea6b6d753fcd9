"""Functions that script steps call."""

from typing import Any

import trio


def total(data: dict[str, Any]) -> dict[str, Any]:
    """The number of pieces of an order."""
    return {"pieces": sum(line["count"] for line in data["placed"]["lines"])}


async def stamp(data: dict[str, Any]) -> str:
    """A result that is no object is found as `result`."""
    await trio.lowlevel.checkpoint()
    return f"stamped {data['line']['sku']}"
