"""Calls that are not safe to repeat (section 7): unknown is only what may have left, and a person says what it was."""

import pytest

from protocol.chain import Chain, chain_of
from protocol.events import CallIntended, CallUnknown
from protocol.events_leaving import CallLeft
from protocol.inputs import CallLeaves
from tests.protocol.story import Story, cycle

UNSAFE = cycle("  t: {webhook: shop}\n  pay: {post: remote, path: /pay, safe_to_repeat: no}\n", rules="{}")
SAFE = UNSAFE.replace(", safe_to_repeat: no", "")


def begun(text: str = UNSAFE) -> Story:
    """A run whose call is intended."""
    story = Story(text)
    story.hit("t", {})
    return story


def test_7_a_call_that_waited_for_its_place_at_a_crash_is_simply_sent() -> None:
    """Section 7: it surely had no effect, so there is nothing that a person could know better."""
    story = begun()
    story.restart(queued=True)
    assert story.names() == ["CallIntended"]
    assert (story.status(), story.incidents()) == (["running"], [])
    assert len({call.idempotency_key for call in story.calls()}) == 1
    story.restart()
    assert story.names() == ["CallUnknown", "IncidentRaised"]
    assert story.status() == ["held"]


def test_7_that_it_leaves_is_recorded_once_and_for_the_open_attempt_alone() -> None:
    """Section 7: what is late, of another attempt or of another pass records nothing."""
    story = begun()
    row = story.only()
    for other in ({"attempt": 2}, {"number": 2}, {"step": "t"}):
        given = {"step": "pay", "number": 1, "attempt": 1, **other}
        story.put(CallLeaves("c", story.at, row.id, **given))  # type: ignore[arg-type]  # One field of each is another.
        assert story.names() == []
    story.leave()
    assert [event for event in story.journal if isinstance(event, CallLeft)] == [
        CallLeft("c", story.at, row.id, "pay", 1)
    ]
    story.put(CallLeaves("c", story.at, row.id, "pay", 1, 1))
    assert story.names() == []


def test_7_only_where_nobody_may_repeat_it_is_it_recorded_that_a_call_leaves() -> None:
    """Section 7: for any other the key is enough, and costs no second record."""
    assert [call.announced for call in begun().calls()] == [True]
    story = begun(SAFE)
    assert [call.announced for call in story.calls()] == [False]
    story.restart()
    assert story.names() == ["CallUnknown", "CallIntended"]


def test_7_a_call_of_an_older_journal_may_have_left() -> None:
    """Section 7: it was not announced, so that nothing is recorded does not mean that nothing happened."""
    story = begun()
    story.journal = [
        CallIntended(*(getattr(event, name) for name in event.__struct_fields__[:-1]))
        if isinstance(event, CallIntended)
        else event
        for event in story.journal
    ]
    story.state = story.replayed()
    story.restart(queued=True)
    assert [type(event) for event in story.journal if isinstance(event, CallUnknown)] == [CallUnknown]
    assert story.status() == ["held"]


@pytest.mark.parametrize(("action", "status"), [("resend", "running"), ("done", "completed"), ("fail", "failed")])
def test_7_a_person_says_what_it_was(action: str, status: str) -> None:
    """Section 7: resend under the same key, treat as done, or fail; a second word has nothing to settle."""
    story = begun()
    story.restart()
    story.settle(action)
    assert story.status() == [status]
    if action == "resend":
        assert len({call.idempotency_key for call in story.calls()}) == 1
        story.leave()
        story.restart()
        assert story.status() == ["held"], "it may have left again"


@pytest.mark.parametrize("left", [False, True])
def test_13_a_resume_asks_a_person_only_about_a_call_that_had_left(left: bool) -> None:
    """Sections 7 and 13: one that was stopped in the queue before its remote is made without asking."""
    story = begun()
    row = story.only()
    if left:
        story.leave()
    story.stop()
    story.start()
    story.redrive("resume", row.id)
    new = max(story.state.transactions.values(), key=lambda one: one.id)
    assert new.status == ("held" if left else "running")
    assert story.incidents() == (["unknown_outcome"] if left else [])
    assert (chain_of(new), new.depth) == (chain_of(row), row.depth)


def test_8_what_is_redelivered_is_as_deep_in_its_chain_as_it_was() -> None:
    """Sections 8 and 13: a loop can not be lengthened by having its requests delivered again."""
    story = Story(SAFE)
    story.hit("t", {}, depth=7, chain=Chain("a" * 32, sampled=False))
    old = story.only()
    story.answer({})
    story.redrive("redeliver", old.hit)
    new = max(story.state.transactions.values(), key=lambda one: one.id)
    assert new.id != old.id
    assert (new.chain, new.depth, new.sampled) == ("a" * 32, 7, False)
