"""Calls and links (sections 7 and 8): what is sent under which key, and what each outcome means for the pass."""

import pytest

from protocol.events import CallIntended, TransactionStarted
from protocol.inputs import Accepted, CallEnded, Parked, Resumed
from protocol.outbox import AnswerLink, PerformCall, outbox
from protocol.state import transaction_name
from tests.protocol.story import Story

CALL = """
cycle: calls
connectors:
  shop: {}
  remote: {base_url: "http://remote.example/v1", timeout: 7 seconds}
steps:
  asked: {webhook: shop, fields: {id: text, tags: list, more: any, nothing: any}}
  call:
    %s: remote
    path: "/things/{{ asked.id }}"
    query: {tag: "{{ asked.tags }}", none: "{{ asked.nothing }}"}
    headers: {X-Id: "{{ asked.id }}"}
    %s
  after: {decide: {left: call.status, is: equals, right: 200}, then: end, else: end}
"""


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_7_a_step_renders_its_request(method: str) -> None:
    """Section 7: url, query, headers and body; null is left out of a query, a list is repeated."""
    body = "" if method in ("get", "delete") else 'body: {id: "{{ asked.id }}"}'
    story = Story(CALL % (method, body))
    story.hit("asked", {"id": "a b", "tags": ["x", "y&z"]})
    ((request, key),) = [(call.request, call.idempotency_key) for call in story.calls()]
    assert (request.method, request.connector) == (method.upper(), "remote")
    assert request.url == "/things/a b?tag=x&tag=y%26z"
    assert request.headers == {"x-id": "a b"}
    assert (request.body, request.content_type) == ((b'{"id":"a b"}', "application/json") if body else (b"", ""))
    assert request.timeout == 7_000_000_000
    assert key == f"{transaction_name('calls', story.only().id)}.call.1"


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("json", (b'{"a":[1,2],"b":"\xc3\xbc"}', "application/json")),
        ("form", (b"a=1&a=2&b=%C3%BC", "application/x-www-form-urlencoded")),
        ("none", (b"", "")),
    ],
)
def test_7_a_body_is_sent_as_its_kind(kind: str, sent: tuple[bytes, str]) -> None:
    """Section 7: `body_as`."""
    story = Story(CALL % ("post", f"body_as: {kind}\n    body: {{a: [1, 2], b: ü}}"))
    story.hit("asked", {"id": "1"})
    (call,) = story.calls()
    assert (call.request.body, call.request.content_type) == sent


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('body: "{{ asked.more }}{{ asked.more }}"', "too_large"),
        ('body_as: form\n    body: "text"', "invalid_request"),
        ('body: "{{ asked.more.nothing }}"', "required_source_empty"),
    ],
)
def test_7_what_can_not_be_sent_is_an_incident_that_says_why(said: str, kind: str) -> None:
    """Sections 3 and 7: the step fails by its policy, nothing is sent, and the cycle goes on."""
    story = Story(CALL % ("post", said))
    story.hit("asked", {"id": "1", "more": "x" * (1 << 20)} if kind == "too_large" else {"id": "1"})
    assert not story.calls()
    assert story.incidents()[0] == kind


def test_7_a_header_is_one_line() -> None:
    """Section 7: a value with a line break would be two headers, and the second one anybody's."""
    story = Story(CALL % ("post", "on_error: stop_transaction"))
    story.hit("asked", {"id": "1\r\nx-admin: yes"})
    assert (story.status(), story.incidents()) == (["failed"], ["invalid_header"])


@pytest.mark.parametrize(
    ("policy", "status", "after"), [("ignore", "completed", 500), ("stop_transaction", "failed", 500)]
)
def test_10_an_answer_other_than_2xx_is_what_the_policy_makes_of_it(policy: str, status: str, after: int) -> None:
    """Sections 7 and 10: the answer is there for later steps either way."""
    story = Story(CALL % ("post", f"on_error: {policy}"))
    story.hit("asked", {"id": "1"})
    story.answer({"why": "busy"}, 500)
    assert (story.status(), story.incidents()) == ([status], ["remote_error"])
    assert (story.only().data["call"]["status"], story.only().data["call"]["body"]) == (after, {"why": "busy"})


def test_7_the_answer_gives_declared_fields_status_headers_and_body() -> None:
    """Section 7: under the step's id; a broken contract fails the step and says each fault."""
    story = Story(CALL % ("post", "fields: {job.id: {type: integer, required: true}}\n    on_error: stop_transaction"))
    story.hit("asked", {"id": "1"})
    story.answer({"job": {"id": "7", "other": 1}})
    data = story.only().data["call"]
    assert (data["job"], data["status"], data["body"]["job"]["other"]) == ({"id": 7}, 200, 1)
    story = Story(CALL % ("post", "fields: {job.id: {type: integer, required: true}}\n    on_error: stop_transaction"))
    story.hit("asked", {"id": "1"})
    story.answer({"job": {}})
    assert (story.status(), story.incidents()) == (["failed"], ["invalid_answer"])
    assert "job.id" in story.only().reason


def test_7_the_key_is_the_same_on_every_attempt_and_after_every_restart() -> None:
    """Section 7: `transaction.step.pass`."""
    story = Story(CALL % ("post", "on_error: retry"))
    story.hit("asked", {"id": "1"})
    story.restart()
    story.answer(None, 500)
    story.later(300)
    story.restart()
    assert [call.attempt for call in story.calls()] == [1, 2, 3, 4]
    assert len({call.idempotency_key for call in story.calls()}) == 1


@pytest.mark.parametrize(("action", "status"), [("resend", "running"), ("done", "completed"), ("fail", "failed")])
def test_7_an_unknown_call_that_is_not_safe_to_repeat_waits_for_a_person(action: str, status: str) -> None:
    """Section 7: resend, treat as done, or fail."""
    story = Story(CALL % ("post", "safe_to_repeat: no"))
    story.hit("asked", {"id": "1"})
    story.restart()
    assert (story.status(), story.incidents(), len(story.calls())) == (["held"], ["unknown_outcome"], 1)
    story.settle(action)
    assert story.status() == [status]


TARGET = """
cycle: target
connectors: {inner: {}}
settings: {while_stopped: refuse}
steps:
  asked: {webhook: inner, fields: {n: {type: integer, required: true}}}
  answer: {respond: {status: 201, body: {n: "{{ asked.n + 1 }}"}}}
"""
PARENT = """
cycle: parent
connectors: {inner: {}}
settings: {max_depth: 3, on_error: stop_transaction}
steps:
  asked: {webhook: inner, fields: {n: any}}
  down: {post: inner, url: "cycle:target/asked", body: {n: "{{ asked.n }}"}, fields: {n: integer}}
  answer: {respond: {body: "{{ down.n }}"}}
"""


def linked(story: Story) -> CallIntended:
    """The open call, which is a link."""
    (call,) = (call for call in story.calls() if call.link is not None)
    return call


def test_8_a_link_is_a_call_that_stays_in_the_process() -> None:
    """Section 8: the outbox hands it over; the request is rendered as any other."""
    story = Story(PARENT, TARGET)
    story.hit("asked", {"n": 1})
    call = linked(story)
    assert (call.link, call.request.body) == (("target", "asked"), b'{"n":1}')
    (effect,) = [one for one in outbox(story.state, story.decision, str) if isinstance(one, PerformCall)]
    assert effect.call == call


def test_8_parent_and_child_are_recorded_in_both_and_the_answer_goes_back() -> None:
    """Section 8: the answer of the target is the answer of the call."""
    story = Story(PARENT, TARGET)
    story.hit("asked", {"n": 1})
    parent = story.only()
    origin = story.origin(linked(story))
    child = story.hit("asked", {"n": 1}, cycle="target", origin=origin, depth=1)
    assert isinstance(child, Accepted)
    row = story.state.transaction(child.transaction)
    assert (row.parent, row.depth) == (origin, 1)
    assert [event.parent for event in story.latest if isinstance(event, TransactionStarted)] == [origin]
    (answer,) = [one.ended for one in outbox(story.state, story.decision, str) if isinstance(one, AnswerLink)]
    assert isinstance(answer, CallEnded)
    story.put(answer)
    assert parent.children == [transaction_name("target", child.transaction)]
    assert parent.status == "completed"
    assert story.replies()[-1] == (200, b"2")


def test_8_a_chain_that_is_too_deep_ends_with_one_incident() -> None:
    """Section 8: more than `max_depth` is 508, at the link that would go deeper."""
    story = Story(PARENT, TARGET)
    for depth in (2, 3):
        story.hit("asked", {"n": 1}, depth=depth)
    assert len(story.calls()) == 1
    assert story.incidents() == ["loop_detected"]
    (incident,) = story.state.incidents.values()
    assert "508" in incident.message


def test_8_a_link_to_a_stopped_cycle_is_collected_whatever_it_does_with_others() -> None:
    """Section 8: start order does not matter."""
    story = Story(PARENT, TARGET)
    story.hit("asked", {"n": 1})
    origin = story.origin(linked(story))
    story.stop(cycle="target")
    assert isinstance(story.hit("asked", {"n": 1}, cycle="target", origin=origin, depth=1), Parked)
    story.start(cycle="target")
    assert [row.status for row in story.state.transactions.values() if row.cycle == "target"] == ["completed"]


def test_8_a_link_that_comes_again_runs_once() -> None:
    """Section 8: exactly once; its delivery key is the key of the call, and is remembered for ever."""
    story = Story(PARENT, TARGET)
    story.hit("asked", {"n": 1})
    call = linked(story)
    again = {"cycle": "target", "origin": story.origin(call), "depth": 1, "delivery": call.idempotency_key}
    story.hit("asked", {"n": 1}, **again)
    story.later(3650 * 86_400)
    assert not isinstance(story.hit("asked", {"n": 1}, **again), Accepted | Resumed)
    assert len([row for row in story.state.transactions.values() if row.cycle == "target"]) == 1
