"""Linked cycles: handed over exactly once, parent and child recorded, bounded in depth (section 8)."""

from typing import Any

import msgspec
import pytest

from protocol.events import CallIntended, Origin, TransactionStarted
from protocol.inputs import Accepted, CallAnswer, CallEnded, Duplicate, Hit, Parked, Refused
from protocol.outbox import AnswerLink, PerformCall
from tests.protocol.story import Story, cycle

PARENT = cycle(
    "  t: {webhook: shop}\n  hand: {post: remote, url: 'cycle:child/t', body: {id: '{{ t.id }}'}}\n", name="parent"
)
CHILD = cycle(
    "  t: {webhook: shop}\n  call: {post: remote, path: /x}\n  r: {respond: {body: {done: true}}}\n", name="child"
)


def linked(child: str = CHILD, *, depth: int = 0) -> tuple[Story, CallIntended, Hit]:
    """A parent that has handed over, its call, and the hit that the hand-over makes."""
    story = Story(PARENT, child)
    story.hit("t", {"id": 7}, depth=depth)
    (performed,) = (effect for effect in story.all_effects if isinstance(effect, PerformCall))
    call = performed.call
    assert call.link == ("child", "t")
    hit = story.admit(
        "t",
        call.request.body,
        cycle="child",
        delivery=call.idempotency_key,
        depth=story.state.transaction(call.transaction).depth + 1,
        origin=Origin("parent", call.transaction, call.step, performed.number),
    )
    assert isinstance(hit, Hit)
    return story, call, hit


def test_8_parent_and_child_are_recorded_in_both() -> None:
    """Section 8: the child names the step that began it, the parent the child, once it is answered."""
    story, call, hit = linked()
    verdict = story.put(hit)
    assert isinstance(verdict, Accepted)
    child = story.state.transaction(verdict.transaction)
    assert child.parent == Origin("parent", call.transaction, "hand", 1)
    assert (child.depth, child.data["t"]) == (1, {"id": 7})
    started = [event for event in story.journal if isinstance(event, TransactionStarted)]
    assert [event.parent for event in started] == [None, child.parent]
    story.answer({}, transaction=child.id)
    (answer,) = (effect for effect in story.all_effects if isinstance(effect, AnswerLink))
    story.put(answer.ended)
    parent = story.state.transaction(call.transaction)
    assert parent.children == [f"child-{child.id}"]
    assert (parent.status, parent.data["hand"]["body"]) == ("completed", {"done": True})


def test_8_a_hand_over_that_is_repeated_is_the_same_hit_for_ever() -> None:
    """Section 8: exactly once, also a year later; a key of a caller is forgotten after its window."""
    story, _, hit = linked()
    first = story.put(hit)
    assert isinstance(first, Accepted)
    again = msgspec.structs.replace(hit, at=hit.at + 365 * 86_400 * 10**9)
    assert story.put(again) == Duplicate(first.hit)


def test_8_an_answer_that_comes_twice_counts_once() -> None:
    """Section 8: the link repeats after a crash, and the second answer changes nothing."""
    story, call, _ = linked()
    answer = CallEnded("parent", story.at, call.transaction, "hand", 1, 0, CallAnswer(200, {}, b"", 99, "child"))
    story.put(answer)
    recorded = len(story.journal)
    story.put(answer)
    assert len(story.journal) == recorded
    assert story.state.transaction(call.transaction).children == ["child-99"]


def test_8_the_step_of_a_link_is_answered_when_the_child_fails() -> None:
    """Section 8: same answers as over HTTP, so a failed child is a remote error of its parent."""
    stops = CHILD.replace("settings: {}", "settings: {on_error: stop_transaction}")
    story, call, hit = linked(stops)
    verdict = story.put(hit)
    assert isinstance(verdict, Accepted)
    story.answer(None, 500, transaction=verdict.transaction)
    (answer,) = (effect for effect in story.all_effects if isinstance(effect, AnswerLink))
    story.put(answer.ended)
    assert story.incidents() == ["remote_error", "remote_error"]
    assert story.state.transaction(call.transaction).data["hand"]["status"] == 500


@pytest.mark.parametrize("own", ["refuse", "collect"])
def test_8_a_hit_for_a_stopped_target_is_collected(own: str) -> None:
    """Section 8: whatever `while_stopped` says; it runs when the target starts."""
    story, _, hit = linked(CHILD.replace("settings: {}", f"settings: {{while_stopped: {own}}}"))
    story.cycle = "child"
    story.stop()
    parked = story.put(hit)
    assert isinstance(parked, Parked)
    assert parked.until == story.at + 86_400 * 10**9
    story.start()
    assert story.state.hit(parked.hit).status == "running"
    caller = msgspec.structs.replace(hit, origin=None, delivery="")
    story.stop()
    assert isinstance(story.put(caller), Refused if own == "refuse" else Parked)


@pytest.mark.parametrize(("depth", "goes"), [(15, True), (16, False), (17, False)])
def test_8_a_chain_that_is_too_deep_is_a_loop(depth: int, goes: bool) -> None:
    """Section 8: more than `max_depth`, 16, is 508 and one incident."""
    story = Story(PARENT, CHILD)
    story.hit("t", {"id": 7}, depth=depth)
    assert len(story.calls()) == goes
    assert story.incidents() == ([] if goes else ["loop_detected"])
    assert all("508" in incident.message for incident in story.state.incidents.values())


def test_8_max_depth_is_a_setting_and_bounds_links_alone() -> None:
    """Section 8: a call over the network carries its depth, and whoever it comes back to counts."""
    story = Story(PARENT.replace("settings: {}", "settings: {max_depth: 1}"), CHILD)
    story.hit("t", {"id": 7}, depth=1)
    assert story.incidents() == ["loop_detected"]
    outward = Story(cycle("  t: {webhook: shop}\n  call: {post: remote, path: /x}\n", rules="{max_depth: 1}"))
    outward.hit("t", {}, depth=1)
    (performed,) = (effect for effect in outward.effects if isinstance(effect, PerformCall))
    assert outward.state.transaction(performed.call.transaction).depth == 1


@pytest.mark.parametrize("body", [{"id": 7}, {"id": "8"}])
def test_8_a_link_meets_the_checks_of_its_target(body: Any) -> None:
    """Section 8: same checks as over HTTP; the digest of a repeat is compared as any caller's."""
    story, _, hit = linked()
    story.put(hit)
    other = story.admit("t", body, cycle="child", delivery=hit.delivery, origin=hit.origin)
    assert isinstance(other, Hit)
    verdict = story.put(other)
    assert isinstance(verdict, Duplicate if body == {"id": 7} else Refused)


def test_8_a_link_waits_as_long_as_its_target_takes() -> None:
    """Section 8: nobody hangs up on a link, so its target's next attempt never lies beyond a deadline (5.5).

    Told 502 instead, the step would be told so again by each of its own attempts, which name the same delivery.
    """
    story, call, hit = linked(CHILD.replace("settings: {}", "settings: {on_error: {retry: [5 minutes]}}"))
    verdict = story.put(hit)
    assert isinstance(verdict, Accepted)
    story.answer({}, status=500, transaction=verdict.transaction)
    assert not [effect for effect in story.all_effects if isinstance(effect, AnswerLink)]
    story.later(300)
    story.answer({}, transaction=verdict.transaction)
    (answer,) = (effect for effect in story.all_effects if isinstance(effect, AnswerLink))
    story.put(answer.ended)
    assert story.state.transaction(call.transaction).data["hand"]["body"] == {"done": True}
