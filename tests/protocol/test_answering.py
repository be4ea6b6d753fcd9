"""Synchronous webhooks: who is answered, with what, and that no path leaves a caller waiting (section 5)."""

from typing import Any

import msgspec
import pytest

from protocol.calls import RENDERED_BYTES_MAX
from protocol.events import ReplyBuilt, ReplyDetached, ReplySent
from protocol.inputs import Accepted, Duplicate, ReplySettled
from tests.protocol.story import Story, begun, cycle

STOP = "{on_error: stop_transaction}"
ANSWERING = (
    "  t: {webhook: shop}\n  ask: {post: remote, path: /x}\n"
    "  d: {decide: 't.respond'}\n  r: {respond: {status: 201, headers: {X-A: '{{ t.a }}'}, body: {a: '{{ t.a }}'}}}\n"
)
HOLDING = "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n"
BRANCHED = ANSWERING.replace("decide: 't.respond'", "decide: 't.respond', else: end")


def waiting(steps: str = BRANCHED, **body: Any) -> Story:
    """A caller waits for the outcome of a pass that is at a call."""
    story = Story(cycle(steps, rules=STOP))
    assert story.ask("t", body) is None
    return story


def only_answer(story: Story) -> tuple[int, Any]:
    """The one answer that the caller of the first hit was given."""
    (reply,) = story.answers(min(story.state.hits))
    return reply.status, msgspec.json.decode(reply.body) if reply.body else None


def test_5_the_first_respond_answers_and_the_pass_goes_on() -> None:
    """Section 5: mapped status, headers and body, with the name of the transaction."""
    story = waiting(BRANCHED + "  after_: {post: remote, path: /after}\n", respond=True, a=1)
    story.answer()
    (reply,) = story.answers(story.only().hit)
    assert (reply.status, reply.body) == (201, b'{"a":1}')
    assert reply.headers == {
        "x-a": "1",
        "content-type": "application/json",
        "cyclewright-transaction": f"c-{story.only().id}",
    }
    assert story.calls()[-1].step == "after_"


def test_5_a_respond_says_200_when_it_says_nothing() -> None:
    """Section 5: no body, so no content type."""
    story = begun("  r: {respond: {}}\n")
    (reply,) = story.answers(story.only().hit)
    assert (reply.status, reply.body) == (200, b"")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize(
    ("kind", "body", "content_type", "sent"),
    [
        ("text", "hello {{ t.a }}", "text/plain; charset=utf-8", b"hello 1"),
        ("form", {"a": "{{ t.a }}"}, "application/x-www-form-urlencoded", b"a=1"),
        ("json", ["{{ t.a }}"], "application/json", b"[1]"),
        ("none", "said in vain", None, b""),
    ],
)
def test_5_an_answer_has_the_kind_of_body_it_says(kind: str, body: Any, content_type: Any, sent: bytes) -> None:
    """Section 7's kinds of body, for answers too."""
    story = begun(f"  r: {{respond: {{body: {msgspec.json.encode(body).decode()}, body_as: {kind}}}}}\n", {"a": 1})
    (reply,) = story.answers(story.only().hit)
    assert (reply.body, reply.headers.get("content-type")) == (sent, content_type)


@pytest.mark.parametrize("status", [204, "418", 599])
def test_5_a_status_can_be_mapped(status: Any) -> None:
    """A number, or text that is one."""
    story = begun("  r: {respond: {status: '{{ t.status }}'}}\n", {"status": status})
    assert [code for code, _ in story.replies()] == [int(status)]


@pytest.mark.parametrize(
    ("respond", "body", "kind"),
    [
        ("status: '{{ t.status }}'", {"status": 199}, "invalid_response"),
        ("status: '{{ t.status }}'", {"status": 600}, "invalid_response"),
        ("status: '{{ t.status }}'", {"status": "ok"}, "invalid_response"),
        ("status: '{{ t.status }}'", {"status": True}, "invalid_response"),
        ("status: '{{ t.status }}'", {}, "required_source_empty"),
        ("headers: {x-a: '{{ t.a }}'}", {"a": "1\n2"}, "invalid_header"),
        ("body_as: form, body: '{{ t.a }}'", {"a": "text"}, "invalid_request"),
        ("body: '{{ t.a }}'", {"a": "a" * RENDERED_BYTES_MAX}, "too_large"),
    ],
)
def test_5_2_a_respond_that_can_not_be_built_still_leaves_no_caller_waiting(respond: str, body: Any, kind: str) -> None:
    """5.2: 500 names the step, whatever the policy; ignored, the pass goes on, and its end is no success to be told."""
    step = f"  r: {{respond: {{{respond}}}}}\n  after_: {{post: remote, path: /after}}\n"
    failing, ignoring = begun(step, body, rules=STOP), begun(step, body)
    for story in (failing, ignoring):
        assert story.incidents() == [kind]
        status, problem = only_answer(story)
        assert (status, problem["step"], problem["status"]) == (500, "r", 500)
    assert (failing.status(), ignoring.status()) == (["failed"], ["running"])
    ignoring.answer()
    assert (ignoring.status(), len(ignoring.replies())) == (["completed"], 1)


def test_5_2_a_pass_that_completes_without_responding_answers_204() -> None:
    """5.2: at that instant."""
    story = waiting(respond=False)
    assert story.answers(story.only().hit) == []
    story.answer()
    assert (only_answer(story), story.status()) == ((204, None), ["completed"])


def test_5_2_a_pass_that_fails_answers_500_and_names_the_step() -> None:
    """5.2: a problem (RFC 9457)."""
    story = waiting(respond=True, a=1)
    story.answer(None, 503)
    status, problem = only_answer(story)
    assert (status, problem["step"], problem["transaction"]) == (500, "ask", f"c-{story.only().id}")
    assert set(problem) >= {"type", "title", "status", "detail"}
    assert story.answers(story.only().hit)[0].headers["content-type"] == "application/problem+json"


def test_5_2_a_pass_that_is_stopped_answers_409() -> None:
    """5.2: an operator's order."""
    story = waiting(respond=True, a=1)
    story.stop()
    status, problem = only_answer(story)
    assert (status, problem["step"]) == (409, "ask")


def test_5_2_a_pass_that_comes_to_a_hold_answers_202() -> None:
    """5.2: the branch with the respond was not taken."""
    steps = BRANCHED.replace("else: end", "else: w").replace(
        "body: {a: '{{ t.a }}'}}}", "body: {a: '{{ t.a }}'}}, next: end}"
    )
    story = waiting(steps + HOLDING, respond=False, id="x")
    story.answer()
    status, told = only_answer(story)
    assert (status, told) == (202, {"status": "held", "transaction": f"c-{story.only().id}", "step": "w"})


def test_5_2_a_pass_that_waits_for_a_person_answers_202() -> None:
    """5.2 and 7: a crash left a call unknown; status_url still leads to an answer."""
    story = waiting(BRANCHED.replace("path: /x", "path: /x, safe_to_repeat: no"), respond=True)
    story.restart()
    status, told = only_answer(story)
    assert (status, told["status"]) == (202, "held")


def test_5_3_a_second_respond_is_recorded_as_already_answered() -> None:
    """5.3: the first stands, and the pass goes on."""
    story = begun("  r: {respond: {body: 1}}\n  s: {respond: {body: 2}}\n  after_: {post: remote, path: /x}\n")
    assert [body for _, body in story.replies()] == [b"1"]
    assert story.incidents() == ["already_answered"]
    assert next(iter(story.state.incidents.values())).level == "info"
    assert story.status() == ["running"]


def test_5_3_the_answer_goes_to_the_hit_that_began_the_pass() -> None:
    """5.3: two callers of two passes of one transaction, each with its own."""
    story = Story(
        cycle(
            "  t: {webhook: shop}\n"
            + HOLDING.replace("id: text", "id: text, n: integer")
            + "  r: {respond: {body: '{{ w.n }}'}}\n"
        )
    )
    trigger = story.hit("t", {"id": "x"})
    assert isinstance(trigger, Accepted)
    answers = [story.ask("w", {"id": "x", "n": number}) for number in (7, 8)]
    assert [reply.body for reply in answers if reply] == [b"7", b"8"]
    assert story.answers(trigger.hit) == []


def test_5_a_trigger_whose_respond_lies_behind_a_hold_is_not_synchronous() -> None:
    """Section 5: only a respond before a hold keeps the connection open."""
    story = Story(cycle("  t: {webhook: shop}\n" + HOLDING + "  r: {respond: {}}\n"))
    reply = story.ask("t", {"id": "x"})
    assert reply is not None
    assert (reply.status, msgspec.json.decode(reply.body)["status"]) == (202, "accepted")


def test_5_1_a_caller_who_asks_not_to_wait_is_told_202_at_once() -> None:
    """5.1: `Prefer: respond-async`; the answer is built all the same, for status_url."""
    story = Story(cycle("  t: {webhook: shop}\n  r: {respond: {body: 1}}\n"))
    reply = story.ask("t", {}, headers={"prefer": "wait=3, respond-async"})
    assert reply is not None
    assert reply.status == 202
    assert reply.headers["location"] == msgspec.json.decode(reply.body)["status_url"]
    assert story.replies() == [(200, b"1")]
    assert story.answers(story.only().hit) == []


@pytest.mark.parametrize("fate", ["sent", "gone", "deadline"])
def test_5_4_the_fate_of_an_answer_is_recorded_once(fate: Any) -> None:
    """5.4: sent, caller gone, deadline; the transaction goes on whatever it was."""
    story = waiting(respond=True, a=1)
    hit = story.only().hit
    for _ in range(2):
        story.put(ReplySettled("c", story.at, hit, fate))
    fates = [event for event in story.journal if isinstance(event, ReplySent | ReplyDetached)]
    assert len(fates) == 1
    assert story.state.hit(hit).fate == fate
    story.answer()
    assert story.status() == ["completed"]


def test_5_4_a_caller_of_a_process_that_died_is_recorded_as_such() -> None:
    """5.4: and the answer is built later, for whoever comes back with the same key."""
    story = waiting(respond=True, a=1)
    story.restart()
    assert story.state.hit(story.only().hit).fate == "restart"
    story.answer()
    assert [code for code, _ in story.replies()] == [201]


def test_5_4_a_delivery_that_comes_again_finds_the_stored_answer() -> None:
    """5.4: byte for byte, and nothing runs twice."""
    story = Story(cycle("  t: {webhook: shop}\n  r: {respond: {body: ' {{ transaction.id }} ü\n\n', body_as: text}}\n"))
    headers = {"idempotency-key": "k"}
    first = story.ask("t", {}, headers=headers)
    hit = story.only().hit
    (built,) = [event for event in story.journal if isinstance(event, ReplyBuilt)]
    assert first is not None
    assert first.body == built.body == f" c-{story.only().id} ü\n".encode()
    assert story.hit("t", {}, headers=headers) == Duplicate(hit)
    assert story.state.hit(hit).reply == first
    assert sum(isinstance(event, ReplyBuilt) for event in story.journal) == 1
