"""Script steps (section 9) as the core sees them: a call that the project's own code answers."""

from protocol.check import check_project
from protocol.loading import Source
from protocol.outbox import PerformCall, outbox
from tests.protocol.story import Story

CYCLE = """
cycle: scripted
connectors: {shop: {}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, fields: {n: integer}}
  work: {script: "work:double", on_error: %s}
  look: {decide: {left: work.twice, is: greater, right: 5}}
"""


def test_9_a_script_is_called_with_a_copy_of_the_data_and_its_result_is_the_steps() -> None:
    """Section 9: journaled, so that replay never calls it again."""
    story = Story(CYCLE % "retry")
    story.hit("asked", {"n": 21})
    (effect,) = [one for one in outbox(story.state, story.decision, str) if isinstance(one, PerformCall)]
    assert effect.call.request.url == "work:double"
    assert effect.data is not None
    assert effect.data["asked"] == {"n": 21}
    effect.data["asked"]["n"] = 0
    assert story.only().data["asked"] == {"n": 21}
    story.script({"twice": 42})
    assert (story.status(), story.only().data["work"]) == (["completed"], {"twice": 42})
    assert story.replayed().transaction(story.only().id).data["work"] == {"twice": 42}


def test_9_a_script_that_fails_is_retried_or_fails_its_transaction_and_a_crash_calls_it_again() -> None:
    """Sections 9 and 10: an incident of its own kind; an attempt is one task."""
    story = Story(CYCLE % "{retry: [1 minute]}")
    story.hit("asked", {"n": 21})
    story.restart()
    assert [call.attempt for call in story.calls()] == [1, 2]
    story.no_answer()
    story.later(60)
    story.no_answer()
    assert (story.status(), story.incidents()) == (["failed"], ["script_failed", "out_of_retries"])
    assert [row.tasks for row in story.state.usages.values() if row.step == "work"] == [3]


def test_9_a_script_that_names_no_module_of_the_project_is_a_fault() -> None:
    """Section 2: with the nearest name."""
    source = Source("scripted.cycle.yaml", CYCLE % "ignore")
    assert not check_project([source], ["work"])[1]
    (fault,) = check_project([source], ["works", "other.part"])[1]
    assert (fault.line, fault.rule) == (7, "script names no Python module of this project")
    assert (fault.found, fault.nearest) == ("work", "works")


def test_12_a_script_is_a_task_whether_or_not_it_works() -> None:
    """Section 12: each call of a function counts one, success or incident."""
    story = Story(CYCLE % "ignore")
    story.hit("asked", {"n": 1})
    story.script({"n": 2})
    story.hit("asked", {"n": 2})
    story.no_answer(transaction=max(story.state.transactions))
    assert [row.tasks for row in story.state.usages.values() if row.step == "work"] == [2]


def test_9_a_script_has_60_seconds() -> None:
    """Section 9: longer work belongs behind a call of its own."""
    story = Story(CYCLE % "ignore")
    story.hit("asked", {"n": 1})
    assert [call.request.timeout for call in story.calls()] == [60 * 10**9]
