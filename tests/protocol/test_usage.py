"""Tasks (section 12): what is metered, on which day, and that replay counts the same."""

import pytest

from tests.protocol.story import NOON, Story

CYCLE = """
cycle: meters
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  asked: {webhook: shop, fields: {n: any}}
  look: {decide: {left: asked.n, is: exists}}
  pause: {delay: 1 second}
  call: {post: remote, path: /call, on_error: {retry: [1 day]}}
  link: {post: shop, url: "cycle:other/asked"}
  answer: {respond: {status: "{{ call.body.status }}"}}
"""
OTHER = """
cycle: other
connectors: {shop: {}}
steps:
  asked: {webhook: shop}
  look: {decide: "true"}
"""
TODAY = NOON // (86_400 * 10**9)


def tasks(story: Story) -> dict[tuple[int, str], int]:
    """Tasks by day, counted from the first one, and step."""
    return {(row.day - TODAY, row.step): row.tasks for row in story.state.usages.values()}


def test_12_hits_attempts_and_responses_are_tasks_and_logic_is_free() -> None:
    """Section 12: each accepted hit, each HTTP attempt on its day, each response; links and logic are free."""
    story = Story(CYCLE, OTHER)
    story.hit("asked", {"n": 1})
    story.later(1)
    story.answer(None, 500)
    story.later(86_400)
    story.answer({"status": 201})
    assert tasks(story) == {(0, "asked"): 1, (0, "call"): 1, (1, "call"): 1}
    story.answer({})
    assert tasks(story)[1, "answer"] == 1, "though its caller was told 502 a day ago"
    assert story.incidents() == ["remote_error", "already_answered"]


@pytest.mark.parametrize("status", [200, 404, 503])
def test_12_a_response_is_a_task_whatever_it_says(status: int) -> None:
    """Section 12: it was built for a caller; that a refusal is what he is told makes no difference."""
    story = Story(CYCLE, OTHER)
    story.hit("asked", {"n": 1})
    story.later(1)
    story.answer({"status": status})
    story.answer({})
    assert (story.replies()[-1][0], tasks(story)[0, "answer"]) == (status, 1)


def test_12_a_repeat_is_no_task_and_a_response_that_came_to_nothing_is_one() -> None:
    """Section 12: a duplicate runs nothing; success or incident, a response counts once."""
    story = Story(CYCLE, OTHER)
    for _ in range(2):
        story.hit("asked", {"n": 1}, headers={"idempotency-key": "k"})
    story.later(1)
    story.answer({"status": "none"})
    story.answer({})
    assert tasks(story) == {(0, "asked"): 1, (0, "call"): 1, (0, "answer"): 1}
    assert "invalid_response" in story.incidents()


def test_12_replay_counts_the_same() -> None:
    """Section 12: usage is a fold over the journal, so it never drifts."""
    story = Story(CYCLE, OTHER)
    story.hit("asked", {"n": 1})
    story.later(1)
    story.restart()
    story.answer({"status": 201})
    assert {row.id: row.tasks for row in story.replayed().usages.values()} == {
        row.id: row.tasks for row in story.state.usages.values()
    }
    assert tasks(story)[0, "call"] == 2, "the attempt before the crash, and the one after it"
