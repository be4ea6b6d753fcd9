"""What-if with the definition that ran (section 14): whatever happened, nothing differs."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from protocol.chain import Chain
from protocol.events import HitAccepted, Origin, TransactionGathered, TransactionSplit
from protocol.inputs import AlertDone, RunOnce
from tests.golden.stories import STORIES
from tests.protocol import test_busy_machine, test_machine
from tests.protocol.story import Story, cycle
from tests.protocol.test_pairs import STATES
from tests.protocol.test_waits import RETRY
from tests.runtime.journals import payments
from tests.runtime.test_state import eventful
from tests.runtime.whatifs import tried


class Holds(test_machine.Machine):
    """Hits early and late, repeats, timeouts, stops and restarts."""

    def teardown(self) -> None:
        """What was recorded runs again."""
        assert tried(self.story).outcome.is_same


class Calls(test_busy_machine.Machine):
    """Calls that end well and badly, queues, moves and stops."""

    def teardown(self) -> None:
        """What was recorded runs again."""
        assert tried(self.story).outcome.is_same


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
)
TestHolds, TestCalls = Holds.TestCase, Calls.TestCase
TestHolds.settings = TestCalls.settings = SETTINGS


def scripts() -> Story:
    """A function that returns, one that fails once, and one that runs when the process dies."""
    story = Story(cycle("  t: {webhook: shop}\n  work: {script: 'work:double', on_error: {retry: [1 minute]}}\n"))
    for outcome in ("returns", "fails", "dies"):
        story.hit("t", {"n": 1})
        working = max(story.state.transactions)
        if outcome == "fails":
            story.no_answer(transaction=working)
            story.later(60)
        if outcome == "dies":
            story.restart()
        story.script({"n": 2}, transaction=working)
    return story


def broken() -> Story:
    """A failing step stops its cycle, with another pass in progress."""
    story = Story(RETRY % "stop_cycle")
    story.hit("asked", {})
    story.hit("asked", {})
    story.answer(None, 500, transaction=min(story.state.transactions))
    story.start()
    story.hit("asked", {})
    story.answer(None, 429, headers={"retry-after": "7"}, transaction=max(story.state.transactions))
    story.later(7)
    story.answer({"id": 1}, transaction=max(story.state.transactions))
    return story


def parts() -> Story:
    """Lists that are split, each item with a call, and what gathers them; more items than one turn takes."""
    story = Story(
        cycle(
            "  t: {webhook: shop}\n  line: {split: hit.body}\n  look: {get: remote, path: '/{{ line.n }}'}\n"
            "  all: {wait_all: true}\n  tell: {post: remote, path: /all, body: {count: '{{ all.count }}'}}\n"
        )
    )
    for count in (2, 100):
        story.hit("t", [{"n": one} for one in range(count)])
        for row in list(story.state.transactions.values()):
            if row.call is not None:
                story.answer({}, transaction=row.id)
        story.answer({}, transaction=max(story.state.transactions))
    assert any(isinstance(event, TransactionSplit) for event in story.journal)
    assert any(isinstance(event, TransactionGathered) for event in story.journal)
    return story


HOOKED = """
  t: {webhook: shop, before_webhook: "work:look", after_webhook: "work:tidy", on_error: stop_transaction}
  back: {webhook: shop, fields: {id: text, n: integer}, match: {id: t.id}, newer_than: n}
  call: {post: remote, path: "/{{ t.id }}"}
  answer: {respond: {status: 201}}
"""


def hooked() -> Story:
    """Each word of an `after_webhook`, requests out of order, and a stopped cycle that runs one kept request."""
    story = Story(cycle(HOOKED, rules="{while_stopped: collect}"))
    words: list[dict[str, Any]] = [
        {"data": {"id": "A"}},
        {"filter": "nothing new"},
        {"reject": {"message": "no", "status": 403}},
        {"reject": "gone"},
        {},
        {"nonsense": 1},
    ]
    for word in words:
        story.hit("t", {"id": "raw"}, script="work:look")
        story.script(word, transaction=max(story.state.transactions))
    for n in (2, 1, 3):
        story.hit("back", {"id": "A", "n": n})
    story.answer({}, transaction=min(story.state.transactions))
    story.stop()
    story.put(RunOnce("c", story.at))
    story.stop("finish")
    story.hit("t", {"id": "kept"})
    story.put(RunOnce("c", story.at))
    story.script({"filter": "once"}, transaction=max(story.state.transactions))
    return story


def told() -> Story:
    """Incidents are handed to a cycle as alerts, which runs for them; one alert is given up, one request too deep."""
    steps = "  t: {webhook: shop}\n  work: {post: remote, path: /x}\n"
    story = Story(
        cycle(steps, rules="{alerts: {url: 'cycle:ops/told'}}"),
        cycle("  told: {webhook: shop}\n  page: {post: remote, path: /page}\n", name="ops"),
    )
    for reason in ("", "it was answered with 500"):
        story.hit("t", {})
        failing = max(story.state.transactions)
        story.answer(None, 500, transaction=failing)
        alert = story.state.cycle("c").alert
        assert alert is not None
        if not reason:
            origin = Origin("c", failing, "work", 0)
            story.hit("told", {"kind": "remote_error"}, cycle="ops", origin=origin, delivery="c.incident.1", depth=1)
            story.answer({}, transaction=max(story.state.transactions))
        story.put(AlertDone("c", story.at, alert.incidents[0], reason))
    story.hit("t", {}, depth=99, chain=Chain("a" * 32))
    return story


TOLD = [eventful, payments, scripts, broken, parts, hooked, told]


@pytest.mark.parametrize("told", [*TOLD, *STORIES.values()])
def test_14_given_the_definition_that_ran_when_tried_then_nothing_differs(told: Callable[[], Story]) -> None:
    """Section 14: the same inputs through the same decide; every request of the record was run."""
    story = told()
    again = tried(story)
    assert again.outcome.is_same, again.changed
    assert not again.changed
    assert again.outcome.hits >= sum(isinstance(event, HitAccepted) for event in story.journal)
    assert sum(again.outcome.tasks[story.cycle]) > 0


@pytest.mark.parametrize("state", STATES)
def test_14_given_any_state_of_a_transaction_when_the_record_ends_there_then_nothing_differs(state: str) -> None:
    """Section 14: what is open at the end of the record is open in both."""
    assert tried(STATES[state]()).outcome.is_same
