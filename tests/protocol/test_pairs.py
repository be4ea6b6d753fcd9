"""Every pair of a transaction's state and an input: decided without a defect, and replayed to the same state."""

from collections.abc import Callable

import pytest

from protocol.inputs import CallAnswer, CallEnded, CallFailure, Continue, HoldDue, Input, ReplySettled, Settle
from runtime.store.digest import digest
from tests.protocol.story import Story
from tests.protocol.test_cycle import ORDER

UNSAFE = ORDER.replace("path: /shipments", "path: /shipments\n    safe_to_repeat: no")


def running() -> Story:
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    return story


def held() -> Story:
    story = running()
    story.answer({"job_id": 42})
    return story


def completed() -> Story:
    story = held()
    story.hit("changed", {"job_id": 42, "status": "Picked"})
    return story


def failed() -> Story:
    story = running()
    story.answer(None, 500)
    return story


def stopped() -> Story:
    story = running()
    story.stop()
    return story


def unknown() -> Story:
    story = Story(UNSAFE)
    story.hit("placed", {"order": "A1"})
    story.restart()
    return story


STATES: dict[str, Callable[[], Story]] = {
    "running": running,
    "held": held,
    "completed": completed,
    "failed": failed,
    "stopped": stopped,
    "unknown": unknown,
}


def call_ended(story: Story, outcome: CallAnswer | CallFailure) -> Input:
    row = story.only()
    return CallEnded("orders", story.at, row.id, "book", row.number, 0, outcome)


INPUTS: dict[str, Callable[[Story], Input]] = {
    "answer": lambda story: call_ended(story, CallAnswer(200, {}, b'{"job_id": 42}')),
    "bad answer": lambda story: call_ended(story, CallAnswer(200, {}, b"oops")),
    "failure": lambda story: call_ended(story, CallFailure("sent", "reset")),
    "hold due": lambda story: HoldDue("orders", story.at + 10**18, story.only().id),
    "continue": lambda story: Continue("orders", story.at, story.only().id),
    "reply sent": lambda story: ReplySettled("orders", story.at, story.only().hit, "sent"),
    "resend": lambda story: Settle("orders", story.at, story.only().id, "resend"),
    "done": lambda story: Settle("orders", story.at, story.only().id, "done"),
    "fail": lambda story: Settle("orders", story.at, story.only().id, "fail"),
}
CHANGES = {
    ("running", "answer"): "held",
    ("running", "bad answer"): "failed",
    ("running", "failure"): "failed",
    ("held", "hold due"): "completed",
    ("unknown", "resend"): "running",
    ("unknown", "done"): "failed",  # The step's data has no job_id to match by.
    ("unknown", "fail"): "failed",
}
UNCHANGED = {"unknown": "held"}


@pytest.mark.parametrize("given", STATES)
@pytest.mark.parametrize("when", INPUTS)
def test_each_input_in_each_state(given: str, when: str) -> None:
    """Late, repeated and impossible inputs change nothing; the others do what the table says."""
    story = STATES[given]()
    story.put(INPUTS[when](story))
    expected = CHANGES.get((given, when), UNCHANGED.get(given, given))
    assert story.only().status == expected
    assert digest(story.replayed()) == digest(story.state)


@pytest.mark.parametrize("given", STATES)
@pytest.mark.parametrize("mode", ["start", "stop", "finish"])
def test_each_order_in_each_state(given: str, mode: str) -> None:
    """Orders never lose a hold or a record."""
    story = STATES[given]()
    before = story.only().status
    if mode == "start":
        story.start()
    else:
        story.stop(mode)
    assert story.only().status == ("stopped" if (before, mode) == ("running", "stop") else before)
    assert digest(story.replayed()) == digest(story.state)
