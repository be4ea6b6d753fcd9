"""Whether a request was signed by who may send it: the schemes of well-known senders, over the raw bytes.

Sources: Standard Webhooks (standard-webhooks/spec), GitHub "Validating webhook deliveries", Stripe "Verify webhook
signatures manually", Slack "Verifying requests from Slack", RFC 6750 (bearer), RFC 7617 (basic).

1. Every comparison takes the same time whatever the difference.
2. A scheme that signs a timestamp refuses one that is older, or newer, than `AGE_NS_MAX`: a recorded request is no
   request.
3. Any one of the live secrets will do, so that one can be replaced without losing a request.
4. A reason names the header and the rule, never a secret and never what a signature should have been.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence

from protocol.definition import Verify
from protocol.duration import SECOND_NS

AGE_NS_MAX = 300 * SECOND_NS  # As Stripe, Slack and Standard Webhooks advise.
API_KEY_HEADER = "x-api-key"
SIGNATURES_MAX = 20  # In one header; a sender that rotates keys sends two.


class Unverified(Exception):
    """The sender's fault, or nobody's business: the request is not signed as the step asks; the reason says how."""


def verify(said: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, at: int) -> None:
    """Check one request.

    Args:
        said: what the step asks for.
        secrets: the live secrets; one that is empty never matches.
        headers: names in lower case.
        body: as received.
        at: now, nanoseconds since 1970.

    Raises:
        Unverified: it is not signed with one of the secrets, or its timestamp is too far from now.
    """
    _SCHEMES[said.scheme](said, [secret for secret in secrets if secret], headers, body, at)


def secret_header(said: Verify) -> str:
    """The header that carries a secret itself, which must not reach the journal; "" when a scheme has none."""
    return (said.header.lower() or API_KEY_HEADER) if said.scheme == "api_key" else ""


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise Unverified(f"the header {name} is missing")
    return value


def _fresh(headers_name: str, text: str, at: int) -> None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise Unverified(f"the timestamp of {headers_name} is a number of seconds since 1970")
    if abs(at - int(text) * SECOND_NS) > AGE_NS_MAX:
        raise Unverified(f"the timestamp of {headers_name} is more than {AGE_NS_MAX // SECOND_NS} s from now")


def _expect(name: str, given: Sequence[str], expected: Sequence[str]) -> None:
    """One of the given signatures is one of the expected ones; all pairs are compared, always."""
    found = False
    for one in given[:SIGNATURES_MAX]:
        for other in expected:
            found |= hmac.compare_digest(one.encode(), other.encode())
    if not found:
        raise Unverified(f"{name} does not verify the request")


def _hex(secret: bytes, signed: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret, signed, algorithm).hexdigest()


def _base64(secret: bytes, signed: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret, signed, algorithm).digest()).decode()


def _standard_key(secret: str) -> bytes:
    """The key of a Standard Webhooks secret: base64 after `whsec_`."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise Unverified("the secret of this step is not base64 after whsec_: tell who runs the server") from None


def _standard_webhooks(_: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, at: int) -> None:
    name, sent = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    given = [part[3:] for part in _header(headers, "webhook-signature").split(" ") if part.startswith("v1,")]
    _fresh("webhook-timestamp", sent, at)
    signed = f"{name}.{sent}.".encode() + body
    _expect("webhook-signature", given, [_base64(_standard_key(secret), signed) for secret in secrets])


def _github(_: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, _at: int) -> None:
    given = _header(headers, "x-hub-signature-256")
    _expect("x-hub-signature-256", [given], [f"sha256={_hex(secret.encode(), body)}" for secret in secrets])


def _stripe(_: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, at: int) -> None:
    pairs = [part.strip().partition("=") for part in _header(headers, "stripe-signature").split(",")]
    sent = next((value for key, _, value in pairs if key == "t"), "")
    _fresh("stripe-signature", sent, at)
    given = [value for key, _, value in pairs if key == "v1"]
    _expect("stripe-signature", given, [_hex(secret.encode(), f"{sent}.".encode() + body) for secret in secrets])


def _slack(_: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, at: int) -> None:
    sent, given = _header(headers, "x-slack-request-timestamp"), _header(headers, "x-slack-signature")
    _fresh("x-slack-request-timestamp", sent, at)
    signed = f"v0:{sent}:".encode() + body
    _expect("x-slack-signature", [given], [f"v0={_hex(secret.encode(), signed)}" for secret in secrets])


def _hmac(said: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, _at: int) -> None:
    name = said.header.lower()
    given = _header(headers, name).removeprefix(f"{said.algorithm}=")
    if said.encoding == "hex":
        _expect(name, [given.lower()], [_hex(secret.encode(), body, said.algorithm) for secret in secrets])
    else:
        _expect(name, [given], [_base64(secret.encode(), body, said.algorithm) for secret in secrets])


def _bearer(_said: Verify, secrets: Sequence[str], headers: Mapping[str, str], _body: bytes, _at: int) -> None:
    scheme, _, token = _header(headers, "authorization").partition(" ")
    if scheme.lower() != "bearer":
        raise Unverified("the header authorization has another scheme than Bearer")
    _expect("authorization", [_digest(token.strip())], list(map(_digest, secrets)))


def _basic(_said: Verify, secrets: Sequence[str], headers: Mapping[str, str], _body: bytes, _at: int) -> None:
    scheme, _, packed = _header(headers, "authorization").partition(" ")
    if scheme.lower() != "basic":
        raise Unverified("the header authorization has another scheme than Basic")
    try:
        given = base64.b64decode(packed.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Unverified("the header authorization is not base64 of user:password") from None
    _expect("authorization", [_digest(given)], list(map(_digest, secrets)))


def _api_key(said: Verify, secrets: Sequence[str], headers: Mapping[str, str], _body: bytes, _at: int) -> None:
    name = secret_header(said)
    _expect(name, [_digest(_header(headers, name))], list(map(_digest, secrets)))


def _digest(text: str) -> str:
    """Secrets are compared by their digests, so that not even their length can be measured."""
    return hashlib.sha256(text.encode()).hexdigest()


_SCHEMES: dict[str, Callable[[Verify, Sequence[str], Mapping[str, str], bytes, int], None]] = {
    "standard_webhooks": _standard_webhooks,
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "hmac": _hmac,
    "bearer": _bearer,
    "basic": _basic,
    "api_key": _api_key,
}
