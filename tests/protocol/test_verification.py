"""Signatures of requests (section 4), by the vectors that their schemes publish, and by a sender that is not ours."""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import get_args

import pytest
from standardwebhooks import Webhook

from protocol.check import check_project
from protocol.definition import Scheme, Verify
from protocol.loading import Source
from protocol.verification import AGE_NS_MAX, Unverified, secret_header, verify

SECOND = 1_000_000_000
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GITHUB = "It's a Secret to Everybody"
SLACK = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
VECTORS: dict[str, tuple[Verify, str, dict[str, str], bytes, int]] = {
    "standard webhooks": (
        Verify(scheme="standard_webhooks"),
        STANDARD,
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        b'{"test": 2432232314}',
        1_614_265_330,
    ),
    "github": (
        Verify(scheme="github"),
        GITHUB,
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        b"Hello, World!",
        0,
    ),
    "slack": (
        Verify(scheme="slack"),
        SLACK,
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        SLACK_BODY,
        1_531_420_618,
    ),
    "bearer": (Verify(scheme="bearer"), "mF_9.B5f-4.1JqM", {"authorization": "Bearer mF_9.B5f-4.1JqM"}, b"", 0),
    "basic": (
        Verify(scheme="basic"),
        "Aladdin:open sesame",
        {"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
        b"",
        0,
    ),
    "api key": (Verify(scheme="api_key"), "k-1", {"x-api-key": "k-1"}, b"", 0),
    "api key elsewhere": (Verify(scheme="api_key", header="X-Shop-Key"), "k-1", {"x-shop-key": "k-1"}, b"", 0),
    "hmac, RFC 4231 case 2": (
        Verify(scheme="hmac", header="X-Signature"),
        "Jefe",
        {"x-signature": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        b"what do ya want for nothing?",
        0,
    ),
    "hmac, RFC 2202 case 2": (
        Verify(scheme="hmac", header="X-Signature", algorithm="sha1"),
        "Jefe",
        {"x-signature": "sha1=EFFCDF6AE5EB2FA2D27416D5F184DF9C259A7C79".replace("EFF", "eff").lower()},
        b"what do ya want for nothing?",
        0,
    ),
    "hmac in base64": (
        Verify(scheme="hmac", header="X-Signature", encoding="base64"),
        "Jefe",
        {"x-signature": "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="},
        b"what do ya want for nothing?",
        0,
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_4_a_published_vector_verifies_and_any_change_of_it_does_not(name: str) -> None:
    """Section 4: another secret, another body, another signature, or none, is refused with a reason."""
    said, secret, headers, body, at = VECTORS[name]
    verify(said, [secret], headers, body, at * SECOND)
    verify(
        said,
        ["new", secret] if said.scheme != "standard_webhooks" else [STANDARD[:-4], secret],
        headers,
        body,
        at * SECOND,
    )
    signed = next(one for one in headers if "signature" in one or one in ("authorization", "x-api-key", "x-shop-key"))
    broken = {**headers, signed: headers[signed][:-2] + ("00" if headers[signed][-2:] != "00" else "11")}
    with pytest.raises(Unverified, match=signed):
        verify(said, [secret], broken, body, at * SECOND)
    with pytest.raises(Unverified, match=f"{signed} is missing"):
        verify(said, [secret], {**headers, signed: ""}, body, at * SECOND)
    for wrong in ([], [""], [STANDARD[:-4] if said.scheme == "standard_webhooks" else "other"]):
        with pytest.raises(Unverified):
            verify(said, wrong, headers, body, at * SECOND)
    if said.scheme not in ("bearer", "basic", "api_key"):
        with pytest.raises(Unverified):
            verify(said, [secret], headers, body + b" ", at * SECOND)


def stripe(body: bytes, secret: str, at: int) -> dict[str, str]:
    """A request as Stripe signs it, written from its documentation."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={at},v1={'0' * 64},v1={digest},v0=ignored"}


def test_4_stripe_signs_the_time_and_the_body() -> None:
    """Section 4: one of several v1 signatures will do, as while a secret is rolled; v0 is a test signature."""
    said = Verify(scheme="stripe")
    verify(said, ["whsec_a"], stripe(b"{}", "whsec_a", 1000), b"{}", 1000 * SECOND)
    with pytest.raises(Unverified):
        verify(said, ["whsec_b"], stripe(b"{}", "whsec_a", 1000), b"{}", 1000 * SECOND)


@pytest.mark.parametrize("name", ["standard webhooks", "slack"])
@pytest.mark.parametrize("late", [-1, 1])
def test_4_a_timestamp_more_than_five_minutes_away_is_refused(name: str, late: int) -> None:
    """Section 4: a recorded request can not be played again, nor one dated ahead."""
    said, secret, headers, body, at = VECTORS[name]
    verify(said, [secret], headers, body, at * SECOND + late * AGE_NS_MAX)
    with pytest.raises(Unverified, match="more than 300 s from now"):
        verify(said, [secret], headers, body, at * SECOND + late * (AGE_NS_MAX + SECOND))
    stamp = next(one for one in headers if one.endswith("timestamp"))
    with pytest.raises(Unverified, match="number of seconds"):
        verify(said, [secret], {**headers, stamp: "soon"}, body, at * SECOND)


def test_4_the_library_of_standard_webhooks_is_a_sender_that_verifies() -> None:
    """Section 4: proven with a sender that is not ours."""
    sent = datetime(2026, 1, 1, tzinfo=UTC)
    signature = Webhook(STANDARD).sign("msg_1", sent, '{"a":1}')
    stamp = str(int(sent.timestamp()))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": f"v1a,x {signature}"}
    verify(Verify(scheme="standard_webhooks"), [STANDARD], headers, b'{"a":1}', int(stamp) * SECOND)


def test_4_a_header_that_is_the_secret_is_named_so_that_it_is_dropped() -> None:
    """Section 4: only API keys travel in a header of the step's choice."""
    assert secret_header(Verify(scheme="api_key", header="X-Shop-Key")) == "x-shop-key"
    assert secret_header(Verify(scheme="api_key")) == "x-api-key"
    assert secret_header(Verify(scheme="hmac", header="X-Signature")) == ""


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("{scheme: github}", "needs a secret"),
        ("{scheme: hmac, secret: env.S}", "needs the header"),
        ("{scheme: github, secret: env.S, header: x-a}", "headers of its own"),
        ("{scheme: github, secret: hunter2}", "must be written as e.g. env.SHOP_SECRET, found a secret in the file"),
        ("{scheme: gitlab, secret: env.S}", "gitlab"),
    ],
)
def test_2_what_is_wrong_with_a_verification_is_said_when_the_file_is_checked(said: str, rule: str) -> None:
    """Section 2: and a secret that is written into the file is refused."""
    text = f"cycle: c\nconnectors: {{a: {{}}}}\nsteps:\n  s: {{webhook: a, verify: {said}}}\n  d: {{decide: 'true'}}\n"
    _, faults = check_project([Source("c.cycle.yaml", text)])
    assert any(rule in str(fault) for fault in faults), [str(fault) for fault in faults]


def test_every_scheme_has_a_vector() -> None:
    """A scheme that is added brings its proof."""
    assert {said.scheme for said, *_ in VECTORS.values()} | {"stripe"} == set(get_args(Scheme))


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_4_every_live_secret_is_compared_in_constant_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4: how long a refusal takes says nothing of the secret, nor of which one is the live one."""
    said, secret, headers, body, at = VECTORS[name]
    other = "whsec_" + "A" * 32 if said.scheme == "standard_webhooks" else "another-secret"
    compared: list[bool] = []
    honest = hmac.compare_digest

    def compare(one: bytes, two: bytes) -> bool:
        compared.append(honest(one, two))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for live in ([secret, other], [other, secret]):
        compared.clear()
        verify(said, live, headers, body, at * SECOND)
        assert sorted(compared) == [False, True], "both are compared, whichever comes first"
