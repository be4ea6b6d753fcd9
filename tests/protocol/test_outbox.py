"""What leaves the process because of a turn, and what callers are told at once (section 4.1)."""

from typing import Any

import msgspec
import pytest

from protocol.events import Origin
from protocol.inputs import Accepted, Duplicate, Hit, HoldDue, ParkDue, Parked, Refused, Resumed, Verdict
from protocol.outbox import AnswerLink, ArmTimer, PerformCall, RearmTimers, Report, SendReply, awaits_reply
from protocol.verdicts import first_verdict, verdict_reply
from tests.protocol.story import SECOND, Story, cycle, status_url

HOLDING = (
    "  t: {webhook: shop}\n"
    "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}, hold_for: 1 hour, park: 2 minutes}\n"
)


def effects(story: Story, kind: type[Any]) -> list[Any]:
    return [effect for effect in story.all_effects if isinstance(effect, kind)]


def told(story: Story, verdict: Verdict) -> tuple[int, Any, dict[str, str]]:
    reply = verdict_reply(story.state, verdict, status_url)
    return reply.status, msgspec.json.decode(reply.body), reply.headers


def test_a_call_leaves_with_its_pass_and_finds_its_depth_in_its_row() -> None:
    """Section 7: the chain header carries the depth, the outcome names the pass."""
    story = Story(cycle("  t: {webhook: shop}\n  call: {post: remote, path: /x}\n"))
    story.hit("t", {}, depth=3)
    (effect,) = effects(story, PerformCall)
    assert (effect.call, effect.number) == (story.calls()[0], 1)
    assert story.state.transaction(effect.call.transaction).depth == 3


def test_6_7_a_hold_with_an_end_and_a_parked_hit_arm_their_timers() -> None:
    """6.5 and 6.7: due at the journaled instants; a hold without an end arms none."""
    story = Story(cycle(HOLDING))
    story.hit("t", {"id": "a"})
    story.hit("w", {"id": "b"})
    parked = max(story.state.hits)
    assert [effect.due for effect in effects(story, ArmTimer)] == [
        HoldDue("c", story.at + 3600 * SECOND, story.only().id),
        ParkDue("c", story.at + 120 * SECOND, parked),
    ]
    endless = Story(cycle(HOLDING.replace(", hold_for: 1 hour", "")))
    endless.hit("t", {"id": "a"})
    assert effects(endless, ArmTimer) == []


def test_11_a_start_looks_at_the_timers_again_and_incidents_are_reported() -> None:
    """Sections 10 and 11."""
    story = Story(cycle(HOLDING))
    assert effects(story, RearmTimers) == [RearmTimers("c")]
    story.hit("t", {})
    assert [effect.incident.kind for effect in effects(story, Report)] == story.incidents() == ["required_source_empty"]


ANSWERING = cycle("  t: {webhook: shop}\n  call: {post: remote, path: /x}\n  r: {respond: {body: 1}}\n")
ORIGIN = Origin("parent", 5, "hand", 2)


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_8_an_answer_goes_to_the_caller_and_to_the_step_that_linked(origin: Origin | None) -> None:
    """Section 8: the step of the parent hears status, body and child."""
    story = Story(ANSWERING)
    verdict = story.hit("t", {}, origin=origin)
    assert isinstance(verdict, Accepted)
    story.answer()
    assert [effect.reply.status for effect in effects(story, SendReply)] == [200]
    ends = [effect.ended for effect in effects(story, AnswerLink)]
    assert [(end.cycle, end.transaction, end.step, end.number, end.attempt) for end in ends] == (
        [("parent", 5, "hand", 2, 0)] if origin else []
    )
    assert [(end.outcome.body, end.outcome.child, end.outcome.child_cycle) for end in ends] == (
        [(b"1", verdict.transaction, "c")] if origin else []
    )


def test_4_1_accepted() -> None:
    """4.1: 202 with the transaction, the hit and where to follow them."""
    story = Story(cycle(HOLDING))
    verdict = story.hit("t", {"id": "a"})
    assert isinstance(verdict, Accepted)
    url = f"/status/{verdict.hit}"
    body = {"status": "accepted", "transaction": f"c-{verdict.transaction}", "hit": verdict.hit, "status_url": url}
    assert told(story, verdict) == (202, body, {"content-type": "application/json", "location": url})


def test_4_1_resumed_and_ambiguous() -> None:
    """4.1 and 6.6: the candidates are listed only when there were several."""
    story = Story(cycle(HOLDING))
    story.hit("t", {"id": "a"})
    verdict = story.hit("w", {"id": "a"})
    assert isinstance(verdict, Resumed)
    _, body, _ = told(story, verdict)
    assert (body["status"], body["transaction"], "ambiguous" in body) == ("resumed", f"c-{story.only().id}", False)
    second = story.hit("t", {"id": "a"})
    assert isinstance(second, Accepted)
    _, body, _ = told(story, story.hit("w", {"id": "a"}))
    assert body["ambiguous"] == [f"c-{second.transaction}", f"c-{verdict.transaction}"]


def test_4_1_parked() -> None:
    """4.1: 202 with the end of parking, in milliseconds."""
    story = Story(cycle(HOLDING))
    status, body, _ = told(story, story.hit("w", {"id": "a"}))
    assert (status, body["status"], body["until"]) == (202, "parked", (story.at + 120 * SECOND) // 1_000_000)


@pytest.mark.parametrize(("status", "headers"), [(404, {}), (409, {}), (503, {"retry-after": "1"})])
def test_4_1_refused(status: int, headers: dict[str, str]) -> None:
    """4.1: a problem (RFC 9457); an overload says when to come again."""
    story = Story(cycle(HOLDING))
    code, body, sent = told(story, Refused(status, "Title", "why"))
    assert (code, body["status"], body["title"], body["detail"]) == (status, status, "Title", "why")
    assert sent == {"content-type": "application/problem+json", **headers}


@pytest.mark.parametrize("step", ["t", "w", "parked"])
def test_4_a_repeat_is_told_what_the_first_delivery_was(step: str) -> None:
    """Section 4: accepted, resumed or parked, whatever has become of the hit since."""
    story = Story(cycle(HOLDING))
    headers = {"webhook-id": "k"}
    if step != "parked":
        story.hit("t", {"id": "a"}, headers=headers if step == "t" else {})
    first = story.hit("t" if step == "t" else "w", {"id": "a"}, headers=headers)
    if step == "t":
        (first,) = [Accepted(hit.id, hit.transaction) for hit in story.state.hits.values()]
    assert isinstance(first, Accepted | Resumed | Parked)
    story.later(3600)
    again = story.hit("t" if step == "t" else "w", {"id": "a"}, headers=headers)
    assert again == Duplicate(first.hit)
    assert first_verdict(story.state.hit(first.hit)) == first


def test_4_1_only_an_accepted_hit_that_wants_a_reply_is_waited_for() -> None:
    """Section 5: everything else is the answer itself."""
    story = Story(ANSWERING)
    verdict = story.hit("t", {})
    assert isinstance(verdict, Accepted)
    assert awaits_reply(story.state, verdict) == verdict.hit
    hurried = story.hit("t", {}, headers={"prefer": "respond-async"})
    others: list[Verdict] = [hurried, Refused(409, "t", "d"), Parked(verdict.hit, 1), Duplicate(verdict.hit), None]
    assert [awaits_reply(story.state, one) for one in others] == [0] * len(others)


STEP_GONE = (
    "  t: {webhook: shop, fields: {id: text}}\n"
    "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n"
    "  call: {post: remote, path: /x}\n  r: {respond: {}}\n"
)


def test_4_1_a_hit_whose_step_is_gone_expires_and_its_caller_is_told() -> None:
    """Section 11: 410 and an incident; a repeat of it is told so too."""
    story = Story(cycle(STEP_GONE, rules="{on_error: stop_transaction}"))
    story.hit("t", {"id": "a"})
    story.hit("w", {"id": "a"})
    waiting = story.admit("w", {"id": "a"}, headers={"webhook-id": "k"})
    assert isinstance(waiting, Hit)
    queued = story.put(waiting)
    assert isinstance(queued, Resumed)
    story.deploy(cycle(STEP_GONE.replace("  w:", "  v:")))
    story.answer(None, 500)
    assert story.state.hit(queued.hit).status == "expired"
    assert [reply.status for reply in story.answers(queued.hit)] == [410]
    assert story.incidents() == ["remote_error", "hit_expired"]
    verdict = first_verdict(story.state.hit(queued.hit))
    assert verdict_reply(story.state, verdict, status_url).status == 410
