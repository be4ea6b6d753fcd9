"""The depot of the example: shelves, and a book each of picks, reorders and vans.

A repeated Idempotency-Key gets the first answer again. GET /stock/{sku} and /books only look. A sku that begins with
"slow" is found only the second time it is asked for.
"""

from collections import Counter
from typing import Any

from quart import request
from quart_trio import QuartTrio

SHELVES = {"tea": 12, "pot": 1, "cup": 400, "slow-lamp": 3}
BOOKS = ("picks", "reorders", "vans")


def make_app() -> QuartTrio:
    """A depot with full shelves and empty books."""
    app = QuartTrio("depot", static_folder=None)
    books: dict[str, list[Any]] = {name: [] for name in BOOKS}
    answered: dict[str, dict[str, int]] = {}
    asked: Counter[str] = Counter()

    @app.get("/stock/<sku>")
    async def stock(sku: str) -> tuple[dict[str, Any], int]:
        asked[sku] += 1
        if sku.startswith("slow") and asked[sku] == 1:
            return {"error": "the lift is stuck"}, 500
        return {"sku": sku, "available": SHELVES.get(sku, 0)}, 200

    @app.post("/<any(picks, reorders, vans):name>")
    async def book(name: str) -> dict[str, int]:
        key = request.headers.get("idempotency-key", "")
        if not key or key not in answered:
            books[name].append(await request.get_json())
            answered[key] = {"number": len(books[name])}
        return answered[key]

    @app.get("/books")
    async def look() -> dict[str, list[Any]]:
        return books

    return app
