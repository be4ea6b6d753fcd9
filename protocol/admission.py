"""A request at a webhook's URL, before it is a hit: read, checked against the step, and named.

The door and links share this, so a link meets the same checks and the same answers as a request over HTTP.
Nothing here looks at the state: what is refused here was never recorded.
"""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Struct

from protocol.answers import faults_problem, problem
from protocol.bodies import BodyError, UnsupportedBody, repeats_names
from protocol.chain import Chain, chain_of
from protocol.cloudevents import read_event
from protocol.definition import Dedupe, Verify
from protocol.duration import SECOND_NS
from protocol.events import Origin, Request
from protocol.fields import Fault, path_of, show
from protocol.inputs import Hit
from protocol.program import MATCHED_CHARACTERS_MAX, Program, WebhookPlan, lookup
from protocol.state import Reply, TransactionRow
from protocol.verification import secret_header

QUERY_METHODS = frozenset({"GET", "DELETE"})  # These carry their fields in the query.
DELIVERY_HEADERS = ("webhook-id", "idempotency-key", "x-github-delivery", "x-shopify-webhook-id")
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
WAIT_MAX = 10**9  # Seconds: more than any length of time may say, and far from what makes a number costly to read.
DELIVERY_KEY_MAX = 255  # Characters; the longest key in use is a UUID or two, and it is kept for the whole window.


class Incoming(Struct, frozen=True, kw_only=True):
    """A request as it came: header names in lower case, the body as bytes."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    at: int
    origin: Origin | None = None
    depth: int = 0
    chain: Chain = Chain()
    delivery: str = ""  # Set by links, whose name is the idempotency key of the call.
    script: str = ""  # The `before_webhook` that let it pass.
    digest: str = ""  # The fingerprint of what came, when that script wrote the rest anew.


def handed_over(row: TransactionRow, step: str, call: Request, delivery: str, at: int) -> Incoming:
    """The request that a step hands to another cycle, as it comes in there; the key of its call is its delivery key."""
    query = urlsplit(call.url).query
    return Incoming(
        method=call.method,
        headers={**call.headers, "content-type": call.content_type},
        query=dict(parse_qsl(query, keep_blank_values=True)),
        body=call.body,
        at=at,
        origin=Origin(row.cycle, row.id, step, row.number),
        depth=row.depth + 1,
        chain=Chain(chain_of(row), signed=True, sampled=row.sampled),
        delivery=delivery,
    )


def admit(program: Program, step: str, request: Incoming) -> Hit | Reply:
    """Read and check a request.

    Returns:
        A hit ready for its cycle, or the answer that refuses it: 405, 415, 400 or 422.
    """
    plan = program.webhook(step)
    refusal = check_method(plan, step, request)
    if refusal is not None:
        return refusal
    try:
        body, event = event_of(request)
    except UnsupportedBody as fault:
        return problem(415, "Unsupported media type", str(fault))
    except BodyError as fault:
        return problem(400, "Malformed body", str(fault))
    repeated = plan.contract.has_lists and repeats(request.method, request.headers.get("content-type", ""))
    data, faults = plan.contract.read(body, repeats=repeated)
    key = plan.key(data) if plan.match else ()
    if key is None:
        where = ", ".join(pair.location for pair in plan.match)
        rule = f"a field that is matched by must have a value of 1 to {MATCHED_CHARACTERS_MAX} characters"
        faults = [*faults, Fault(where, rule, show([lookup(pair.path, data) for pair in plan.match]))]
    mark = plan.mark(data)
    if mark is None and plan.newer is not None:
        rule = f"a field that requests are ordered by has at most {MATCHED_CHARACTERS_MAX} characters"
        faults = [*faults, Fault(plan.newer.location, rule, show(lookup(plan.newer.path, data)))]
    if faults and (plan.step.check == "reject" or key is None or mark is None):
        return faults_problem(422, "The request breaks the step's contract", faults)
    delivery = request.delivery or _delivery(plan, request, data, event)
    warnings = tuple(f"{f.where}: {f.rule}, found {f.found}" for f in faults) if plan.step.check == "warn" else ()
    return _hit(program, step, request, delivery, data, key or (), mark or "", warnings)


def check_method(plan: WebhookPlan, step: str, request: Incoming) -> Reply | None:
    """The refusal of a method that the step does not take."""
    if request.method in plan.step.methods:
        return None
    allow = ", ".join(plan.step.methods)
    detail = f"step {step} takes {allow}, not {request.method}"
    return problem(405, "Method not allowed", detail, headers={"allow": allow})


def delivery_of(plan: WebhookPlan, request: Incoming) -> str:
    """The delivery key of a request that nothing has looked into yet; "" when a declared field is to give it."""
    if request.delivery or (isinstance(plan.step.dedupe, Dedupe) and plan.step.dedupe.field):
        return request.delivery
    try:
        _, event = event_of(request)
    except BodyError:
        event = None
    return _delivery(plan, request, {}, event)


def admit_repeat(program: Program, step: str, request: Incoming, delivery: str) -> Hit | Reply:
    """A request whose delivery was accepted before: nothing of it counts but that it is the same one."""
    hit = _hit(program, step, request, delivery, {}, (), "", ())
    return hit if isinstance(hit, Reply) else msgspec.structs.replace(hit, repeat=True)


def _hit(
    program: Program,
    step: str,
    request: Incoming,
    delivery: str,
    data: dict[str, Any],
    key: tuple[str, ...],
    mark: str,
    warnings: tuple[str, ...],
) -> Hit | Reply:
    plan = program.webhook(step)
    if len(delivery) > DELIVERY_KEY_MAX:
        return problem(400, "Delivery key too long", f"a delivery key has at most {DELIVERY_KEY_MAX} characters")
    wants_reply = plan.answers and not _wants_async(request.headers)
    return Hit(
        cycle=program.definition.cycle,
        step=step,
        at=request.at,
        method=request.method,
        headers=without_secrets(plan, request.headers),
        query=dict(request.query),
        body=request.body,
        content_type=request.headers.get("content-type", ""),
        data=data,
        key=key,
        mark=mark,
        delivery=delivery,
        digest=(request.digest or digest_of(request)) if delivery else "",
        wants_reply=wants_reply,
        answer_by=request.at + answer_within(plan, request.headers) if wants_reply else 0,
        depth=request.depth,
        chain=request.chain,
        origin=request.origin,
        warnings=warnings,
        script=request.script,
    )


def repeats(method: str, content_type: str) -> bool:
    """Whether a request writes a list by repeating its name."""
    return method in QUERY_METHODS or repeats_names(content_type)


def without_secrets(plan: WebhookPlan, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request that may be kept and shown."""
    said = plan.step.verify
    own = secret_header(said) if isinstance(said, Verify) else ""
    return {name: value for name, value in headers.items() if name not in SECRET_HEADERS and name != own}


def event_of(request: Incoming) -> tuple[Any, dict[str, Any] | None]:
    """What a request's fields are read from, and the attributes of the event it is; raises `BodyError`."""
    if request.method in QUERY_METHODS:
        return dict(request.query), None
    return read_event(request.headers, request.body, request.headers.get("content-type", ""))


def _delivery(plan: WebhookPlan, request: Incoming, data: Mapping[str, Any], event: Mapping[str, Any] | None) -> str:
    dedupe = plan.step.dedupe
    if not isinstance(dedupe, Dedupe):
        return ""
    if dedupe.header:
        return request.headers.get(dedupe.header.lower(), "")
    if dedupe.query:
        return request.query.get(dedupe.query, "")
    if dedupe.field:
        value = lookup(path_of(dedupe.field), data)
        return "" if value is None else str(value)
    for name in DELIVERY_HEADERS:
        if request.headers.get(name):
            return request.headers[name]
    if event is not None:
        return f"{event['source']} {event['id']}"
    if request.headers.get("ce-id") and request.headers.get("ce-source"):
        return f"{request.headers['ce-source']} {request.headers['ce-id']}"
    return ""


def digest_of(request: Incoming) -> str:
    """A fingerprint of what was asked, so that one key with two bodies is noticed."""
    digest = hashlib.blake2b(request.body, digest_size=16)
    if request.query:
        digest.update(msgspec.json.encode((len(request.body), sorted(request.query.items()))))
    return digest.hexdigest()


def preferences(headers: Mapping[str, str]) -> dict[str, str]:
    """The preferences of a request (RFC 7240): name, in lower case, to value, "" for none."""
    found: dict[str, str] = {}
    if "prefer" not in headers:
        return found
    for part in headers["prefer"].split(","):
        name, _, value = part.partition(";")[0].partition("=")
        if name.strip():
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def preferred_wait(headers: Mapping[str, str]) -> int | None:
    """How many seconds a caller prefers to wait (RFC 7240, 4.3), `WAIT_MAX` for any more; None when he does not say."""
    said = preferences(headers).get("wait", "")
    if not (said.isascii() and said.isdecimal()):
        return None
    return int(said) if len(said) < len(str(WAIT_MAX)) else WAIT_MAX


def answer_within(plan: WebhookPlan, headers: Mapping[str, str]) -> int:
    """How many nanoseconds a caller waits: what the step says, or less if the caller prefers."""
    wait = preferred_wait(headers)
    return plan.answer_within if wait is None else min(plan.answer_within, wait * SECOND_NS)


def _wants_async(headers: Mapping[str, str]) -> bool:
    return "respond-async" in preferences(headers)
