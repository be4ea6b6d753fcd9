"""What callers are told: bodies and headers of answers, the same over HTTP and over links.

Errors are problem details (RFC 9457). An answer is built once, journaled, and given again byte for byte to a
delivery that comes again.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from protocol.state import Reply

JSON = "application/json"
PROBLEM = "application/problem+json"
TRANSACTION_HEADER = "cyclewright-transaction"
DUPLICATE_HEADER = "cyclewright-duplicate"

_encode = msgspec.json.Encoder().encode


def json_reply(status: int, body: Any, headers: dict[str, str] | None = None) -> Reply:
    """A JSON answer."""
    return Reply(status, {"content-type": JSON, **(headers or {})}, _encode(body))


def problem(status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    """A problem details answer; `more` are extension members such as `faults` or `step`."""
    phrase = HTTPStatus(status).phrase.lower().replace(" ", "-")
    body = {"type": f"urn:cyclewright:problem:{phrase}", "title": title, "status": status, "detail": detail}
    return Reply(status, {"content-type": PROBLEM, **(headers or {})}, _encode({**body, **more}))


def faults_problem(status: int, title: str, faults: Sequence[Any]) -> Reply:
    """A problem that lists every fault of a request; each is a Struct of `where`, `rule` and `found`."""
    return problem(status, title, f"the request has {len(faults)} fault(s)", faults=faults)
