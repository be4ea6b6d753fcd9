"""Delays, waits, retries and remotes that ask for patience (sections 7, 9 and 10), in time that only the test moves."""

import msgspec
import pytest

from protocol.cycle import decide
from protocol.inputs import Accepted, CallAnswer, CallEnded, HoldDue
from protocol.state import transaction_name
from tests.protocol.story import NOON, SECOND, Story

LATER = """
cycle: later
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {at: any, n: integer}}
  pause: {delay: 5 minutes}
  until: {wait_until: "{{ asked.at }}"}
  work: {post: remote, path: /work}
"""
RETRY = """
cycle: retries
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  asked: {webhook: shop, answer_within: 30 seconds}
  work: {post: remote, path: /work, on_error: %s, fields: {id: {type: integer, required: true}}}
  answer: {respond: {body: {id: "{{ work.id }}"}}}
"""
MINUTE = 60
PATIENT = RETRY % "{retry: [1 second, 2 seconds]}"


def rfc3339(seconds: int) -> str:
    """An instant some seconds after noon of the first of January 2026, when stories begin."""
    return f"2026-01-01T12:{seconds // 60:02}:{seconds % 60:02}Z"


def test_9_a_delay_goes_on_when_its_time_has_come_and_not_before() -> None:
    """Section 9: the due time is a journaled fact."""
    story = Story(LATER)
    story.hit("asked", {"at": NOON // 1_000_000})
    assert (story.status(), story.only().step, story.only().until) == (["running"], "pause", NOON + 300 * SECOND)
    story.later(299)
    assert not story.calls()
    story.later(1)
    assert [call.step for call in story.calls()] == ["work"]


@pytest.mark.parametrize("at", [rfc3339(600), NOON // 1_000_000 + 600_000], ids=["text", "milliseconds"])
def test_9_a_wait_goes_on_at_its_instant(at: str | int) -> None:
    """Section 9: RFC 3339 or milliseconds; an instant that is past is no wait."""
    story = Story(LATER)
    story.hit("asked", {"at": at})
    story.later(300)
    assert (story.only().step, story.only().until) == ("until", NOON + 600 * SECOND)
    story.later(300)
    assert [call.step for call in story.calls()] == ["work"]


@pytest.mark.parametrize("at", ["soon", None, True, 10**17, "9999-12-31T00:00:00Z"])
def test_9_a_wait_for_no_instant_fails_its_step(at: object) -> None:
    """Section 9: what is no instant, or ten years away, is a mistake that is said."""
    story = Story(LATER)
    story.hit("asked", {"at": at})
    story.later(300)
    assert story.status() == ["failed"]
    assert story.incidents() == ["invalid_instant"]


def test_9_a_delay_survives_a_restart_and_is_not_in_the_way_of_it() -> None:
    """Section 9: overdue timers fire at start; what waits is nothing to recover."""
    story = Story(LATER)
    story.hit("asked", {"at": NOON // 1_000_000})
    story.restart()
    assert story.names() == []
    story.later(3600)
    assert [call.step for call in story.calls()] == ["work"]


def test_9_a_timer_that_fires_twice_or_early_changes_nothing() -> None:
    """Section 9: the core looks before it acts."""
    story = Story(LATER)
    story.hit("asked", {"at": NOON // 1_000_000})
    story.put(HoldDue("later", story.at, story.only().id))
    assert story.names() == []
    story.later(300)
    story.put(HoldDue("later", story.at, story.only().id))
    assert story.names() == []


def test_11_a_stop_ends_a_pass_that_waits() -> None:
    """Section 11: in-progress passes end now; the timer then finds nothing to do."""
    story = Story(LATER)
    story.hit("asked", {"at": NOON // 1_000_000})
    story.stop()
    assert story.status() == ["stopped"]
    story.start()
    story.later(300)
    assert not story.calls()


def test_7_a_step_that_runs_again_after_a_wait_makes_a_call_of_its_own() -> None:
    """Section 7: a poll that loops through a delay would else be answered from the remote's memory for ever."""
    story = Story(
        """
        cycle: polls
        connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
        steps:
          asked: {webhook: shop}
          poll: {post: remote, path: /poll, fields: {done: boolean}}
          ready: {decide: poll.done, then: end}
          pause: {delay: 1 minute, next: poll}
        """
    )
    story.hit("asked", {})
    for done in (False, False, True):
        story.answer({"done": done})
        story.later(MINUTE)
    assert story.status() == ["completed"]
    name = transaction_name("polls", story.only().id)
    assert [call.idempotency_key for call in story.calls()] == [f"{name}.poll.1{again}" for again in ("", ".1", ".2")]


def test_10_retry_tries_five_times_more_at_the_fixed_gaps_and_then_gives_up() -> None:
    """Section 10: 5 min, 35 min, 1 h 35, 4 h 35 and 10 h 35 after the attempt before."""
    story = Story(RETRY % "retry")
    story.hit("asked", {})
    for minutes in (5, 35, 95, 275, 635):
        story.answer(None, 500)
        story.later(minutes * MINUTE - 1)
        assert story.only().call is not None
        assert story.only().until, "it still waits"
        story.later(1)
        assert not story.only().until
    assert [call.attempt for call in story.calls()] == [1, 2, 3, 4, 5, 6]
    assert len({call.idempotency_key for call in story.calls()}) == 1
    story.answer(None, 500)
    assert story.status() == ["failed"]
    assert story.incidents() == ["remote_error"] * 5 + ["out_of_retries"]
    assert story.only().reason.startswith("out_of_retries: Out of retries: remote_error")


def test_10_a_list_of_gaps_says_how_many_attempts_there_are() -> None:
    """Section 10: one further attempt per gap; a success ends it."""
    story = Story(PATIENT)
    story.hit("asked", {})
    story.no_answer()
    story.later(1)
    story.answer({"no": "id"})
    story.later(2)
    story.answer({"id": 7})
    assert story.status() == ["completed"]
    assert story.incidents() == ["no_answer", "invalid_answer"]
    assert story.replies() == [(200, b'{"id":7}')]


def test_5_5_a_retry_beyond_the_deadline_answers_502_now_and_goes_on() -> None:
    """5.5: the caller is told at once, and the run still completes."""
    story = Story(RETRY % "retry")
    story.hit("asked", {})
    story.answer(None, 500)
    ((status, body),) = story.replies()
    assert (status, msgspec.json.decode(body)["step"]) == (502, "work")
    story.later(5 * MINUTE)
    story.answer({"id": 7})
    assert story.status() == ["completed"]
    assert story.incidents() == ["remote_error", "already_answered"]


def test_5_5_a_caller_who_prefers_to_wait_less_is_told_earlier() -> None:
    """5.1, 5.5: the deadline is the shorter one of the step's and the caller's."""
    story = Story(RETRY % "{retry: [10 seconds]}")
    story.hit("asked", {}, headers={"prefer": "wait=5"})
    story.answer(None, 500)
    assert [status for status, _ in story.replies()] == [502]


def test_10_stop_cycle_stops_the_cycle_with_everything_in_progress() -> None:
    """Section 10: the failed transaction has failed, the others are stopped."""
    story = Story(RETRY % "stop_cycle")
    first = story.hit("asked", {})
    story.hit("asked", {})
    assert isinstance(first, Accepted)
    story.answer(None, 500, transaction=first.transaction)
    assert story.status() == ["failed", "stopped"]
    assert story.state.cycle("retries").status == "stopped"


def put_off(story: Story, status: int, **headers: str) -> float:
    """The remote puts the call off; returns for how many seconds."""
    story.answer(None, status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return (story.only().until - story.at) / SECOND


@pytest.mark.parametrize("policy", ["ignore", "stop_transaction", "retry"])
def test_7_a_remote_that_asks_for_patience_is_obeyed_whatever_the_policy(policy: str) -> None:
    """Section 7: 429 and 503 with Retry-After are no failures; seconds or a date."""
    story = Story(RETRY % policy)
    story.hit("asked", {})
    assert put_off(story, 429, retry_after="7") == 7
    story.later(7)
    assert put_off(story, 503, retry_after="Thu, 01 Jan 2026 12:01:07 GMT") == 60
    story.later(60)
    story.answer({"id": 1})
    assert story.status() == ["completed"]
    assert [call.attempt for call in story.calls()] == [1, 2, 3]


def test_7_a_remote_that_does_not_say_how_long_is_left_alone_longer_each_time() -> None:
    """Section 7: 60 s, growing by 1, 3, 7, 15 and 30 minutes."""
    story = Story(RETRY % "ignore")
    story.hit("asked", {})
    for minutes in (1, 2, 5, 12, 27, 57, 57):
        assert put_off(story, 429) == minutes * MINUTE
        story.later(minutes * MINUTE)
    story.answer({"id": 1})
    assert story.status() == ["completed"]


def test_7_a_503_that_does_not_ask_for_patience_is_an_ordinary_error() -> None:
    """Section 7: it fails the step as its policy says."""
    story = Story(RETRY % "stop_transaction")
    story.hit("asked", {})
    story.answer(None, 503)
    assert story.status() == ["failed"]


def test_10_stop_cycle_survives_a_crash_right_after_the_failure() -> None:
    """Section 10: the failing turn itself says that the cycle takes nothing more; no later input is needed for it."""
    story = Story(RETRY % "stop_cycle")
    story.hit("asked", {})
    row = story.only()
    ended = CallEnded("retries", story.at, row.id, "work", 1, 1, CallAnswer(500, {}, b""))
    story.journal += decide(story.state, ended, len(story.journal)).events
    story.restart()
    assert (row.status, story.state.cycle("retries").status) == ("failed", "stopped")
