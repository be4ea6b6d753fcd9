"""Scripts around a webhook (section 9) as the core sees them: words, and what becomes of requests and data by them."""

from typing import Any

import msgspec
import pytest

from protocol.admission import Incoming, admit
from protocol.check import check_project
from protocol.events import HitAccepted
from protocol.hooks import BadWord, after_word, heed, view
from protocol.inputs import CallFailure, Hit
from protocol.loading import Source
from protocol.outbox import PerformCall
from protocol.program import HOOK, WebhookPlan
from protocol.state import Reply
from tests.protocol.story import NOON, Story, cycle

BEFORE = cycle(
    """
  placed:
    webhook: shop
    methods: [POST, GET]
    fields: {n: {type: integer, required: true}}
    before_webhook: "work:look"
  answer: {respond: {body: {n: "{{ placed.n }}", event: "{{ hit.event.id }}"}}}
"""
)
AFTER = """
  placed: {webhook: shop, fields: {n: integer}, after_webhook: "work:tidy", on_error: %s}
  answer: {respond: {body: "{{ placed.n }}"}}
"""
HELD = """
  back: {webhook: shop, fields: {n: integer, m: integer}, match: {n: placed.n}, after_webhook: "work:tidy"}
  told: {respond: {body: "{{ back.m }}"}}
"""


def plan_of(story: Story, step: str = "placed") -> WebhookPlan:
    """The plan of a webhook step."""
    return story.state.program(story.state.cycle(story.cycle).definition_hash).webhook(step)


def asked(body: Any = None, *, method: str = "POST", raw: bytes | None = None, **headers: str) -> Incoming:
    """A request that was verified."""
    said = {"content-type": "application/json", **{name.replace("_", "-"): one for name, one in headers.items()}}
    packed = msgspec.json.encode(body) if raw is None else raw
    return Incoming(method=method, headers=said, query={"n": "5"}, body=packed, at=NOON)


def admitted(story: Story, request: Incoming | Reply) -> Hit | Reply:
    """What the checks of the contract make of a request that its script let pass."""
    assert isinstance(request, Incoming)
    return admit(story.state.program(story.state.cycle(story.cycle).definition_hash), "placed", request)


def test_9_before_webhook_is_given_the_request_without_secrets() -> None:
    """Section 9: method, headers, query, body and the bytes; a body that can not be read is text."""
    story = Story(BEFORE)
    seen = view(plan_of(story), asked({"n": 1}, authorization="Bearer s3cret", cookie="a=b", x_kept="1"))
    assert seen == {
        "method": "POST",
        "headers": {"content-type": "application/json", "x-kept": "1"},
        "query": {"n": "5"},
        "body": {"n": 1},
        "event": None,
        "raw": b'{"n":1}',
    }
    assert view(plan_of(story), asked(raw=b"{oops"))["body"] == "{oops"


@pytest.mark.parametrize(
    ("word", "status", "body"),
    [
        ({"reject": "no such shop"}, 422, {"title": "Rejected", "detail": "no such shop"}),
        ({"reject": {"message": "gone", "status": 410}}, 410, {"title": "Rejected", "detail": "gone"}),
        ({"filter": "a test order"}, 200, {"status": "filtered", "detail": "a test order"}),
        ({"answer": {"body": {"challenge": "c1"}}}, 200, {"challenge": "c1"}),
    ],
)
def test_9_before_webhook_may_answer_by_itself(word: Any, status: int, body: dict[str, Any]) -> None:
    """Section 9: a refusal with a message of its own, a filter, or the answer to a handshake."""
    reply = heed(plan_of(Story(BEFORE)), asked({"n": 1}), word)
    assert isinstance(reply, Reply)
    assert reply.status == status
    assert msgspec.json.decode(reply.body).items() >= body.items()


def test_9_a_handshake_is_answered_with_status_headers_and_text_of_the_script() -> None:
    """Section 9: text leaves as text, and nothing as nothing."""
    plan = plan_of(Story(BEFORE))
    said = heed(plan, asked({}), {"answer": {"status": 201, "headers": {"X-Echo": "1"}, "body": "c1"}})
    assert said == Reply(201, {"x-echo": "1", "content-type": "text/plain; charset=utf-8"}, b"c1")
    assert heed(plan, asked({}), {"answer": {"status": 204}}) == Reply(204, {}, b"")


@pytest.mark.parametrize(
    "word",
    [
        True,
        "no",
        {},
        {"filter": "a", "body": {}},
        {"refuse": "no"},
        {"reject": {"status": 422}},
        {"reject": {"message": "no", "status": 200}},
        {"reject": {"message": "no", "status": 499}},
        {"filter": True},
        {"answer": {"status": 99}},
        {"answer": {"headers": {"x": "a\r\nb"}}},
        {"answer": {"body": "x" * (2 << 20 | 1)}},
        pytest.param({"body": object()}, id="no JSON"),
        {"body": "x" * (2 << 20)},
        {"body": 2**70},
        {"data": {}},
    ],
    ids=repr,
)
def test_9_a_word_that_means_nothing_is_a_failure_of_the_script(word: Any) -> None:
    """Section 9: the sender must not pay for what a script gets wrong."""
    with pytest.raises(BadWord):
        heed(plan_of(Story(BEFORE)), asked({"n": 1}), word)


def test_9_a_rewritten_request_is_what_is_checked_accepted_and_journaled() -> None:
    """Section 9: replay reads it from the journal; the fingerprint stays that of what came."""
    story = Story(BEFORE)
    came = asked({"number": "7"}, idempotency_key="k1")
    hit = admitted(story, heed(plan_of(story), came, {"body": {"n": 7}}))
    assert isinstance(hit, Hit), hit
    story.put(hit)
    (accepted,) = [event for event in story.journal if isinstance(event, HitAccepted)]
    assert (accepted.body, accepted.content_type, accepted.script) == (b'{"n":7}', "application/json", "work:look")
    assert story.only().data["placed"] == {"n": 7}
    assert story.replayed().transaction(story.only().id).data["placed"] == {"n": 7}
    unchanged = admit(
        story.state.program("hash-c"), "placed", asked({"n": 1}, idempotency_key="k1")
    )  # Another request under the same key.
    assert isinstance(unchanged, Hit)
    assert unchanged.digest != hit.digest
    again = admitted(story, heed(plan_of(story), came, {"body": {"n": 8}}))
    assert isinstance(again, Hit)
    assert again.digest == hit.digest
    assert [row.tasks for row in story.state.usages.values() if row.step == "placed"] == [2]


def test_9_the_contract_holds_for_what_a_script_made_of_a_request() -> None:
    """Section 4: 422, as for any other."""
    story = Story(BEFORE)
    reply = admitted(story, heed(plan_of(story), asked({"n": 1}), {"body": {"n": "seven"}}))
    assert isinstance(reply, Reply)
    assert reply.status == 422


def test_9_the_body_of_a_get_is_its_query() -> None:
    """Section 4: GET and DELETE take their fields from there."""
    story = Story(BEFORE)
    hit = admitted(story, heed(plan_of(story), asked(method="GET", raw=b""), {"body": {"n": 6, "gone": None}}))
    assert isinstance(hit, Hit)
    assert (hit.data, hit.query) == ({"n": 6}, {"n": "6"})
    with pytest.raises(BadWord):
        heed(plan_of(story), asked(method="GET", raw=b""), {"body": {"n": [6]}})


def test_9_a_structured_event_that_is_rewritten_keeps_its_attributes() -> None:
    """Section 4: the fields are those of the data, `hit.event` has the attributes, source and id name the delivery."""
    story = Story(BEFORE)
    event = {"id": "e 1", "source": "/ü", "specversion": "1.0", "type": "t", "data": {"number": 7}}
    came = asked(event, content_type="application/cloudevents+json")
    hit = admitted(story, heed(plan_of(story), came, {"body": {"n": 7}}))
    assert isinstance(hit, Hit), hit
    assert hit.delivery == "/ü e 1"
    story.put(hit)
    assert story.replies() == [(200, b'{"n":7,"event":"e 1"}')]


@pytest.mark.parametrize(
    ("result", "data", "status", "answer"),
    [
        ({}, {"n": 1}, "completed", (200, b"1")),
        ({"data": {"n": 9}}, {"n": 9}, "completed", (200, b"9")),
        ({"data": {}}, {}, "completed", None),
        ({"filter": "a test"}, {"n": 1}, "completed", (204, b"")),
    ],
    ids=["nothing", "rewritten", "emptied", "filtered"],
)
def test_9_after_webhook_sees_the_data_before_any_later_step(
    result: dict[str, Any], data: Any, status: str, answer: Any
) -> None:
    """Section 9: what it returns takes the place of the data; a filter ends the pass there; a restart asks again."""
    story = Story(cycle(AFTER % "ignore"))
    story.hit("placed", {"n": 1})
    (call,) = [one for one in story.effects if isinstance(one, PerformCall)]
    assert (call.call.request.method, call.call.request.url) == (HOOK, "work:tidy")
    assert call.data is not None
    assert call.data["placed"] == {"n": 1}
    assert (story.status(), story.replies()) == (["running"], [])
    story.restart()
    assert [call.attempt for call in story.calls()] == [1, 2]
    assert story.only().data["placed"] == {"n": 1}
    story.script(result)
    assert (story.status(), story.only().data["placed"]) == ([status], data)
    if answer is not None:
        assert story.replies() == [answer]
    assert story.replayed().transaction(story.only().id).data == story.only().data
    assert [row.tasks for row in story.state.usages.values() if row.step == "placed"] == [3]


@pytest.mark.parametrize(
    ("said", "status"), [("no such customer", 422), ({"message": "no such customer", "status": 403}, 403)]
)
def test_9_after_webhook_may_reject_an_accepted_request(said: Any, status: int) -> None:
    """Section 9: whoever still waits is told in its words, and the transaction has failed."""
    story = Story(cycle(AFTER % "ignore"))
    story.hit("placed", {"n": 1})
    story.script({"reject": said})
    ((told, body),) = story.replies()
    assert (told, msgspec.json.decode(body)["detail"]) == (status, "no such customer")
    assert (story.status(), story.incidents()) == (["failed"], ["rejected"])
    assert story.only().reason == "rejected: no such customer"


@pytest.mark.parametrize("outcome", [CallFailure("sent", "work:tidy: ValueError: no"), {"datum": 1}, {"reject": 5}])
@pytest.mark.parametrize(
    ("policy", "status"), [("ignore", "completed"), ("stop_transaction", "failed"), ("stop_cycle", "failed")]
)
def test_9_an_after_webhook_that_fails_loses_no_request(outcome: Any, policy: str, status: str) -> None:
    """Sections 9 and 10: a failure of the step, by its policy; ignored, the data goes on as it came."""
    story = Story(cycle(AFTER % policy))
    story.hit("placed", {"n": 1})
    if isinstance(outcome, CallFailure):
        story.end_call(outcome, 0)
    else:
        story.script(outcome)
    assert (story.status(), story.incidents()) == ([status], ["script_failed"])
    assert story.only().data["placed"] == {"n": 1}
    assert story.replies()[0][0] == (200 if policy == "ignore" else 500)
    assert story.state.cycle("c").status == ("stopped" if policy == "stop_cycle" else "running")


def test_9_an_after_webhook_is_tried_again_as_the_policy_says() -> None:
    """Section 10: with the data that came, after any number of attempts."""
    story = Story(cycle(AFTER % "{retry: [1 minute]}"))
    story.hit("placed", {"n": 1})
    story.no_answer()
    story.later(60)
    call = story.calls()[-1]
    assert (call.attempt, story.only().data["placed"]) == (2, {"n": 1})
    story.no_answer()
    assert (story.status(), story.incidents()) == (["failed"], ["script_failed", "out_of_retries"])


def test_9_after_webhook_of_a_mid_cycle_webhook_runs_in_every_pass() -> None:
    """Sections 6.4 and 9: requests that come meanwhile wait for their turn."""
    story = Story(cycle("  placed: {webhook: shop, fields: {n: integer}}" + HELD))
    story.hit("placed", {"n": 1})
    for number in (2, 3):
        story.hit("back", {"n": 1, "m": number})
    assert story.only().queue
    story.script({"data": {"m": 20}})
    story.script({"data": {"m": 30}})
    assert story.replies() == [(200, b"20"), (200, b"30")]
    assert (story.status(), story.incidents()) == (["completed"], [])


def test_9_a_hold_that_can_not_be_reached_fails_whatever_the_policy_of_its_script() -> None:
    """Section 6: nothing to match by is no failure of the script."""
    story = Story(cycle("  placed: {webhook: shop, fields: {n: integer}}" + HELD))
    story.hit("placed", {})
    assert (story.status(), story.incidents()) == (["failed"], ["required_source_empty"])


def test_9_after_words() -> None:
    """Section 9: the same rule for both scripts: one thing, or nothing."""
    assert after_word({}).data is msgspec.UNSET
    with pytest.raises(BadWord, match="must return None, or a mapping with one of reject, filter, data"):
        after_word({"n": 1})


def test_2_functions_around_webhooks_are_checked_like_scripts() -> None:
    """Section 2: with the key that names the function, and the nearest module."""
    source = Source("c.cycle.yaml", BEFORE)
    (fault,) = check_project([source], ["works"])[1]
    assert (fault.step, fault.rule) == ("placed", "before_webhook names no Python module of this project")
    assert (fault.found, fault.nearest) == ("work", "works")
    assert not check_project([source], ["work"])[1]
