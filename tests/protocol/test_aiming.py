"""Parked hits aimed by hand (section 6.5): at a transaction that their own values do not find."""

from protocol.inputs import Aim, Parked, Refused, Resumed, Verdict
from tests.protocol.story import Story, cycle
from tests.runtime.whatifs import tried

STEPS = """
  t: {webhook: shop, fields: {id: {type: text, required: true}}}
  back: {webhook: shop, fields: {id: text, n: integer}, match: {id: t.id}}
  more: {decide: "back.n > 1"}
"""


def strayed() -> tuple[Story, int, int]:
    """A transaction that holds for `a`, and a request that says `A` and is parked: the transaction, and the hit."""
    story = Story(cycle(STEPS), cycle(STEPS, name="other"))
    story.hit("t", {"id": "a"})
    parked = story.hit("back", {"id": "A", "n": 1})
    assert isinstance(parked, Parked)
    return story, story.only().id, parked.hit


def aim(story: Story, hit: int, transaction: int, of: str = "c") -> Verdict:
    """A person says where a hit belongs."""
    return story.put(Aim(of, story.at, hit, transaction))


def test_6_5_given_a_parked_hit_when_aimed_then_it_runs_the_transaction_from_its_step() -> None:
    """6.5: as if it had matched; it is parked no more and does not expire."""
    story, transaction, hit = strayed()
    assert aim(story, hit, transaction) == Resumed(hit, transaction)
    assert story.only().data["back"] == {"id": "A", "n": 1}
    assert (story.only().number, story.state.cycle("c").parked) == (2, 0)
    story.later(700)
    assert story.incidents() == []
    refused = aim(story, hit, transaction)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.title) == (409, "Not parked")


def test_6_5_given_a_journal_with_an_aimed_hit_when_tried_again_then_nothing_differs() -> None:
    """Section 14: who aimed it is part of what happened."""
    story, transaction, hit = strayed()
    aim(story, hit, transaction)
    again = tried(story)
    assert again.outcome.is_same, again.changed


def test_6_5_given_an_aim_that_misses_when_decided_then_nothing_is_recorded() -> None:
    """6.5: what is not there, is of another cycle, does not run or never came to the step is refused by name."""
    story, transaction, hit = strayed()
    recorded = len(story.journal)
    told = [aim(story, hit, 9999), aim(story, 9999, transaction), aim(story, hit, transaction, "other")]
    assert [one.status for one in told if isinstance(one, Refused)] == [404, 404, 409]
    assert len(story.journal) == recorded
    story.stop()
    stopped = aim(story, hit, transaction)
    assert isinstance(stopped, Refused)
    assert stopped.title == "Cycle is not running"
