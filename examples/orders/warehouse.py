"""The warehouse of the example: a small server of its own, on Quart-Trio, that the cycles call.

POST /shipments books a job and answers its number; POST /messages tells the customer; both honour Idempotency-Key, so
a call that comes again after a crash has no second effect. GET /stock/{sku}, /messages and /counts only look.
"""

from collections import Counter
from typing import Any

from quart import request
from quart_trio import QuartTrio

FIRST_JOB = 1001
STOCK = {"tea": {"available": 12, "price": 4}, "pot": {"available": 1, "price": 30}}
NO_STOCK = {"available": 0, "price": 0}


def make_app() -> QuartTrio:
    """A warehouse with empty books; a repeated Idempotency-Key gets the first answer again."""
    app = QuartTrio("warehouse", static_folder=None)
    answered: dict[tuple[str, str], dict[str, Any]] = {}
    shipments: list[Any] = []
    messages: list[Any] = []
    requests: Counter[str] = Counter()

    async def book(book_of: list[Any], first: int) -> tuple[int, tuple[str, str]]:
        """Write the body into a book, once per key; gives its number and under what its answer is kept."""
        key = (request.path, request.headers.get("idempotency-key", ""))
        body = await request.get_json()
        requests[request.path] += 1
        if not key[1] or key not in answered:
            book_of.append(body)
        return first + len(book_of) - 1, key

    @app.post("/shipments")
    async def ship() -> dict[str, Any]:
        number, key = await book(shipments, FIRST_JOB)
        answer = {"job_id": number}
        return answered.setdefault(key, answer) if key[1] else answer

    @app.post("/messages")
    async def send() -> dict[str, Any]:
        number, key = await book(messages, 1)
        answer = {"message": number}
        return answered.setdefault(key, answer) if key[1] else answer

    @app.get("/stock/<sku>")
    async def stock(sku: str) -> dict[str, Any]:
        return STOCK.get(sku, NO_STOCK)

    @app.get("/messages")
    async def sent() -> dict[str, Any]:
        return {"messages": messages}

    @app.get("/counts")
    async def counts() -> dict[str, Any]:
        return {"requests": dict(requests), "shipments": len(shipments), "messages": len(messages)}

    return app
