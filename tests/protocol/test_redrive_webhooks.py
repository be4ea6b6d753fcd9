"""Redrive (section 13) of what failed at a webhook's script, of parted lists, and of requests that were outdated."""

import pytest

from protocol.inputs import Redriven
from protocol.state import TransactionRow
from runtime.store.digest import digest
from tests.protocol.story import Story, cycle

RULES = "{on_error: stop_transaction, split: %s}"
HOOKED = """
  t: {webhook: shop, fields: {id: text, n: integer}, after_webhook: "w:f"}
  work: {post: remote, path: "/{{ t.n }}"}
"""
BACK = """
  t: {webhook: shop, fields: {id: text}}
  back: {webhook: shop, fields: {id: text, at: integer}, match: {id: t.id}, newer_than: at, after_webhook: "w:f"}
  work: {post: remote, path: "/{{ back.at }}"}
"""
PARTS = """
  t: {webhook: shop}
  work: {post: remote, path: "/{{ t.lines }}"}
"""


def latest(story: Story) -> TransactionRow:
    """The transaction that began last."""
    return story.state.transaction(max(story.state.transactions))


def resumed(story: Story, old: TransactionRow) -> TransactionRow:
    """What one that failed or was stopped becomes when it is resumed."""
    assert isinstance(story.redrive("resume", old.id), Redriven), story.decision.verdict
    assert digest(story.replayed()) == digest(story.state)
    return latest(story)


@pytest.mark.parametrize("how", ["failed", "stopped", "rejected"])
def test_13_what_ended_at_an_after_webhook_is_resumed_there_with_what_came(how: str) -> None:
    """Section 13: the failed step is the script, and it is asked again with the data of the request."""
    story = Story(cycle(HOOKED, rules=RULES % "none"))
    story.hit("t", {"id": "A", "n": 1})
    old = story.only()
    match how:
        case "failed":
            story.no_answer()
        case "rejected":
            story.script({"reject": "no"})
        case _:
            story.stop()
            story.start()
    new = resumed(story, old)
    assert (new.status, new.step, new.data["t"]) == ("running", "t", {"id": "A", "n": 1})
    assert story.calls()[-1].request.url == "w:f"
    story.script({"data": {"n": 7}}, transaction=new.id)
    assert story.calls()[-1].request.url == "/7"


def test_13_a_resumed_script_of_a_mid_cycle_webhook_keeps_what_was_reached_and_seen() -> None:
    """Sections 6.8 and 13: later requests find the new one, and an outdated one is still ignored."""
    story = Story(cycle(BACK, rules=RULES % "none"))
    story.hit("t", {"id": "A"})
    old = story.only()
    story.hit("back", {"id": "A", "at": 5})
    story.no_answer()
    new = resumed(story, old)
    assert type(story.hit("back", {"id": "A", "at": 4})).__name__ == "Ignored"
    assert story.state.hit(max(story.state.hits)).transaction == new.id
    story.script({}, transaction=new.id)
    assert story.calls()[-1].request.url == "/5"


@pytest.mark.parametrize("how", ["failed", "stopped"])
def test_13_requests_that_waited_behind_what_is_resumed_run_in_their_order(how: str) -> None:
    """Sections 6.8 and 13: the transaction had not run them, so none of them is older than what it has seen."""
    story = Story(cycle(BACK.replace(', after_webhook: "w:f"', ""), rules=RULES % "none"))
    story.hit("t", {"id": "A"})
    old = story.only()
    for at in (5, 6, None, 7):
        story.hit("back", {"id": "A", "at": at})
    if how == "failed":
        story.no_answer()
    else:
        story.stop()
        story.start()
    assert (old.seen, old.queue) == ({"back.at": "5"}, [])
    new = resumed(story, old)
    assert type(story.hit("back", {"id": "A", "at": 6})).__name__ == "Ignored"
    for _ in range(4):
        story.answer({}, transaction=new.id)
    assert [call.request.url for call in story.calls()] == ["/5", "/5", "/6", "/", "/7"]


def test_13_an_outdated_request_that_is_delivered_again_is_still_outdated() -> None:
    """Sections 6.8 and 13: it goes through routing as any other, and the receipt says where it went."""
    story = Story(cycle(BACK.replace(', after_webhook: "w:f"', ""), rules=RULES % "none"))
    story.hit("t", {"id": "A"})
    story.hit("back", {"id": "A", "at": 5})
    ignored = story.hit("back", {"id": "A", "at": 4})
    verdict = story.redrive("redeliver", ignored.hit)  # type: ignore[union-attr]  # It is Ignored.
    assert verdict == Redriven(max(story.state.hits), story.only().id)
    assert story.state.hit(max(story.state.hits)).status == "ignored"


def test_13_a_list_that_could_not_be_split_is_resumed_whole_or_split() -> None:
    """Section 13: with the original definition it fails again; with one that does not split, it goes on."""
    story = Story(cycle(PARTS, rules=RULES % "trigger"))
    story.hit("t", {"lines": [1], "more": []})
    old = story.only()
    assert (old.status, old.data["t"]) == ("failed", {"lines": [1], "more": []})
    assert resumed(story, old).status == "failed"
    story.deploy(cycle(PARTS, rules=RULES % "none"))
    story.redrive("resume", old.id, "o2", current=True, again=True)
    assert (latest(story).status, story.calls()[-1].request.url) == ("running", "/[1]")


def test_13_a_parted_list_that_was_stopped_goes_on_with_the_items_left() -> None:
    """Section 13: no item runs twice, none is left out."""
    story = Story(cycle(PARTS, rules=RULES % "trigger"))
    admitted = story.admit("t", {"lines": list(range(9))})
    story.put(admitted)  # type: ignore[arg-type]  # A hit, since anything is taken.
    cut = [type(event).__name__ for event in story.journal].index("TransactionSplit") + 2
    story.journal = story.journal[:cut]  # It crashed after the first item's call was intended.
    story.state = story.replayed()
    old = story.state.transaction(min(story.state.transactions))
    assert (old.status, old.split) == ("running", 1)
    story.stop()
    story.start()
    resumed(story, story.state.transaction(old.id))
    (new,) = [row for row in story.state.transactions.values() if row.lineage is not None]
    assert new.status == "completed"
    parts = [row.data["t"]["lines"] for row in story.state.transactions.values() if row.parent is not None]
    assert sorted(parts) == list(range(9))


def test_13_a_part_reruns_with_its_item() -> None:
    """Section 13: from after the step whose list it was an item of."""
    story = Story(cycle(PARTS, rules=RULES % "trigger"))
    story.hit("t", {"lines": [1, 2]})
    part = latest(story)
    story.answer(None, 500, transaction=part.id)
    assert isinstance(story.redrive("rerun", part.id), Redriven)
    new = latest(story)
    assert (new.data["t"], story.calls()[-1].request.url) == ({"lines": 2}, "/2")
