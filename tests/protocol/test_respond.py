"""Synchronous answers (section 5): what the caller of a pass is told, and that he is told it once."""

from typing import Literal

import msgspec
import pytest

from protocol.answers import PROBLEM, TRANSACTION_HEADER
from protocol.events import ReplyBuilt
from protocol.inputs import Accepted, Duplicate, ReplySettled, Resumed
from protocol.state import HitRow, Reply
from tests.protocol.story import Story

SYNC = """
cycle: sync
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {way: text, n: any}}
  route:
    decide: asked.way
    cases: {answer: answer, twice: answer, call: call, empty: empty, odd: odd}
    default: end
  call: {post: remote, path: /call, next: answer}
  empty: {respond: {status: 200, body_as: none}, next: end}
  odd: {respond: {status: "{{ asked.n }}", headers: {x-n: "{{ asked.n }}"}, body: "x", body_as: text}, next: end}
  answer: {respond: {status: 201, headers: {X-Way: "{{ asked.way }}"}, body: {n: "{{ asked.n }}"}}}
  again: {decide: {left: asked.way, is: equals, right: twice}, then: second, else: back}
  second: {respond: {body: second}, next: end}
  back: {webhook: shop, fields: {n: any}, match: {n: asked.n}}
  bye: {respond: {body: "{{ back.n }}"}}
"""


def built(story: Story) -> list[ReplyBuilt]:
    """Every answer built so far."""
    return [event for event in story.journal if isinstance(event, ReplyBuilt)]


def ask(story: Story, way: str, **more: object) -> HitRow:
    """A synchronous request; its hit."""
    verdict = story.hit("asked", {"way": way, **more})
    assert isinstance(verdict, Accepted)
    return story.state.hit(verdict.hit)


def test_5_the_first_respond_answers_with_its_status_headers_and_body_and_the_pass_goes_on() -> None:
    """Section 5: mapped; and the transaction's name is on it."""
    story = Story(SYNC)
    hit = ask(story, "answer", n=7)
    name = f"sync-{hit.transaction}"
    headers = {"x-way": "answer", "content-type": "application/json", TRANSACTION_HEADER: name}
    assert hit.reply == Reply(201, headers, b'{"n":7}')
    assert story.status() == ["held"]


def test_5_3_a_second_respond_of_a_pass_is_recorded_and_answers_nobody() -> None:
    """5.3: `already answered`."""
    story = Story(SYNC)
    ask(story, "twice", n=7)
    assert [event.body for event in built(story)] == [b'{"n":7}']
    assert story.incidents() == ["already_answered"]
    assert story.status() == ["completed"]


def test_5_3_each_pass_answers_the_hit_that_began_it() -> None:
    """5.3: the first caller has his answer; the callback's caller gets the one of his own pass."""
    story = Story(SYNC)
    first = ask(story, "answer", n=7)
    verdict = story.hit("back", {"n": 7})
    assert isinstance(verdict, Resumed)
    assert [(event.hit, event.body) for event in built(story)] == [(first.id, b'{"n":7}'), (verdict.hit, b"7")]


@pytest.mark.parametrize(("way", "status"), [("end", 204), ("call", 500)], ids=["completed", "failed"])
def test_5_2_a_pass_that_ends_without_a_respond_answers_at_that_instant(way: str, status: int) -> None:
    """5.2: 204 for completed, a 500 problem that names the step for failed; in the turn that ends the pass."""
    story = Story(SYNC)
    hit = ask(story, way)
    if way == "call":
        assert hit.reply is None
        story.answer(None, 500)
    (reply,) = built(story)
    assert reply in story.latest
    assert reply.status == status
    if status == 500:
        assert (msgspec.json.decode(reply.body)["step"], reply.headers["content-type"]) == ("call", PROBLEM)
    else:
        assert reply.body == b""


def test_5_2_a_stop_answers_409_and_5_2_a_hold_202() -> None:
    """5.2: the other two ends of a pass."""
    story = Story(SYNC)
    ask(story, "call")
    story.stop()
    assert [event.status for event in built(story)] == [409]
    holds = Story(SYNC.replace("call: call,", "call: back,"))
    ask(holds, "call", n=1)
    ((reply,), (row,)) = built(holds), holds.state.transactions.values()
    assert (reply.status, msgspec.json.decode(reply.body)["status"], row.status) == (202, "held", "held")


@pytest.mark.parametrize("status", [99, 199, 600, "abc", None, True, 200.5])
def test_5_a_status_that_is_none_fails_the_pass_and_is_told_as_500(status: object) -> None:
    """Section 5: 200 to 599; a mistake in a mapping must not reach the wire."""
    story = Story(SYNC)
    ask(story, "odd", n=status)
    assert [event.status for event in built(story)] == [500]
    assert story.incidents()[0] in ("invalid_response", "required_source_empty")


def test_5_a_status_may_be_text_and_a_body_may_be_none() -> None:
    """Section 5: `"404"` is 404; no body has no content type."""
    story = Story(SYNC)
    ask(story, "odd", n="404")
    ask(story, "empty")
    first, second = built(story)
    assert (first.status, first.headers["content-type"], first.body) == (404, "text/plain; charset=utf-8", b"x")
    assert (second.status, second.body, "content-type" in second.headers) == (200, b"", False)


def test_5_1_a_caller_who_wants_no_answer_is_promised_none() -> None:
    """5.1: `Prefer: respond-async`; the respond step still runs, and the answer is there to be fetched."""
    story = Story(SYNC)
    verdict = story.hit("asked", {"way": "end"}, headers={"prefer": "respond-async"})
    assert isinstance(verdict, Accepted)
    assert not story.state.hit(verdict.hit).wants_reply
    assert not built(story)


def test_5_4_after_a_crash_the_caller_is_detached_and_his_repeat_gets_the_answer() -> None:
    """5.4: the pass goes on; the same delivery key leads to the stored answer and runs nothing."""
    story = Story(SYNC)
    headers = {"idempotency-key": "k"}
    first = story.hit("asked", {"way": "call", "n": 7}, headers=headers)
    assert isinstance(first, Accepted)
    story.restart()
    assert story.state.hit(first.hit).fate == "restart"
    story.answer({})
    assert story.hit("asked", {"way": "call", "n": 7}, headers=headers) == Duplicate(first.hit)
    reply = story.state.hit(first.hit).reply
    assert reply is not None
    assert (reply.status, reply.body, len(built(story))) == (201, b'{"n":7}', 1)


@pytest.mark.parametrize("fate", ["sent", "gone", "deadline"])
def test_5_4_the_fate_of_an_answer_is_recorded_once(fate: Literal["sent", "gone", "deadline"]) -> None:
    """5.4: sent, caller gone or deadline; what is said later about it changes nothing."""
    story = Story(SYNC)
    hit = ask(story, "answer", n=7)
    assert story.state.hit(hit.id).fate == "waiting"
    story.put(ReplySettled("sync", story.at, hit.id, fate))
    assert story.names() == ["ReplySent" if fate == "sent" else "ReplyDetached"]
    assert hit.fate == fate
    story.put(ReplySettled("sync", story.at, hit.id, "gone" if fate == "sent" else "sent"))
    story.restart()
    assert (story.names(), story.state.hit(hit.id).fate) == ([], fate)


def test_5_4_the_answer_to_a_caller_who_left_is_built_all_the_same() -> None:
    """5.1, 5.4: a transaction is never cancelled by its caller; the answer is there to be fetched."""
    story = Story(SYNC)
    hit = ask(story, "call", n=7)
    story.put(ReplySettled("sync", story.at, hit.id, "deadline"))
    story.answer({})
    assert hit.reply is not None
    assert (hit.reply.status, hit.fate) == (201, "deadline")
