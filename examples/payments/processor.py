"""The payment processor of the example: the part of Stripe's API that the cycle calls, and the desk that approves.

It counts effects by Idempotency-Key: a repeated key gets the first answer again, and the same key with another request
is refused, as Stripe does it. GET /effects, /attempts and /desk only look.
"""

import hmac
import os
from collections import Counter
from typing import Any

from quart import request
from quart_trio import QuartTrio

Answer = tuple[dict[str, Any], int]


def make_app() -> QuartTrio:
    """A processor with empty books; it knows every payment intent it is asked about, as one that can be captured."""
    app = QuartTrio("processor", static_folder=None)
    api_key = f"Bearer {os.environ.get('STRIPE_API_KEY', 'sk_test_demo')}"
    status: dict[str, str] = {}
    answered: dict[str, tuple[Any, Answer]] = {}
    effects: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    desk: list[Any] = []

    @app.before_request
    async def known() -> Answer | None:
        sent = request.headers.get("authorization", "")
        if request.path.startswith("/v1/") and not hmac.compare_digest(sent.encode(), api_key.encode()):
            return _error(401, "invalid_request_error", "no such API key")
        return None

    async def once(effect: Answer) -> Answer:
        """Answer as the first request under this key was answered; only that one has an effect."""
        key = request.headers.get("idempotency-key", "")
        asked = request.path, (await request.form).to_dict()
        attempts[key] += 1
        if key in answered and answered[key][0] != asked:
            return _error(400, "idempotency_error", "this key came before with another request")
        if key not in answered:
            answered[key] = asked, effect
            effects[key] += effect[1] == 200
        return answered[key][1]

    @app.get("/v1/payment_intents/<intent>")
    async def look(intent: str) -> Answer:
        return _intent(intent, status.get(intent, "requires_capture"))

    @app.post("/v1/payment_intents/<intent>/<action>")
    async def change(intent: str, action: str) -> Answer:
        after = {"capture": "succeeded", "cancel": "canceled"}[action]
        before = status.get(intent, "requires_capture")
        if before != "requires_capture":
            return await once(_error(400, "invalid_request_error", f"payment_intent_unexpected_state: {before}"))
        answer = await once(_intent(intent, after))
        if answer[1] == 200:
            status[intent] = after
        return answer

    @app.post("/v1/refunds")
    async def refund() -> Answer:
        form = await request.form
        number = len(effects) + 1
        return await once(({"id": f"re_{number}", "object": "refund", "status": "succeeded", **form.to_dict()}, 200))

    @app.post("/desk")
    async def tell_desk() -> dict[str, Any]:
        desk.append(await request.get_json())
        return {"told": len(desk)}

    @app.get("/desk")
    async def told() -> list[Any]:
        return desk

    @app.get("/effects")
    async def counted() -> dict[str, int]:
        return effects

    @app.get("/attempts")
    async def tried() -> dict[str, int]:
        return attempts

    return app


def _intent(intent: str, status: str) -> Answer:
    return {"id": intent, "object": "payment_intent", "status": status}, 200


def _error(status: int, kind: str, message: str) -> Answer:
    return {"error": {"type": kind, "message": message}}, status
