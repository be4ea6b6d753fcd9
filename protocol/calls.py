"""Outbound calls as the core sees them: rendering a request, and what its outcome means for the pass.

The Idempotency-Key is `transaction.step.pass`: the same on every attempt and after every restart, so a remote that
honours it (draft-ietf-httpapi-idempotency-key-header) sees one effect.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import msgspec

from protocol.bodies import FORM
from protocol.definition import BodyKind
from protocol.events import Request
from protocol.expression import EmptySource, written
from protocol.incidents import Kind
from protocol.program import CallPlan, Scope
from protocol.state import TransactionRow, transaction_name
from protocol.xml import XmlError, write_xml

RENDERED_BYTES_MAX = 2 << 20  # Of a body; a merge field written ten times must not outgrow a frame of the journal.
TEXT_CHARACTERS_MAX = 16 << 10  # Of a url or a header, as servers bound them.

_CONTROL = re.compile(r"[^\t\x20-\x7e\x80-\U0010ffff]|[\ud800-\udfff]")  # A lone surrogate has no bytes.


class StepFailed(Exception):
    """A step could not do its work; the cycle's `on_error` says what follows."""

    def __init__(self, kind: Kind, message: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.detail = detail


def idempotency_key(row: TransactionRow, step: str) -> str:
    """The name of one call, whichever attempt carries it; a step that runs again after a wait makes another call.

    A resumed call that may have taken effect keeps the name it had, so that a remote that honours it acts once.
    """
    if row.pending is not None and row.pending.step == step:
        return row.pending.idempotency_key
    again = f".{row.rounds}" if row.rounds and step in row.data else ""
    return f"{transaction_name(row.cycle, row.id)}.{step}.{row.number}{again}"


def encode_body(body: Any, kind: BodyKind) -> tuple[bytes, str]:
    """A rendered body as bytes and their content type; `none`, or nothing rendered, is no body and no type.

    Raises:
        StepFailed: it is larger than `RENDERED_BYTES_MAX`, a form that is no mapping, or XML that is none.
    """
    packed, content_type = _encode(body, kind)
    if len(packed) > RENDERED_BYTES_MAX:
        raise StepFailed("too_large", f"a body has at most {RENDERED_BYTES_MAX} bytes, and this one {len(packed)}")
    return packed, content_type


def _encode(body: Any, kind: BodyKind) -> tuple[bytes, str]:
    if kind == "none" or body is None:
        return b"", ""
    if kind == "form":
        if not isinstance(body, dict):
            raise StepFailed("invalid_request", f"a form body is a mapping, not {type(body).__name__}")
        return _pairs(body).encode(), FORM
    if kind == "xml":
        try:
            return write_xml(body, written).encode(), "application/xml; charset=utf-8"
        except XmlError as fault:
            raise StepFailed("invalid_request", str(fault)) from None
    if kind == "text":
        return written(body).encode(), "text/plain; charset=utf-8"
    return msgspec.json.encode(body), "application/json"


def _pairs(values: Mapping[str, Any], quoted: Callable[..., str] = quote_plus) -> str:
    """Values as they stand in a query or a form: a list repeats its name, the rest is written as in any text."""
    pairs = [(name, item) for name, value in values.items() for item in (value if isinstance(value, list) else [value])]
    return urlencode([(name, written(item)) for name, item in pairs], quote_via=quoted)


def encode_headers(rendered: Mapping[str, Any]) -> dict[str, str]:
    """Rendered headers, names in lower case; raises `StepFailed` for one that is not a line of bounded length.

    Control characters are refused (RFC 9110, section 5.5): servers and proxies end the connection for them, or worse.
    """
    headers = {name.lower(): written(value) for name, value in rendered.items()}
    for name, value in headers.items():
        if len(value) > TEXT_CHARACTERS_MAX or _CONTROL.search(value):
            raise StepFailed(
                "invalid_header",
                f"header {name} must be one line of at most {TEXT_CHARACTERS_MAX} characters, none a control",
            )
    return headers


def render_request(plan: CallPlan, scope: Scope) -> Request:
    """The request a step sends, without what its connector adds.

    Raises:
        ExpressionError: a merge field leads nowhere (`EmptySource`) or can not be evaluated.
        StepFailed: what was rendered is no request.
    """
    url = written(plan.url.render(scope))
    if not url and not plan.connector.base_url:
        raise EmptySource("url", "the url is empty")
    query = {name: value for name, value in plan.query.render(scope).items() if value is not None}
    if query:
        url += ("&" if "?" in url else "?") + _pairs(query, quote)
    if len(url) > TEXT_CHARACTERS_MAX:
        raise StepFailed("invalid_request", f"a url has at most {TEXT_CHARACTERS_MAX} characters, this one {len(url)}")
    headers = encode_headers(plan.headers.render(scope))
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
