"""Outbound calls as the core sees them: rendering a request, and what its outcome means for the pass.

The Idempotency-Key is `transaction.step.pass`: the same on every attempt and after every restart, so a remote that
honours it (draft-ietf-httpapi-idempotency-key-header) sees one effect.
"""

from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from protocol.bodies import FORM
from protocol.definition import BodyKind
from protocol.events import Request
from protocol.expression import EmptySource
from protocol.program import CallPlan, Scope
from protocol.state import TransactionRow, transaction_name


class StepFailed(Exception):
    """A step could not do its work; the cycle's `on_error` says what follows."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def idempotency_key(row: TransactionRow, step: str) -> str:
    """The name of one call, whichever attempt carries it."""
    return f"{transaction_name(row.cycle, row.id)}.{step}.{row.number}"


def encode_body(body: Any, kind: BodyKind) -> tuple[bytes, str]:
    """A rendered body as bytes and their content type; `none`, or nothing rendered, is no body and no type."""
    if kind == "none" or body is None:
        return b"", ""
    if kind == "form":
        if not isinstance(body, dict):
            raise StepFailed("invalid_request", f"a form body is a mapping, not {type(body).__name__}")
        return urlencode(body, doseq=True).encode(), FORM
    if kind == "text":
        return str(body).encode(), "text/plain; charset=utf-8"
    return msgspec.json.encode(body), "application/json"


def render_request(plan: CallPlan, scope: Scope) -> Request:
    """The request a step sends, without what its connector adds.

    Raises:
        ExpressionError: a merge field leads nowhere (`EmptySource`) or can not be evaluated.
        StepFailed: what was rendered is no request.
    """
    url = plan.url.render(scope)
    if not isinstance(url, str) or (not url and not plan.connector.base_url):
        raise EmptySource("url", "the url is empty")
    query = {name: value for name, value in plan.query.render(scope).items() if value is not None}
    if query:
        url += ("&" if "?" in url else "?") + urlencode(query, doseq=True, quote_via=quote)
    headers = {name.lower(): str(value) for name, value in plan.headers.render(scope).items()}
    for name, value in headers.items():
        if any(character in value for character in "\r\n\0"):
            raise StepFailed("invalid_request", f"header {name} must be one line of text")
    body, content_type = encode_body(plan.body.render(scope), plan.body_as)
    connector = plan.step.connector
    return Request(
        connector,
        plan.step.method,
        url,
        headers,
        body,
        headers.pop("content-type", content_type),
        plan.timeout,
    )
