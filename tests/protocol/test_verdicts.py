"""What leaves because of a turn (sections 4.1, 5 and 8): verdicts as answers, timers, calls, and who is told what."""

from typing import Any

import msgspec
import pytest

from protocol.answers import PROBLEM
from protocol.inputs import Accepted, Duplicate, Hit, HoldDue, ParkDue, Parked, Receipt, Refused, Resumed
from protocol.outbox import (
    ArmTimer,
    PerformCall,
    RearmTimers,
    Report,
    SendReply,
    awaits_reply,
)
from protocol.state import transaction_name
from protocol.verdicts import EXPIRED, first_verdict, verdict_reply
from tests.protocol.story import Story

CYCLE = """
cycle: tells
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {while_stopped: collect}
steps:
  asked: {webhook: shop, fields: {job: integer}}
  work: {post: remote, path: /work, on_error: %s}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}}
    match: {job: asked.job}
    hold_for: 1 hour
    on_timeout: end
    park: 2 minutes
  answer: {respond: {status: 201, body: {job: "{{ back.job }}"}}}
"""
OTHER = """
cycle: tells
connectors: {shop: {}}
steps: {asked: {webhook: shop}, other: {respond: {}}}
"""
JSON = "application/json"


def url(hit: int) -> str:
    """The address at which a hit can be followed."""
    return f"/status/{hit}"


def begun(policy: str = "stop_transaction") -> Story:
    """A transaction whose call is open."""
    story = Story(CYCLE % policy)
    story.hit("asked", {"job": 42})
    return story


def told(story: Story, verdict: Any) -> tuple[int, Any, dict[str, str]]:
    """A verdict as an answer: its status, its body and its headers."""
    reply = verdict_reply(story.state, verdict, url)
    return reply.status, msgspec.json.decode(reply.body), reply.headers


def test_4_1_an_accepted_hit_is_answered_with_its_transaction_and_where_to_follow_it() -> None:
    """4.1: 202, and `Location`."""
    story = begun()
    row = story.only()
    body = {"status": "accepted", "transaction": f"tells-{row.id}", "hit": row.hit, "status_url": f"/status/{row.hit}"}
    assert told(story, Accepted(row.hit, row.id)) == (
        202,
        body,
        {"content-type": JSON, "location": f"/status/{row.hit}"},
    )


def test_4_1_a_matched_hit_is_answered_with_the_transaction_it_runs() -> None:
    """4.1 and 6.6: 202 `resumed`; with more than one match, `ambiguous` lists them."""
    story = begun()
    story.answer({})
    verdict = story.hit("back", {"job": 42})
    assert isinstance(verdict, Resumed)
    status, body, _ = told(story, verdict)
    assert (status, body["status"], body["transaction"]) == (202, "resumed", f"tells-{story.only().id}")
    assert "ambiguous" not in body
    second = story.hit("asked", {"job": 42})
    assert isinstance(second, Accepted)
    story.answer({}, transaction=second.transaction)
    _, body, _ = told(story, story.hit("back", {"job": 42}))
    named = sorted(story.state.transactions, reverse=True)
    assert body["ambiguous"] == [transaction_name("tells", one) for one in named]


def test_4_1_a_parked_hit_is_answered_with_how_long_it_waits() -> None:
    """4.1: 202 `parked`, until an instant in milliseconds."""
    story = begun()
    verdict = story.hit("back", {"job": 7})
    status, body, _ = told(story, verdict)
    assert (status, body["status"], body["until"]) == (202, "parked", (story.at + 120 * 10**9) // 10**6)


@pytest.mark.parametrize(("status", "again"), [(409, None), (404, None), (503, "1")])
def test_4_1_a_refusal_is_a_problem_and_says_when_to_come_again(status: int, again: str | None) -> None:
    """4.1: RFC 9457; only an overload passes by itself."""
    found, body, headers = told(begun(), Refused(status, "Title", "why"))
    assert (found, body["status"], body["title"], body["detail"]) == (status, status, "Title", "why")
    assert (headers["content-type"], headers.get("retry-after")) == (PROBLEM, again)


def test_11_an_order_is_answered_with_its_receipt() -> None:
    """Section 11: what was cut, kept and held."""
    status, body, _ = told(begun(), Receipt("stopped", cut=1, kept=2, held=3))
    assert status == 200
    assert {"status": "stopped", "cut": 1, "kept": 2, "held": 3}.items() <= body.items()


def test_4_a_repeat_is_told_what_the_first_delivery_was_told() -> None:
    """Section 4: accepted, resumed with its candidates, or parked, however far the run has come since."""
    story = Story(CYCLE % "stop_transaction")
    first: list[Any] = [
        story.hit("back", {"job": 42}, headers={"webhook-id": "parked"}),
        story.hit("asked", {"job": 42}, headers={"webhook-id": "accepted"}),
    ]
    story.answer({})
    second = story.hit("asked", {"job": 42})
    assert isinstance(second, Accepted)
    story.answer({}, transaction=second.transaction)
    first.append(story.hit("back", {"job": 42}, headers={"webhook-id": "resumed"}))
    assert [type(verdict) for verdict in first] == [Parked, Accepted, Resumed]
    assert len(first[2].candidates) == 2
    story.restart()
    assert [first_verdict(story.state.hit(verdict.hit)) for verdict in first] == first


def test_4_a_repeat_of_a_hit_that_lost_its_place_for_ever_is_told_so_as_the_first_was() -> None:
    """Section 4: the transaction it was to run failed, and the step it came to is gone from the cycle."""
    story = Story((CYCLE % "stop_transaction").replace("  answer:", SLOW))
    story.hit("asked", {"job": 42})
    story.answer({})
    story.hit("back", {"job": 42})
    verdict = story.hit("back", {"job": 42})
    assert isinstance(verdict, Resumed)
    story.deploy(OTHER)
    story.answer(None, 500)
    hit = story.state.hit(verdict.hit)
    assert (hit.status, story.incidents()) == ("expired", ["remote_error", "hit_expired"])
    assert first_verdict(hit) == EXPIRED


@pytest.mark.parametrize("wants", [True, False])
def test_5_only_the_caller_of_a_synchronous_pass_waits_for_a_reply(*, wants: bool) -> None:
    """Section 5: a parked, refused or repeated one has its answer at once; so has one who prefers not to wait."""
    story = begun()
    story.answer({})
    more = {} if wants else {"headers": {"prefer": "respond-async"}}
    verdict = story.hit("back", {"job": 42}, **more)
    assert isinstance(verdict, Resumed)
    assert awaits_reply(story.state, verdict) == (verdict.hit if wants else 0)
    others: list[Any] = [Parked(verdict.hit, 1), Duplicate(verdict.hit), Refused(409, "", ""), Receipt("running"), None]
    assert [awaits_reply(story.state, other) for other in others] == [0] * 5


def test_a_turn_sends_its_call_and_arms_its_timers() -> None:
    """Sections 6.5, 6.7, 7 and 10: calls leave, and holds, delays and parked hits come back as inputs."""
    story = begun("{retry: [1 minute]}")
    (call,) = story.calls()
    assert story.effects == [PerformCall(call, 1)]
    row = story.only()
    story.answer(None, 500)
    warned, wait = story.effects
    assert isinstance(warned, Report)
    assert (warned.incident.kind, warned.incident.level) == ("remote_error", "warning")
    assert wait == ArmTimer(HoldDue("tells", story.at + 60 * 10**9, row.id))
    story.later(60)
    assert story.effects == [PerformCall(story.calls()[-1], 1)]
    parked = story.hit("back", {"job": 7})
    assert isinstance(parked, Parked)
    assert story.effects == [ArmTimer(ParkDue("tells", parked.until, parked.hit))]
    story.answer({})
    assert story.effects == [ArmTimer(HoldDue("tells", row.until, row.id))]
    story.stop()
    assert story.effects == []
    story.start()
    assert story.effects == [RearmTimers("tells")]


def test_6_7_a_hold_without_end_arms_no_timer() -> None:
    """6.7: `hold_for` is not said."""
    story = Story((CYCLE % "ignore").replace("hold_for: 1 hour", "pick: latest").replace("on_timeout: end", ""))
    story.hit("asked", {"job": 42})
    story.answer({})
    assert (story.status(), story.effects) == (["held"], [])


SLOW = "  slow: {post: remote, path: /slow, on_error: stop_transaction}\n  answer:"


def waiting() -> tuple[Story, int]:
    """A synchronous caller whose callback is queued behind a pass."""
    story = Story((CYCLE % "ignore").replace("  answer:", SLOW))
    story.hit("asked", {"job": 42})
    story.answer({})
    story.hit("back", {"job": 42})
    verdict = story.hit("back", {"job": 42})
    assert isinstance(verdict, Resumed)
    assert awaits_reply(story.state, verdict) == verdict.hit
    return story, verdict.hit


def test_5_a_built_answer_is_given_to_the_caller_of_its_pass() -> None:
    """5.3: the one whose pass ended now; the pass of the other begins in the same turn."""
    story, hit = waiting()
    story.answer({})
    (reply,) = [one for one in story.effects if isinstance(one, SendReply)]
    assert reply.hit < hit
    assert (reply.reply.status, reply.reply.body) == (201, b'{"job":42}')
    story.answer({})
    (reply,) = [one for one in story.effects if isinstance(one, SendReply)]
    assert reply.hit == hit


def test_5_a_caller_whose_request_moves_to_another_transaction_goes_on_waiting() -> None:
    """5.3 and 6.3: nobody told him anything but that it runs; he has the answer of the pass that ran it."""
    story = Story((CYCLE % "ignore").replace("  answer:", SLOW))
    rows = []
    for _ in range(2):
        begun_now = story.hit("asked", {"job": 42})
        assert isinstance(begun_now, Accepted)
        story.answer({}, transaction=begun_now.transaction)
        rows.append(story.state.transaction(begun_now.transaction))
    story.hit("back", {"job": 42})
    verdict = story.hit("back", {"job": 42})
    assert isinstance(verdict, Resumed)
    hit = story.state.hit(verdict.hit)
    story.answer(None, 500, transaction=rows[1].id)
    assert (hit.transaction, hit.status, hit.fate, hit.parked) == (rows[0].id, "running", "waiting", False)
    assert [one.hit for one in story.effects if isinstance(one, SendReply)] == [rows[1].hit]
    story.answer({}, transaction=rows[0].id)
    assert [(one.hit, one.reply.status) for one in story.effects if isinstance(one, SendReply)] == [(hit.id, 201)]


def test_5_a_caller_whose_queued_request_is_kept_by_a_stop_is_told_so() -> None:
    """Sections 5 and 11: 202 parked, since its pass will begin after a start; nobody waits in vain."""
    story, hit = waiting()
    story.stop()
    cut, timer, kept = story.effects
    assert isinstance(cut, SendReply)
    assert cut.reply.status == 409
    assert isinstance(timer, ArmTimer)
    assert isinstance(kept, SendReply)
    body = msgspec.json.decode(kept.reply.body)
    assert (kept.hit, kept.reply.status, body["status"]) == (hit, 202, "parked")
    assert (story.state.hit(hit).fate, story.state.hit(hit).transaction) == ("none", 0)


def test_5_a_caller_whose_request_finds_no_place_any_more_is_told_so() -> None:
    """Sections 5 and 6.5: 410, when its transaction failed and the step it came to is gone from the cycle."""
    story, hit = waiting()
    first = story.only().hit
    story.deploy(OTHER)
    story.answer(None, 500)
    sent = [(one.hit, one.reply.status) for one in story.effects if isinstance(one, SendReply)]
    assert sent == [(first, 500), (hit, 410)]
    assert story.state.hit(hit).fate == "none"
    assert [one.incident.kind for one in story.effects if isinstance(one, Report)] == ["remote_error", "hit_expired"]


def test_11_a_request_that_a_deploy_overtook_is_refused_when_its_step_is_gone() -> None:
    """Section 11: it was read by the version before, and decided under the one that has no such step."""
    story = Story((CYCLE % "stop_transaction").replace("  answer:", SLOW))
    admitted = story.admit("back", {"job": 42})
    assert isinstance(admitted, Hit)
    story.deploy(OTHER)
    verdict = story.put(admitted)
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.title, story.names()) == (404, "No such webhook", [])
