"""The warehouse of the example: a small server of its own, on Quart-Trio, that the cycles call."""

from typing import Any

from quart import request
from quart_trio import QuartTrio

STOCK = {"tea": {"available": 12, "price": 4}, "pot": {"available": 1, "price": 30}}


def make_warehouse() -> QuartTrio:
    """A warehouse with empty books; a repeated Idempotency-Key gets the first answer again."""
    app = QuartTrio("warehouse", static_folder=None)
    answered: dict[str, dict[str, Any]] = {}
    messages: list[dict[str, Any]] = []

    def once(answer: dict[str, Any]) -> dict[str, Any]:
        return answered.setdefault(request.headers.get("idempotency-key", ""), answer)

    @app.post("/shipments")
    async def book() -> dict[str, Any]:
        key = request.headers.get("idempotency-key", "")
        return answered.get(key) or once({"job_id": 1001 + len(answered)})

    @app.get("/stock/<sku>")
    async def stock(sku: str) -> dict[str, Any]:
        return STOCK.get(sku, {"available": 0, "price": 0})

    @app.post("/messages")
    async def send() -> dict[str, Any]:
        key = request.headers.get("idempotency-key", "")
        if key not in answered:
            messages.append(await request.get_json())
        return once({"sent": True})

    @app.get("/messages")
    async def sent() -> dict[str, Any]:
        return {"messages": messages}

    return app
