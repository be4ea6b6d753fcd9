"""The description of the API: one list of operations, from which the OpenAPI document is made.

Routes take their query parameters from here, and a test compares the list with the routes, so it can not go stale.
"""

from typing import Any

import msgspec
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

from protocol.inputs import Receipt
from runtime.doctor import Report, Waiting
from runtime.door import shapes
from runtime.version import VERSION

PAGE = ("limit", "after")
PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cycle": ("The name of a cycle.", {"type": "string"}),
    "status": (
        "The status of a transaction.",
        {"type": "string", "enum": ["running", "held", "completed", "failed", "stopped"]},
    ),
    "step": ("Where a transaction is, or failed.", {"type": "string"}),
    "value": ("A value that a request would match it by.", {"type": "string"}),
    "since": ("At or after: an instant (RFC 3339) or a length of time ago.", {"type": "string"}),
    "until": ("Before: an instant (RFC 3339) or a length of time ago.", {"type": "string"}),
    "limit": ("How many at most.", {"type": "integer", "minimum": 1}),
    "after": ("The number that ended the page before, as its `next` says.", {"type": "integer", "minimum": 0}),
    "seconds": (
        "How long to look at most; of a large store, so much of it is looked at.",
        {"type": "integer", "minimum": 1, "maximum": 300, "default": 10},
    ),
    "from": ("The first sequence number.", {"type": "integer", "minimum": 0, "default": 0}),
}
PLACES = {
    "identifier": "The webhook's identifier, as `cyclewright urls` prints it.",
    "name": "The name of a cycle or a transaction; of a status URL, its hit and signature.",
    "order": "`start`, `stop`, `finish` or `run-once`.",
    "action": "`resend`, `done` or `fail`.",
    "hit": "The number of a hit.",
    "cycle": "The name of a cycle.",
    "step": "The name of a webhook step.",
}


class Operation(Struct, frozen=True):
    """One thing a caller can ask for."""

    method: str
    path: str
    summary: str
    answers: Any = None  # The type of a JSON answer; None where it has another content.
    content: str = "application/json"
    query: tuple[str, ...] = ()
    takes: Any = None
    success: int = 200
    refusals: tuple[int, ...] = ()
    other: str = ""  # What any other status means, where there is one.


OPERATIONS = (
    *(
        Operation(
            method,
            "/webhook/{identifier}",
            "A request for a cycle; which methods are taken is said by the step.",
            content="*/*",
            success=202,
            refusals=(400, 401, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 502, 503, 504, 508),
            other="What the cycle's `respond` says, or 204 where it ends without one.",
        )
        for method in ("get", "post", "put", "patch", "delete")
    ),
    Operation(
        "get", "/status/{name}", "Follow a request; `Prefer: wait=N` waits for its end.", shapes.Status, refusals=(404,)
    ),
    Operation("get", "/healthz", "Whether the server is alive.", shapes.Health),
    Operation("get", "/readyz", "Whether it takes requests.", shapes.Health, refusals=(503,)),
    Operation("get", "/metrics", "Metrics in the Prometheus text format.", content="text/plain"),
    Operation("get", "/api/openapi.json", "This document."),
    Operation("get", "/api/cycles", "All cycles.", shapes.Cycles),
    Operation("get", "/api/cycles/{name}", "One cycle.", shapes.Cycle, refusals=(404,)),
    Operation(
        "post",
        "/api/cycles/{name}/{order}",
        "Start, stop or finish a cycle, or let it run once.",
        Receipt,
        refusals=(404, 409),
    ),
    Operation(
        "post", "/api/cycles/{cycle}/capture/{step}", "Capture the next request.", shapes.Capture, refusals=(404,)
    ),
    Operation("get", "/api/cycles/{cycle}/capture/{step}", "What was captured.", shapes.Capture, refusals=(404,)),
    Operation("post", "/api/deploy", "Read the project again.", shapes.Deployed, refusals=(422,)),
    Operation(
        "get",
        "/api/transactions",
        "Transactions, newest first.",
        shapes.Transactions,
        query=("cycle", "status", "step", "value", "since", "until", *PAGE),
        refusals=(400,),
    ),
    Operation("get", "/api/transactions/{name}", "One transaction.", shapes.Transaction, refusals=(404,)),
    Operation(
        "post",
        "/api/transactions/{name}/{action}",
        "Say what an unknown call counts as.",
        Receipt,
        refusals=(404, 409),
    ),
    Operation("get", "/api/parked", "Parked hits.", shapes.ParkedHits, query=PAGE, refusals=(400,)),
    Operation(
        "post",
        "/api/parked/{hit}/aim",
        "Give a parked hit to a transaction.",
        shapes.Aimed,
        takes=shapes.Aim,
        refusals=(400, 404, 409, 503),
    ),
    Operation(
        "post",
        "/api/redrive",
        "Redeliver hits, or resume or rerun transactions; or look at what that would do.",
        shapes.RedriveReceipt,
        takes=shapes.RedriveAsked,
        refusals=(400, 409),
    ),
    Operation("get", "/api/incidents", "Incidents.", shapes.Incidents, query=PAGE, refusals=(400,)),
    Operation(
        "get",
        "/api/doctor",
        "Whether what must be true is true: invariants of the state, disk, files, room, clock and settings.",
        Report,
        query=("seconds",),
        refusals=(400, 409),
    ),
    Operation("get", "/api/doctor/{name}", "What a transaction waits for.", Waiting, refusals=(404,)),
    Operation("get", "/api/usage", "Tasks.", shapes.Usage, query=("cycle", "since", "until"), refusals=(400,)),
    Operation(
        "get",
        "/api/journal",
        "Events as JSON lines; the header `cyclewright-next` says where to go on.",
        content="application/jsonl",
        query=("from", "limit", "cycle"),
        refusals=(400, 410),
    ),
)
QUERIES = {one.path: one.query for one in OPERATIONS if one.method == "get"}


def add_openapi(app: QuartTrio) -> None:
    """Add the route to an application."""
    packed = msgspec.json.encode(document())

    @app.get("/api/openapi.json")
    async def openapi() -> Response:
        return Response(packed, 200, content_type="application/json")


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types = [one for operation in OPERATIONS for one in (operation.answers, operation.takes) if one is not None]
    (*_, problem), components = msgspec.json.schema_components(
        (*types, shapes.Problem), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, problem)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cyclewright", "version": VERSION, "description": "Webhook-driven integration cycles."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer", "description": "The admin token."}},
        },
    }


def _operation(operation: Operation, problem: dict[str, Any]) -> dict[str, Any]:
    guarded = operation.path.startswith("/api")
    refusals = sorted({*operation.refusals, *((401, 503) if guarded else ())})
    name = "_".join(part.strip("{}").replace(".", "_") for part in operation.path.split("/") if part)
    described: dict[str, Any] = {
        "operationId": f"{operation.method}_{name}",
        "summary": operation.summary,
        "parameters": [*map(_place, _places(operation.path)), *map(_query, operation.query)],
        "responses": {
            str(operation.success): {
                "description": "Done.",
                "content": {operation.content: _schema(operation.answers)},
            },
            **{str(one): _refusal(problem) for one in refusals},
        },
    }
    if operation.other:
        described["responses"]["default"] = {"description": operation.other, "content": {"*/*": {}}}
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": _schema(operation.takes)}}
    if guarded:
        described["security"] = [{"admin": []}]
    return described


def _schema(kind: Any) -> dict[str, Any]:
    return {} if kind is None else {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}


def _refusal(problem: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Refused.", "content": {"application/problem+json": {"schema": problem}}}


def _places(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _place(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": PLACES[name],
        "schema": {"type": "integer" if name == "hit" else "string"},
    }


def _query(name: str) -> dict[str, Any]:
    words, schema = PARAMETERS[name]
    return {"name": name, "in": "query", "description": words, "schema": schema}
