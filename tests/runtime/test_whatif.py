"""What-if with a draft (section 14): every branch, request, answer, place, status, incident and task that changes."""

from typing import Any

import pytest

from protocol.definition import Definition
from protocol.inputs import Hit
from protocol.outbox import AnswerLink
from runtime.whatif import Window
from tests.protocol.story import NOON, SECOND, Story, cycle
from tests.runtime.whatifs import Tried, definitions, tried

STEPS = """
  t: {webhook: shop, fields: {id: {type: integer, required: true}, total: integer}}
  dear: {decide: {left: t.total, is: greater, right: 10}, else: tell}
  ask: {post: remote, path: /ask, body: {id: "{{ t.id }}"}, fields: {ok: boolean}}
  tell: {post: remote, path: /tell, body: {id: "{{ t.id }}"}}
  back: {webhook: shop, fields: {id: integer, state: text}, match: {id: t.id}, hold_for: 1 day, on_timeout: end}
  answer: {respond: {body: {state: "{{ back.state }}"}}}
"""


def told() -> Story:
    """Two orders, a dear one and a cheap one, each called back once, the cheap one early."""
    story = Story(cycle(STEPS))
    story.hit("t", {"id": 1, "total": 11})
    story.answer({"ok": True})
    story.answer({})
    story.later(60)
    story.hit("back", {"id": 2, "state": "early"})
    story.hit("t", {"id": 2, "total": 5})
    cheap = max(story.state.transactions)
    story.later(60)
    story.answer({}, transaction=cheap)
    story.hit("back", {"id": 1, "state": "sent"})
    return story


def drafted(old: str, new: str) -> dict[str, Definition]:
    """The cycle with one thing changed."""
    assert old in STEPS
    return definitions(cycle(STEPS.replace(old, new)))


def differ(old: str, new: str, window: Window | None = None) -> Tried:
    """What the change changes."""
    return tried(told(), drafted(old, new), window)


def test_14_given_another_condition_then_the_branch_and_what_follows_differ() -> None:
    """Section 14: the dear order is not dear any more, so nobody is asked; the answer to that call is left over."""
    found = differ("right: 10", "right: 20")
    assert [(one[0], one[1]) for one in found.differences()] == [("branch", "dear"), ("call", "ask")]
    assert found.differences()[0][2:] == ({"target": "ask"}, {"target": "tell"})
    assert found.differences()[1][3] is None
    assert (found.changed[0].transaction, found.changed[0].tasks) == ("c-3", -1)
    outcome = found.outcome
    assert (outcome.transactions, outcome.requests, outcome.not_recorded) == (1, 0, 0)
    assert outcome.tasks == {"c": (9, 8)}
    assert not outcome.is_same


def test_14_given_another_body_then_both_are_shown_and_the_recorded_answer_is_used() -> None:
    """Section 14: the call has the answer that it had."""
    found = differ('/tell, body: {id: "{{ t.id }}"}', '/told, body: {id: "{{ t.id }}", n: 1}')
    assert {(one[0], one[1]) for one in found.differences()} == {("call", "tell")}
    _, _, recorded, draft = found.differences()[0]
    assert isinstance(recorded, dict)
    assert isinstance(draft, dict)
    assert (recorded["url"], recorded["body"]) == ("/tell", '{"id":1}')
    assert (draft["url"], draft["body"]) == ("/told", '{"id":1,"n":1}')
    assert found.outcome.transactions == 2
    assert found.outcome.tasks == {"c": (9, 9)}


def test_14_given_another_answer_then_it_is_shown() -> None:
    """Section 14: what the caller would have been told; a parked caller was told otherwise already."""
    found = differ('{state: "{{ back.state }}"}', '{now: "{{ back.state }}"}')
    ((what, step, recorded, draft),) = [one for one in found.differences() if "sent" in str(one)]
    assert (what, step) == ("answer", "answer")
    assert isinstance(recorded, dict)
    assert isinstance(draft, dict)
    assert (recorded["status"], recorded["body"], draft["body"]) == (200, '{"state":"sent"}', '{"now":"sent"}')


def test_14_given_a_call_that_was_never_made_then_the_pass_stops_there_and_says_so() -> None:
    """Section 14: nobody knows what the remote would have said; what came after in the record is not compared."""
    found = differ("  tell: {", "  check: {get: remote, path: /check}\n  tell: {")
    stops = [one for one in found.differences() if one[0] == "not recorded"]
    assert [(one[1], one[2]) for one in stops] == [("check", None)], "the cheap order goes past it"
    assert found.outcome.not_recorded == 1
    assert [one.transaction for one in found.changed] == ["c-3"]
    assert {one[0] for one in found.differences()} == {"not recorded"}


def test_14_given_a_stricter_contract_then_the_refused_request_is_listed_and_not_its_steps() -> None:
    """Section 14: what the draft answers 422 begins nothing."""
    found = differ("total: integer", "total: {type: integer, required: true}, name: {type: text, required: true}")
    places = [one for one in found.differences() if one[0] == "place"]
    begun = [recorded for _, _, recorded, _ in places if isinstance(recorded, dict) and recorded["place"] == "begins"]
    assert begun == [{"place": "begins", "transaction": "c-3"}, {"place": "begins", "transaction": "c-17"}]
    refused = [draft for _, _, _, draft in places if isinstance(draft, dict) and draft["place"] == "refused"]
    assert [one["status"] for one in refused] == [422, 422]
    assert {one[0] for one in found.differences()} == {"place"}, "their steps follow from that"


def test_14_given_another_match_then_holds_and_places_differ() -> None:
    """Section 14: the requests that ran a transaction find none."""
    found = differ("match: {id: t.id}", "match: {id: t.total}")
    whats = {one[0] for one in found.differences()}
    assert {"status", "place"} <= whats
    held = next(one for one in found.differences() if one[0] == "status")
    assert isinstance(held[2], dict)
    assert isinstance(held[3], dict)
    assert (held[2]["matches_by"], held[3]["matches_by"]) == (["1"], ["11"])
    places = [one[2:] for one in found.differences() if one[0] == "place"]
    runs: dict[str, Any] = {"place": "runs", "transaction": "c-3", "ambiguous": []}
    assert (runs, {"place": "parked", "reason": "early", "key": ["1"]}) in places


def test_14_given_a_timer_that_only_the_draft_has_then_it_fires_in_virtual_time() -> None:
    """Section 14: a hold that ends after 30 seconds is over when its request comes a minute later; it runs it again."""
    found = differ("hold_for: 1 day", "hold_for: 30 seconds")
    assert [one for one in found.differences() if one[0] == "branch"] == [("branch", "back", None, {"target": "end"})]
    longer = differ("hold_for: 1 day", "hold_for: 2 days")
    assert longer.outcome.is_same


def test_14_given_a_delay_before_a_call_then_its_recorded_answer_waits_for_it() -> None:
    """Section 14: recorded answers are matched by step and pass, not by the moment."""
    found = differ("  tell: {", "  pause: {delay: 1 second}\n  tell: {")
    assert found.outcome.is_same, found.changed


def test_14_given_a_window_then_what_came_before_is_as_it_was() -> None:
    """Section 14: the draft is deployed at the moment it begins; a transaction in flight keeps its version."""
    later = Window(since_at=NOON + 90 * SECOND)
    assert differ('/tell, body: {id: "{{ t.id }}"}', "/told, body: {}", later).outcome.is_same
    early = Window(until_at=NOON + 30 * SECOND)
    found = differ('/tell, body: {id: "{{ t.id }}"}', "/told, body: {}", early)
    assert (found.outcome.hits, found.outcome.transactions) == (1, 1)
    by_number = Window(since=1, until=10**9)
    assert tried(told(), None, by_number).outcome.is_same


def test_14_given_any_window_when_nothing_was_changed_then_nothing_differs() -> None:
    """Section 14: wherever the window begins and ends, open calls, holds and parked requests go over to the draft."""
    story = told()
    for since in range(0, len(story.journal), 3):
        for until in range(since, len(story.journal), 7):
            found = tried(story, None, Window(since=since, until=until))
            assert found.outcome.is_same, (since, until, found.changed)


def test_14_given_items_that_the_record_never_split_then_they_are_new_transactions() -> None:
    """Section 14: numbers behind the end of the journal name what only the draft begins."""
    steps = "  t: {webhook: shop}\n  line: {split: hit.body}\n  look: {decide: 'line.n > 1'}\n"
    story = Story(cycle(steps))
    story.hit("t", [{"n": 1}, {"n": 2}])
    other = steps.replace("hit.body", "hit.body + hit.body")
    found = tried(story, definitions(cycle(other)))
    new = [one for one in found.changed if one.transaction == f"c-{len(story.journal) + 10}" or "begun" in str(one)]
    assert [one.differences[0].what for one in new] == ["begun", "begun"]
    assert found.outcome.transactions == 2
    fewer = tried(story, definitions(cycle(steps.replace("hit.body", "'[hit.body[0]]'"))))
    assert [(one[0], one[3]) for one in fewer.differences()] == [("begun", None)]


def test_14_given_a_script_then_its_recorded_result_is_used_and_nothing_is_called() -> None:
    """Section 14: a function is a call like any other, and its kind must fit."""
    steps = "  t: {webhook: shop}\n  work: {script: 'work:double'}\n  r: {respond: {body: {n: '{{ work.n }}'}}}\n"
    story = Story(cycle(steps))
    story.hit("t", {"n": 1})
    story.script({"n": 2})
    found = tried(story, definitions(cycle(steps.replace("work.n }", "work.n + 1 }"))))
    assert [(one[0], one[1]) for one in found.differences()] == [("answer", "r")]
    called = tried(story, definitions(cycle(steps.replace("script: 'work:double'", "get: remote, path: /"))))
    assert called.outcome.not_recorded == 1, "what a function returned is no answer of a remote"


def test_14_given_a_repeat_that_the_draft_would_not_know_then_it_runs() -> None:
    """Section 14: `dedupe: off` runs it twice."""
    steps = "  t: {webhook: shop}\n  look: {decide: 'true'}\n"
    story = Story(cycle(steps))
    for _ in range(2):
        story.hit("t", {}, headers={"idempotency-key": "k"})
    assert tried(story).outcome.is_same
    found = tried(story, definitions(cycle(steps.replace("shop}", "shop, dedupe: off}"))))
    assert found.outcome.tasks == {"c": (1, 2)}


def test_14_given_cycles_that_link_then_the_target_runs_with_what_the_draft_hands_over() -> None:
    """Section 14: the child sees the changed body, and its answer goes back; without a socket, in process."""
    parent = cycle("  t: {webhook: shop}\n  hand: {post: shop, url: 'cycle:child/t', body: {id: 7}}\n", name="parent")
    child = cycle(
        "  t: {webhook: shop, fields: {id: integer}}\n  r: {respond: {body: {id: '{{ t.id }}'}}}\n", name="child"
    )
    story = linked(parent, child)
    assert tried(story).outcome.is_same, tried(story).changed
    found = tried(story, definitions(parent.replace("id: 7", "id: 8"), child))
    assert [(one[0], one[1]) for one in found.differences()] == [("answer", "r"), ("call", "hand")]
    cut = tried(story, definitions(parent.replace("cycle:child/t", "http://elsewhere.example/"), child))
    assert any(one[0] == "place" and one[3] is None for one in cut.differences()), "the child never begins"


def linked(*files: str) -> Story:
    """A parent hands over to its child, which answers at once."""
    story = Story(*files)
    story.hit("t", {})
    (call,) = story.calls()
    hit = story.admit(
        "t", call.request.body, cycle="child", origin=story.origin(call), delivery=call.idempotency_key, depth=1
    )
    assert isinstance(hit, Hit)
    story.put(hit)
    (answer,) = (effect for effect in story.effects if isinstance(effect, AnswerLink))
    story.put(answer.ended)
    return story


@pytest.mark.parametrize("rows", [1, 4000])
def test_14_given_a_long_journal_then_what_is_over_leaves_memory(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 14: rows are on disk; only what differs and is in progress is kept."""
    monkeypatch.setattr("runtime.whatif.run.ROWS_MAX", rows)
    found = differ('/tell, body: {id: "{{ t.id }}"}', "/told, body: {}")
    assert found.outcome.transactions == 2
    assert tried(told()).outcome.is_same
