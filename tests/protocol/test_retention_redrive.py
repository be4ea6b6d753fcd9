"""Retention meets redrive (section 13) and requests out of order (6.8): what is dropped can not be done again."""

import pytest

from protocol.events_redrive import RedriveAction
from protocol.inputs import Ignored, Redrive, Redriven, Refused
from runtime.store.digest import digest
from tests.protocol.story import Story
from tests.protocol.test_newer import completed, told
from tests.protocol.test_pairs import failed

LONG = 10_000_000  # Seconds; past the time for which a delivery key is remembered.
ACTIONS: list[RedriveAction] = ["resume", "rerun", "redeliver"]


def ordered(story: Story, action: RedriveAction) -> Redrive:
    """An item of an order, ready to be put, of the one transaction there is."""
    row = story.only()
    given = story.redrive_input(action, row.trigger if action == "redeliver" else row.id)
    assert isinstance(given, Redrive)
    return given


@pytest.mark.parametrize("action", ACTIONS)
def test_13_what_retention_removed_while_an_order_was_on_its_way_is_refused(action: RedriveAction) -> None:
    """The server looks at an item before its turn; between the two retention may have its own."""
    story = failed()
    given = ordered(story, action)
    story.later(LONG)
    story.retain(failed=1)
    verdict = story.put(given)
    assert isinstance(verdict, Refused)
    assert (verdict.status, story.latest) == (404, [])


@pytest.mark.parametrize("action", ACTIONS)
def test_13_what_lost_its_data_can_not_be_done_again(action: RedriveAction) -> None:
    """What is left of it is shown, and can not run."""
    story = failed()
    given = ordered(story, action)
    story.later(LONG)
    story.retain(bodies=1)
    verdict = story.put(given)
    assert isinstance(verdict, Refused)
    assert (verdict.status, "dropped its data" in verdict.detail, story.latest) == (409, True, [])


def test_13_a_purge_takes_the_data_that_was_left_for_a_resume() -> None:
    """The values it was found by, and the request of a call that may have acted, are data too."""
    story = failed()
    assert story.only().remains is not None
    story.later(LONG)
    story.retain(bodies=1)
    row = story.only()
    assert (row.data, row.remains, row.pending, row.parting, row.seen) == ({}, None, None, None, {})
    assert digest(story.replayed()) == digest(story.state)


@pytest.mark.parametrize("action", ACTIONS)
def test_13_an_order_that_acted_does_not_act_again_though_all_of_it_was_removed(action: RedriveAction) -> None:
    """An order acts on an item once, however old; what it made has no name any more."""
    story = failed()
    given = ordered(story, action)
    assert isinstance(story.put(given), Redriven)
    story.stop()
    story.start()
    story.later(LONG)
    story.retain(failed=1, completed=1)
    assert (story.state.transactions, story.state.hits) == ({}, {})
    assert story.put(given) == Redriven(0, 0, already=True)
    assert digest(story.replayed()) == digest(story.state)


def test_6_8_an_outdated_request_goes_with_its_transaction() -> None:
    """It is over from the start, so nothing but its transaction keeps it."""
    story = completed()
    assert isinstance(told(story, 4), Ignored)
    story.later(LONG)
    story.retain(completed=1)
    assert (story.state.transactions, story.state.hits) == ({}, {})
    assert digest(story.replayed()) == digest(story.state)
