"""Scripts around a webhook (section 9): what they are given, and what their word means.

`before_webhook` sees a request that was verified before anything else looks at it; `after_webhook` sees the data of a
request that was accepted before a later step does.

1. A word is nothing, or a mapping that says one thing. Whatever else comes back is a failure of the script.
2. What `before_webhook` makes of a request is what is accepted and journaled, so that nobody asks it again.
3. A failure before acceptance accepts nothing, so the sender sends again; one after it is a failure of the step.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct, UnsetType

from protocol.admission import QUERY_METHODS, Incoming, digest_of, event_of, without_secrets
from protocol.answers import json_reply, problem
from protocol.bodies import BodyError, check_value, read_body
from protocol.calls import RENDERED_BYTES_MAX, StepFailed, encode_body, encode_headers
from protocol.canonical import text_of
from protocol.program import WebhookPlan
from protocol.state import Reply

MESSAGE_MAX = 1000  # Characters of what a script tells a caller.


class BadWord(ValueError):
    """The project's fault: a script around a webhook returned what means nothing."""


class Reject(Struct, frozen=True, forbid_unknown_fields=True):
    """The caller is refused, with a message of the script's own."""

    message: str
    status: int = 422


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """The caller is answered, and nothing runs: text as text, anything else as JSON."""

    status: int = 200
    headers: dict[str, str] = {}
    body: Any = None


class BeforeWord(Struct, frozen=True, forbid_unknown_fields=True):
    """What `before_webhook` returns, when it is not None: one of these."""

    reject: Reject | str | UnsetType = UNSET
    filter: str | UnsetType = UNSET
    answer: Answer | UnsetType = UNSET
    body: Any = UNSET


class AfterWord(Struct, frozen=True, forbid_unknown_fields=True):
    """What `after_webhook` returns, when it is not None: one of these."""

    reject: Reject | str | UnsetType = UNSET
    filter: str | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET


Word = TypeVar("Word", BeforeWord, AfterWord)


def view(plan: WebhookPlan, request: Incoming) -> dict[str, Any]:
    """A request as `before_webhook` is given it: without secrets; a body that can not be read is text."""
    try:
        body, event = event_of(request)
    except BodyError:
        body, event = read_body(request.body, request.headers.get("content-type", ""), lenient=True), None
    return {
        "method": request.method,
        "headers": without_secrets(plan, request.headers),
        "query": dict(request.query),
        "body": body,
        "event": event,
        "raw": request.body,
    }


def heed(plan: WebhookPlan, request: Incoming, result: Any) -> Incoming | Reply:
    """What a request is after its `before_webhook` returned: as it came, written anew, or answered.

    Raises:
        BadWord: the result means nothing.
    """
    function = str(plan.step.before_webhook)
    word = _word(result, BeforeWord)
    try:
        if isinstance(word.reject, Reject | str):
            reject = rejection(word.reject)
            return problem(reject.status, "Rejected", reject.message)
        if isinstance(word.filter, str):
            return json_reply(200, {"status": "filtered", "detail": word.filter[:MESSAGE_MAX]})
        if isinstance(word.answer, Answer):
            return _answer(word.answer)
        if word.body is UNSET:
            return msgspec.structs.replace(request, script=function)
        return _rewritten(request, word.body, function)
    except (StepFailed, BodyError) as fault:
        raise BadWord(str(fault)) from None


def after_word(result: Any) -> AfterWord:
    """What an `after_webhook` returned, whose result the journal has; {} stands for None there.

    Raises:
        BadWord: it means nothing.
    """
    return _word(result or None, AfterWord)


def rejection(said: Reject | str) -> Reject:
    """A refusal in full; raises `BadWord` for a status that refuses nothing."""
    reject = Reject(said) if isinstance(said, str) else said
    if not 400 <= reject.status <= 599 or reject.status not in list(HTTPStatus):
        raise BadWord(f"a status that rejects is one of 4xx or 5xx that HTTP knows, not {reject.status}")
    return msgspec.structs.replace(reject, message=reject.message[:MESSAGE_MAX])


def _word(result: Any, kind: type[Word]) -> Word:
    if result is None:
        return kind()
    names = kind.__struct_fields__
    if not isinstance(result, Mapping) or len(result) != 1:
        found = f"{len(result)} keys" if isinstance(result, Mapping) else type(result).__name__
        raise BadWord(f"it must return None, or a mapping with one of {', '.join(names)}, and returned {found}")
    try:
        return msgspec.convert(dict(result), kind)
    except msgspec.ValidationError as fault:
        raise BadWord(f"it must return None, or a mapping with one of {', '.join(names)}: {fault}") from None


def _answer(said: Answer) -> Reply:
    if not 200 <= said.status <= 599:
        raise BadWord(f"the status of an answer lies from 200 to 599, not {said.status}")
    body, content_type = encode_body(said.body, "text" if isinstance(said.body, str) else "json")
    headers = encode_headers(said.headers)
    if body:
        headers.setdefault("content-type", content_type)
    return Reply(said.status, headers, body)


def _rewritten(request: Incoming, body: Any, function: str) -> Incoming:
    """The request with other fields; its fingerprint stays that of what came, so that a repeat is known by it."""
    digest = digest_of(request)
    if request.method in QUERY_METHODS:
        if not isinstance(body, Mapping) or any(isinstance(value, Mapping | list) for value in body.values()):
            raise BadWord(f"the body of a {request.method} is its query: a mapping of plain values")
        query = {str(name): text_of(value) for name, value in body.items() if value is not None}
        return msgspec.structs.replace(request, query=query, digest=digest, script=function)
    _, event = _event(request)
    try:
        packed = msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as fault:
        raise BadWord(f"the body it returned is no JSON: {fault}") from None
    if len(packed) > RENDERED_BYTES_MAX:
        raise BadWord(f"the body it returned has {len(packed)} bytes, of at most {RENDERED_BYTES_MAX}")
    check_value(msgspec.json.decode(packed))
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    headers["content-type"] = "application/json"
    for name, value in (event or {}).items():  # An event in one piece becomes one whose data is the body.
        headers.setdefault(f"ce-{name}", quote(text_of(value)))
    return msgspec.structs.replace(request, headers=headers, body=packed, digest=digest, script=function)


def _event(request: Incoming) -> tuple[Any, dict[str, Any] | None]:
    try:
        return event_of(request)
    except BodyError:
        return None, None
