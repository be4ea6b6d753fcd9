"""The payments example: signed events once by id, an approval within three days, effects by Idempotency-Key."""

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocol.duration import parse_duration
from protocol.inputs import Duplicate
from tests.protocol.story import SECOND, Story
from tests.system.tour import EXAMPLES, Tour, running

COUNTS = ("running", "held", "completed", "failed", "stopped", "parked")
FOLDER = EXAMPLES / "payments"
LARGE = (FOLDER / "payloads" / "large.json").read_bytes()


def send(tour: Tour, event: bytes, *, age: int = 0, secret: str = "") -> httpx.Response:
    """Send an event as the processor does, signed now or some seconds ago."""
    at = int(time.time()) - age
    key = secret or tour.secrets["STRIPE_WEBHOOK_SECRET"]
    signed = hmac.new(key.encode(), f"{at}.".encode() + event, hashlib.sha256).hexdigest()
    headers = {"stripe-signature": f"t={at},v1={signed}", "content-type": "application/json; charset=utf-8"}
    return httpx.post(f"{tour.server.url}/webhook/stripe-events", content=event, headers=headers, timeout=30)


def approve(tour: Tour, *, approved: bool = True) -> httpx.Response:
    """What the desk says of the large payment."""
    body = {"payment": "pi_large", "approved": approved}
    return tour.server.hit("desk-approvals", body, authorization=f"Bearer {tour.secrets['DESK_TOKEN']}")


def effects(tour: Tour) -> list[str]:
    """The steps whose call had an effect at the processor, once each."""
    counts = tour.ask_partner("/effects")
    assert set(counts.values()) <= {1}, counts
    return sorted(key.split(".")[1] for key in counts)


def test_given_the_example_when_the_tour_is_pasted_then_each_effect_happened_once(tmp_path: Path) -> None:
    """Sections 4, 6 and 7: captured at once, held and approved, refunded; an event that came twice ran once."""
    with running("payments", tmp_path) as tour:
        assert tour.paste() == ""
        first, second = map(json.loads, tour.paste().splitlines())
        assert (first["status"], first) == ("accepted", second)
        tour.server.settled("payment")
        asked = tour.paste()
        assert tour.server.settled("payment")["held"] == 1
        assert json.loads(asked.splitlines()[0])["status"] == "accepted"
        assert tour.ask_partner("/desk") == [{"payment": "pi_large", "amount": 129900}]
        assert json.loads(tour.paste())["status"] == "resumed"
        tour.server.settled("payment")
        tour.paste()
        counts = tour.server.settled("payment")
        assert (counts["completed"], counts["held"], counts["failed"]) == (3, 0, 0)
        seen = tour.paste()
        assert effects(tour) == ["capture", "capture", "refund"]
        assert seen.startswith(json.dumps(tour.ask_partner("/effects"), separators=(",", ":")))
        assert seen.count("completed") == 3
        assert not tour.left


def test_given_an_event_when_it_comes_again_or_unsigned_then_nothing_runs(tmp_path: Path) -> None:
    """Section 4: a repeat with a new signature is the same event; a wrong, an old and no signature are 401."""
    with running("payments", tmp_path) as tour:
        answers = [send(tour, LARGE, age=age) for age in (0, 60)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].content == answers[1].content
        assert [answer.headers.get("cyclewright-duplicate") for answer in answers] == [None, "true"]
        for refused in (
            send(tour, LARGE, age=301),
            send(tour, LARGE, secret="whsec_other"),
            tour.server.hit("stripe-events", json.loads(LARGE)),
            tour.server.hit("desk-approvals", {"payment": "pi_large", "approved": True}),
        ):
            assert refused.status_code == 401
        assert tour.server.settled("payment") == {**dict.fromkeys(COUNTS, 0), "held": 1}


def test_given_a_hold_that_times_out_then_the_payment_is_released_and_an_approval_is_too_late(tmp_path: Path) -> None:
    """6.7: the example with a hold of a second instead of three days, against its real processor."""
    with running("payments", tmp_path, {"hold_for: 3 days": "hold_for: 1 second"}) as tour:
        assert send(tour, LARGE).status_code == 202
        tour.server.settled("payment", completed=1)
        assert effects(tour) == ["release"]
        assert approve(tour).json()["status"] == "resumed"
        tour.server.settled("payment")
        assert tour.ask_partner("/desk")[-1] == {"payment": "pi_large", "too_late": "it is canceled"}
        assert effects(tour) == ["release"]


def test_given_a_payment_that_was_captured_when_it_is_approved_again_then_it_is_not_captured_twice(
    tmp_path: Path,
) -> None:
    """6.3: every approval runs the transaction from its webhook again, so the cycle looks before it acts."""
    with running("payments", tmp_path) as tour:
        send(tour, LARGE)
        tour.server.settled("payment")
        for _ in range(2):
            assert approve(tour).status_code == 202
            tour.server.settled("payment")
        assert effects(tour) == ["capture"]
        assert tour.ask_partner("/desk")[-1] == {"payment": "pi_large", "too_late": "it is succeeded"}


# -- three days, on the example's own file


def held() -> Story:
    """The large payment, held for the desk."""
    story = Story((FOLDER / "payment.cycle.yaml").read_text(), connectors=(FOLDER / "connectors.yaml").read_text())
    story.hit("event", LARGE)
    story.answer({"told": 1})
    assert story.status() == ["held"]
    return story


def last_call(story: Story) -> tuple[str, str, bytes]:
    """Method, path and body of the latest call."""
    request = story.calls()[-1].request
    return request.method, request.url, request.body


def test_6_7_given_no_approval_when_three_days_are_over_then_the_payment_is_released() -> None:
    """6.7: not a second before."""
    story = held()
    days = parse_duration("3 days") / SECOND
    story.later(days - 1)
    assert story.status() == ["held"]
    story.later(1)
    assert story.status() == ["running"]
    assert last_call(story) == ("POST", "/v1/payment_intents/pi_large/cancel", b"cancellation_reason=abandoned")


@pytest.mark.parametrize(
    ("approved", "call"),
    [(True, ("capture", b"amount_to_capture=129900")), (False, ("cancel", b"cancellation_reason=abandoned"))],
)
def test_6_given_an_approval_within_three_days_then_it_is_done_and_nothing_times_out(approved: Any, call: Any) -> None:
    """6.3, 6.7: a hold that was resumed has no timeout left."""
    story = held()
    story.later(2 * 86_400)
    story.hit("approval", {"payment": "pi_large", "approved": approved})
    story.answer({"id": "pi_large", "status": "requires_capture"})
    assert last_call(story) == ("POST", f"/v1/payment_intents/pi_large/{call[0]}", call[1])
    story.answer({"id": "pi_large", "status": "done"})
    story.later(2 * 86_400)
    assert story.status() == ["completed"]
    assert len(story.calls()) == 3


def test_4_given_an_event_that_comes_again_within_thirty_days_then_it_is_a_duplicate() -> None:
    """Section 4: by `dedupe: {field: id}`, whatever the headers say."""
    story = held()
    story.later(2 * 86_400)
    assert isinstance(story.hit("event", LARGE, headers={"stripe-signature": "t=1,v1=2"}), Duplicate)
    story.later(29 * 86_400)
    assert not isinstance(story.hit("event", LARGE), Duplicate)


def test_7_given_a_processor_that_fails_then_each_attempt_has_the_same_key() -> None:
    """Sections 7 and 10: a capture that fails is tried again after 2 seconds, as what it was."""
    story = held()
    story.hit("approval", {"payment": "pi_large", "approved": True})
    story.answer({"id": "pi_large", "status": "requires_capture"})
    story.answer({"error": {}}, 500)
    story.later(2)
    first, second = story.calls()[-2:]
    assert (first.idempotency_key, first.request) == (second.idempotency_key, second.request)
    assert (first.attempt, second.attempt) == (1, 2)
