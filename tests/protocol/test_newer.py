"""Requests that come out of order (section 6.8): an older one is recorded, answered `ignored`, and does not run."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import canonical, is_older
from protocol.check import check_project
from protocol.events import Origin
from protocol.inputs import Accepted, CallAnswer, Ignored, Parked, Resumed
from protocol.loading import Source
from protocol.outbox import AnswerLink
from protocol.state import Reply
from protocol.verdicts import first_verdict
from runtime.event_view import event_view
from runtime.masking import MASK, hidden_of
from runtime.store.digest import digest
from runtime.views import transaction_view
from tests.protocol.story import Story, cycle

STEPS = """
  t: {{webhook: shop, fields: {{id: text}}}}
  changed:
    webhook: shop
    fields: {{id: text, at: {{type: {kind}}}, n: integer}}
    match: {{id: t.id}}
    newer_than: at
    {more}
  {step}
"""


def following(
    *, kind: str = "integer", step: str = "work: {post: remote, path: /x}", more: str = "", rules: str = "{}"
) -> Story:
    """A cycle whose mid-cycle webhook takes nothing that is older than what came last, with one transaction held."""
    story = Story(cycle(STEPS.format(kind=kind, step=step, more=more), rules=rules))
    story.hit("t", {"id": "A"})
    return story


def told(story: Story, at: Any, *, n: int = 0, **more: Any) -> Any:
    """What a request of that value is told."""
    return story.hit("changed", {"id": "A", "at": at, "n": n}, **more)


def running() -> Story:
    story = following()
    told(story, 5)
    return story


def held() -> Story:
    story = following(step="again: {webhook: shop, fields: {id: text}, match: {id: t.id}}")
    told(story, 5)
    return story


def completed() -> Story:
    story = running()
    story.answer({})
    return story


def queued() -> Story:
    story = running()
    told(story, 4 + 2)
    told(story, 5 + 1)
    return story


def failed() -> Story:
    story = following(rules="{on_error: stop_transaction}")
    told(story, 5)
    story.answer({}, 500)
    return story


def halted() -> Story:
    story = completed()
    story.stop()
    return story


GIVEN: dict[str, Callable[[], Story]] = {
    "fresh": following,
    "running": running,
    "held": held,
    "completed": completed,
    "queued": queued,
    "failed": failed,
    "halted": halted,
}
TABLE = """
fresh     older   Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
fresh     equal   Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
fresh     newer   Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
fresh     none    Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
running   older   Ignored  HitAccepted HitIgnored
running   equal   Resumed  HitAccepted HitMatched
running   newer   Resumed  HitAccepted HitMatched
running   none    Resumed  HitAccepted HitMatched
held      older   Ignored  HitAccepted HitIgnored
held      equal   Resumed  HitAccepted HitMatched PassStarted StepCompleted TransactionHeld
held      newer   Resumed  HitAccepted HitMatched PassStarted StepCompleted TransactionHeld
held      none    Resumed  HitAccepted HitMatched PassStarted StepCompleted TransactionHeld
completed older   Ignored  HitAccepted HitIgnored
completed equal   Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
completed newer   Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
completed none    Resumed  HitAccepted HitMatched PassStarted StepCompleted CallIntended
queued    older   Ignored  HitAccepted HitIgnored
queued    equal   Ignored  HitAccepted HitIgnored
queued    newer   Resumed  HitAccepted HitMatched
queued    none    Resumed  HitAccepted HitMatched
failed    older   Parked   HitAccepted HitParked
failed    equal   Parked   HitAccepted HitParked
failed    newer   Parked   HitAccepted HitParked
failed    none    Parked   HitAccepted HitParked
halted    older   Refused
halted    equal   Refused
halted    newer   Refused
halted    none    Refused
"""
VALUES = {"older": 4, "equal": 5, "newer": 6, "none": None}


@pytest.mark.parametrize("line", TABLE.strip().splitlines(), ids=lambda line: "-".join(line.split()[:2]))
def test_6_8_each_request_in_each_state_is_told_and_recorded_as_the_table_says(line: str) -> None:
    """6.8: compared with the last one given to the transaction, run or not; the replay agrees."""
    state, value, verdict, *events = line.split()
    story = GIVEN[state]()
    assert (type(told(story, VALUES[value])).__name__, story.names()) == (verdict, events)
    assert digest(story.replayed()) == digest(story.state)


def test_6_8_the_table_is_whole() -> None:
    """A new state has to say what it means for each order."""
    assert [tuple(line.split()[:2]) for line in TABLE.strip().splitlines()] == [
        (state, value) for state in GIVEN for value in VALUES
    ]


@pytest.mark.parametrize(
    ("kind", "first", "older", "newer"),
    [
        ("integer", 10, "9", "11"),
        ("decimal", "10.50", "9.75", "10.500001"),
        ("float", 1e3, 999.5, 1000.5),
        ("datetime", "2026-01-01T12:00:00+01:00", "2026-01-01T10:59:59Z", "2026-01-01T11:00:01Z"),
        ("text", "b", "a", "c"),
    ],
)
def test_6_8_values_are_compared_by_their_declared_type(kind: str, first: Any, older: Any, newer: Any) -> None:
    """6.8: numbers as numbers, instants whatever their offset, text by its characters."""
    story = following(kind=kind)
    assert isinstance(told(story, first, n=1), Resumed)
    assert isinstance(told(story, older, n=2), Ignored)
    assert isinstance(told(story, first, n=3), Resumed)
    assert isinstance(told(story, newer, n=4), Resumed)
    for _ in range(3):
        story.answer({})
    assert story.only().data["changed"]["n"] == 4


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-99, max_value=99), max_size=9))
def test_6_8_of_canonical_numbers_the_lower_one_is_older(numbers: list[Any]) -> None:
    """6.8: the order of canonical texts is that of the values."""
    texts = [canonical(str(one), "decimal") or "" for one in numbers]
    for one, left in zip(numbers, texts, strict=True):
        assert [is_older(left, right, "decimal") for right in texts] == [one < other for other in numbers]


def test_6_8_a_request_without_a_value_runs_and_leaves_what_was_seen() -> None:
    """6.8: it is neither older nor newer."""
    story = running()
    assert isinstance(told(story, None), Resumed)
    assert isinstance(told(story, 4), Ignored)
    assert story.only().seen == {"changed.at": "5"}


def test_6_8_transactions_do_not_look_at_each_other() -> None:
    """6.8: the last one seen for that transaction."""
    story = running()
    assert isinstance(story.hit("t", {"id": "B"}), Accepted)
    assert isinstance(story.hit("changed", {"id": "B", "at": 1}), Resumed)


def test_6_8_values_of_another_field_are_not_compared() -> None:
    """6.8 and 11: a version that orders requests by another field has not seen one yet."""
    story = running()
    story.answer({})
    text = STEPS.format(kind="integer", step="work: {post: remote, path: /x}", more="")
    story.deploy(cycle(text.replace("newer_than: at", "newer_than: n")))
    assert isinstance(told(story, 9, n=3), Resumed)
    story.answer({})
    assert isinstance(told(story, 9, n=2), Ignored)
    assert story.only().seen == {"changed.at": "5", "changed.n": "3"}


def test_6_8_a_synchronous_caller_is_told_at_once_and_a_repeat_is_told_the_same() -> None:
    """6.8, 4 and 5: 202 `ignored`; nobody waits for an answer that no pass will give."""
    story = following(step='answer: {respond: {body: "{{ changed.n }}"}}')
    first = story.ask("changed", {"id": "A", "at": 5, "n": 1})
    assert (first.status, first.body) == (200, b"1") if first else False
    headers = {"idempotency-key": "k1"}
    reply = story.ask("changed", {"id": "A", "at": 4, "n": 2}, headers=headers)
    assert reply is not None
    said = msgspec.json.decode(reply.body)
    hit = max(story.state.hits)
    assert (reply.status, said["status"], said["hit"], said["transaction"]) == (202, "ignored", hit, "c-3")
    story.restart()
    row = story.state.hit(hit)
    assert (row.status, row.fate, row.body) == ("ignored", "none", b"")
    assert first_verdict(row) == Ignored(hit, 3)
    assert type(story.hit("changed", {"id": "A", "at": 4, "n": 2}, headers=headers)).__name__ == "Duplicate"
    assert len(story.replies()) == 1


def test_6_8_an_ignored_request_does_not_wait_in_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.8: what does not run takes no place."""
    monkeypatch.setattr("protocol.routing.QUEUE_MAX", 1)
    story = running()
    assert isinstance(told(story, 7), Resumed)
    assert isinstance(told(story, 6), Ignored)
    assert getattr(told(story, 8), "status", 0) == 503


def test_6_8_requests_that_were_parked_are_compared_when_the_hold_is_reached() -> None:
    """6.5 and 6.8: in order of arrival; who was told `parked` is told so again."""
    story = Story(cycle(STEPS.format(kind="integer", step="work: {post: remote, path: /x}", more="")))
    hits = [told(story, at) for at in (5, 4, 6)]
    assert all(isinstance(one, Parked) for one in hits)
    story.hit("t", {"id": "A"})
    assert [story.state.hit(one.hit).status for one in hits] == ["running", "ignored", "queued"]
    assert first_verdict(story.state.hit(hits[1].hit)) == hits[1]
    assert story.state.cycle("c").parked == 0
    assert digest(story.replayed()) == digest(story.state)


def test_6_8_requests_that_wait_for_a_hold_that_their_transaction_left_run_when_it_is_there_again() -> None:
    """6.8: they went back to the parking place, so it has not seen them, and none of them outdates another."""
    story = Story(
        cycle(
            """
  t: {webhook: shop, fields: {id: text}}
  turn: {webhook: shop, fields: {id: text, go: boolean}, match: {id: t.id}}
  goes: {decide: {left: turn.go, is: equals, right: true}, else: end}
  changed: {webhook: shop, fields: {id: text, at: integer}, match: {id: t.id}, newer_than: at}
  work: {post: remote, path: "/{{ changed.at }}"}
"""
        )
    )
    story.hit("t", {"id": "A"})
    story.hit("turn", {"id": "A", "go": True})
    told(story, 5)
    story.hit("turn", {"id": "A", "go": False})
    told(story, 6)
    told(story, 7)
    story.answer({})
    assert (story.only().status, story.only().seen, story.only().queue) == ("completed", {"changed.at": "5"}, [])
    story.hit("turn", {"id": "A", "go": True})
    story.answer({})
    assert [call.request.url for call in story.calls()] == ["/5", "/6", "/7"]
    assert isinstance(told(story, 6), Ignored)
    assert digest(story.replayed()) == digest(story.state)


def test_6_8_whoever_waits_is_told_when_his_request_turns_out_to_be_outdated_elsewhere() -> None:
    """4.1 and 6.8: the transaction it waited behind has failed, and the one before that has seen a newer one."""
    story = following(
        step='work: {post: remote, path: /x}\n  answer: {respond: {body: "{{ changed.n }}"}}',
        rules="{on_error: stop_transaction}",
    )
    first = told(story, 5).transaction
    story.answer({})
    story.hit("t", {"id": "A"})
    second = told(story, 3).transaction
    waits = told(story, 4, origin=Origin("parent", 77, "child", 1))
    assert (waits.transaction, story.answers(waits.hit)) == (second, [])
    story.answer({}, 500, transaction=second)
    assert "HitIgnored" in story.names()
    (reply,) = story.answers(waits.hit)
    assert msgspec.json.decode(reply.body)["status"] == "ignored"
    (linked,) = [one.ended for one in story.effects if isinstance(one, AnswerLink) and one.ended.transaction == 77]
    assert isinstance(linked.outcome, CallAnswer)
    assert (linked.outcome.body, linked.outcome.child) == (reply.body, first)
    assert digest(story.replayed()) == digest(story.state)


def test_6_8_what_was_seen_is_masked_when_its_field_is_sensitive() -> None:
    """Section 3: in the events, and where the transaction is shown."""
    story = following(more="check: warn")
    secret = Story(cycle(STEPS.format(kind="text, sensitive: true", step="work: {post: remote, path: /x}", more="")))
    for one, value in ((story, "5"), (secret, "5")):
        one.hit("t", {"id": "A"})
        told(one, value)
        told(one, "4")
        hidden = hidden_of(one.state.program("hash-c"))
        row = max(one.state.transactions.values(), key=lambda found: found.id)
        shown = MASK if one is secret else "5"
        assert transaction_view(row, [], [], hidden)["newest"] == {"changed.at": shown}
        ignored = event_view(0, one.latest[-1], hidden)
        assert (ignored["event"], ignored["seen"], ignored["mark"] == "4") == ("HitIgnored", shown, one is story)


def test_6_8_a_value_that_is_too_long_is_a_fault() -> None:
    """It is kept with the transaction, so it is bounded as a value to match by is."""
    story = following(kind="text", more="check: off")
    reply = story.admit("changed", {"id": "A", "at": "x" * 513})
    assert isinstance(reply, Reply)
    assert (reply.status, b"at most 512 characters" in reply.body) == (422, True)
    assert isinstance(told(story, "x" * 512), Resumed)


@pytest.mark.parametrize(
    ("kind", "location", "rule"),
    [
        ("boolean", "at", "needs a field declared as"),
        ("any", "at", "needs a field declared as"),
        ("integer", "att", "is no declared field"),
        ("text", '"[at]"', "not by a list"),
    ],
)
def test_2_newer_than_names_a_field_that_has_an_order(kind: str, location: str, rule: str) -> None:
    """Section 2: said at its line."""
    text = STEPS.format(kind=kind, step="d: {delay: 1 minute}", more="").replace(
        "newer_than: at", f"newer_than: {location}"
    )
    (fault,) = check_project([Source("c.cycle.yaml", cycle(text))])[1]
    assert (fault.line, fault.step) == (12, "changed")
    assert rule in fault.rule


def test_2_newer_than_is_for_webhooks_that_continue_a_transaction() -> None:
    """Section 2: requests of a trigger have nothing to be older than."""
    text = cycle("  t: {webhook: shop, fields: {n: integer}, newer_than: n}\n  d: {delay: 1 minute}\n")
    (fault,) = check_project([Source("c.cycle.yaml", text)])[1]
    assert "each that comes here starts a new one" in fault.rule
