"""`last_success` (section 3): when a step last did its work in this cycle, so that it can ask for what is new since."""

from typing import Any

import msgspec
import pytest

from protocol.events import StepSucceeded
from runtime.store.digest import digest
from tests.protocol.story import NOON, SECOND, Story, cycle

POLL = """
  t: {webhook: shop}
  poll:
    get: remote
    path: /orders
    query: {since: "{{ last_success }}"}
    on_error: %s
  other: {get: remote, path: /x}
"""


def polled(story: Story, body: Any = None, status: int = 200) -> str:
    """One run of the cycle; the url that it asked."""
    story.hit("t", {})
    newest = max(story.state.transactions)
    call = story.calls()[-1]
    story.answer(body or {}, status, transaction=newest)
    return call.request.url


def noted(story: Story) -> list[int]:
    """When each success began, in seconds after noon."""
    return [(event.began - NOON) // SECOND for event in story.journal if isinstance(event, StepSucceeded)]


def test_3_a_poll_asks_for_what_is_new_since_the_last_one_that_succeeded() -> None:
    """Section 3: null before the first, so that the parameter is left out; a failure leaves it, a restart keeps it."""
    story = Story(cycle(POLL % "ignore"))
    assert polled(story) == "/orders"
    story.later(60)
    assert polled(story, status=500) == "/orders?since=2026-01-01T12%3A00%3A00.000Z"
    story.later(60)
    story.restart()
    assert polled(story) == "/orders?since=2026-01-01T12%3A00%3A00.000Z"
    assert polled(story) == "/orders?since=2026-01-01T12%3A02%3A00.000Z"
    assert noted(story) == [0, 120, 120]
    assert digest(story.replayed()) == digest(story.state)


def test_3_the_instant_is_that_at_which_the_attempt_left() -> None:
    """Section 3: what changed while a remote took its time to answer is asked for again, never missed."""
    story = Story(cycle(POLL % "{retry: [1 minute]}"))
    story.hit("t", {})
    story.later(5)
    story.no_answer()
    story.later(60)
    story.later(7)
    story.answer({})
    assert story.calls()[-2].attempt == 2
    assert noted(story) == [65]


def test_3_an_older_attempt_that_takes_longer_does_not_take_it_back() -> None:
    """Section 3: transactions of one cycle overlap."""
    story = Story(cycle(POLL % "ignore"))
    story.hit("t", {})
    first = max(story.state.transactions)
    story.later(60)
    polled(story)
    story.answer({}, transaction=first)
    assert noted(story) == [60, 0]
    assert story.state.cycle("c").succeeded == {"poll": NOON + 60 * SECOND}


def test_3_a_step_that_fails_its_contract_has_not_succeeded() -> None:
    """Section 7: an answer that is not what it should be is none."""
    story = Story(cycle(POLL.replace("on_error: %s", "fields: {id: {type: integer, required: true}}")))
    polled(story, {"id": "x"})
    assert noted(story) == []
    polled(story, {"id": 1})
    assert noted(story) == [0]


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ("  s: {respond: {body: '{{ last_success }}'}}\n", None),
        ("  s: {decide: 'last_success == null', then: a, else: b}\n", None),
        ("  s: {wait_until: '{{ last_success == null ? transaction.started : last_success }}'}\n", None),
        ("  s: {split: 'last_success == null ? [1] : []', next: a}\n", None),
    ],
    ids=["respond", "decide", "wait_until", "split"],
)
def test_3_every_step_that_mentions_it_knows_its_own(steps: str, value: Any) -> None:
    """Section 3: of this step, whatever its kind."""
    rest = "  a: {post: remote, path: /a, next: end}\n  b: {post: remote, path: /b}\n"
    rest = rest if "decide" in steps else "  a: {delay: 1 minute}\n"
    story = Story(cycle("  t: {webhook: shop}\n" + steps + rest))
    story.hit("t", {})
    story.later(1)
    story.hit("t", {})
    assert noted(story) == [0, 1]
    assert list(story.state.cycle("c").succeeded) == ["s"]
    if "respond" in steps:
        assert [msgspec.json.decode(body) if body else value for _, body in story.replies()] == [
            value,
            "2026-01-01T12:00:00.000Z",
        ]
    if "decide" in steps:
        assert [call.request.url for call in story.calls()] == ["/a", "/b"]


def test_3_a_definition_that_does_not_mention_it_journals_nothing_for_it() -> None:
    """The way of most requests is as short as before; another step's mention is not this step's."""
    story = Story(cycle((POLL % "ignore").replace("last_success", "t.since")))
    polled(story)
    assert noted(story) == []
    story = Story(cycle(POLL % "ignore"))
    polled(story)
    story.answer({})
    assert story.state.cycle("c").succeeded.keys() == {"poll"}
