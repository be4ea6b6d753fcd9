"""Mid-cycle webhooks (section 6): what a callback matches, what it runs again, where it waits, and when a hold ends."""

from typing import Any

import pytest

from protocol.events import HitAccepted, HitParked, IncidentRaised
from protocol.inputs import Accepted, HoldDue, ParkDue, Parked, Refused, Resumed
from protocol.state import HitRow, Reply, TransactionRow, transaction_name
from tests.protocol.story import SECOND, Story

HOLDS = """
cycle: holds
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
settings: {on_error: ignore}
steps:
  asked: {webhook: shop, fields: {job: any, area: text}}
  work: {post: remote, path: /work, on_error: stop_transaction}
  back:
    webhook: shop
    fields: {job: {type: decimal, required: true}, area: {type: text, required: true}, n: integer}
    match: {job: asked.job, area: asked.area}
    %s
  tell: {post: remote, path: /tell, on_error: stop_transaction}
  sent:
    webhook: shop
    fields: {job: {type: integer, required: true}}
    match: {job: asked.job}
  note_it: {decide: "true", next: end}
  too_late: {post: remote, path: /too-late}
"""
HOUR = 3600


def holds(said: str = "park: 10 minutes", on_timeout: str = "too_late") -> Story:
    """The cycle, whose first hold says this too."""
    return Story(HOLDS % f"hold_for: 1 hour\n    on_timeout: {on_timeout}\n    {said}")


def ask(story: Story, job: Any = 42, area: str = "north", *, reach: bool = True) -> TransactionRow:
    """A new transaction, at its hold unless its call is left open."""
    verdict = story.hit("asked", {"job": job, "area": area})
    assert isinstance(verdict, Accepted)
    if reach:
        story.answer({}, transaction=verdict.transaction)
    return story.state.transaction(verdict.transaction)


def call_back(story: Story, job: Any = 42, area: str = "north", n: int = 0) -> Any:
    """A callback."""
    return story.hit("back", {"job": job, "area": area, "n": n})


def told(story: Story, verdict: Any) -> HitRow:
    """The hit that a verdict is about."""
    return story.state.hit(verdict.hit)


def test_6_1_a_hold_keeps_no_call_no_body_and_no_header() -> None:
    """6.1: what a hold costs is bounded by the data of its steps."""
    story = holds()
    row = ask(story)
    hit = story.state.hit(row.hit)
    assert (row.status, row.step, row.call, row.until) == ("held", "back", None, story.at + HOUR * SECOND)
    assert (hit.status, hit.body, hit.headers, hit.query) == ("done", b"", {}, {})


@pytest.mark.parametrize(
    ("asked", "back", "matches"),
    [
        (42, "42", True),
        ("4.20", 4.2, True),
        ("1e2", 100, True),
        (42, 43, False),
        (True, 1, False),
        ("A", 0, False),
    ],
)
def test_6_2_values_are_compared_by_the_declared_type(asked: Any, back: Any, *, matches: bool) -> None:
    """6.2: `4.20` is `4.2` as a decimal, and a truth or a name is no decimal at all."""
    story = holds()
    row = ask(story, asked)
    verdict = call_back(story, back)
    assert isinstance(verdict, Resumed if matches else Parked)
    assert row.number == (2 if matches else 1)


def test_6_2_several_pairs_mean_and() -> None:
    """6.2: one value that is equal is not enough, whichever of the two it is."""
    story = holds()
    row = ask(story, 42, "north")
    assert isinstance(call_back(story, 42, "south"), Parked)
    assert isinstance(call_back(story, 43, "north"), Parked)
    assert isinstance(call_back(story, 42, "north"), Resumed)
    assert row.number == 2


@pytest.mark.parametrize("nothing", [None, "", {}, [42], "forty"])
def test_6_2_a_hold_with_nothing_to_match_by_fails_whatever_the_policy(nothing: Any) -> None:
    """6.2: null, missing, empty, or no value of the type; going on would run what only its request may run."""
    story = holds()
    row = ask(story, nothing)
    assert (row.status, row.step, story.incidents()) == ("failed", "back", ["required_source_empty"])
    assert [call.step for call in story.calls()] == ["work"]


def test_6_3_most_recent_is_by_creation_not_by_arrival_at_the_hold() -> None:
    """6.3: the one begun first reaches its hold last, and still does not win."""
    story = holds()
    first, second = ask(story, reach=False), ask(story)
    story.answer({}, transaction=first.id)
    assert call_back(story).transaction == second.id


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_6_3_failed_and_stopped_transactions_are_no_candidates(end: str) -> None:
    """6.3: the callback runs the older one."""
    story = holds()
    first, second = ask(story), ask(story)
    call_back(story)
    if end == "failed":
        story.answer(None, 500, transaction=second.id)
    else:
        story.stop()
        story.start()
    assert (first.status, second.status) == ("held", end)
    assert (second.reached, second.queue, second.call, second.until) == ({}, [], None, 0), "it owns nothing any more"
    verdict = call_back(story)
    assert (verdict.transaction, verdict.candidates, told(story, verdict).candidates) == (first.id, (), [])


def test_6_3_a_transaction_is_a_candidate_in_whatever_state_it_is_since() -> None:
    """6.3: at the hold, with a call open past it, at a later hold, and completed."""
    story = holds()
    row = ask(story)
    states: list[tuple[str, str]] = []
    for _ in range(2):
        states.append((row.status, row.step))
        assert call_back(story).transaction == row.id
    states.append((row.status, row.step))
    story.answer({})
    story.answer({})
    states.append((row.status, row.step))
    assert isinstance(call_back(story), Resumed)
    story.answer({})
    story.hit("sent", {"job": 42})
    states.append((row.status, row.step))
    assert isinstance(call_back(story), Resumed)
    assert states == [
        ("held", "back"),
        ("running", "tell"),
        ("running", "tell"),
        ("held", "sent"),
        ("completed", "end"),
    ]


def test_6_3_a_further_hit_replaces_its_steps_data_and_drops_what_came_after() -> None:
    """6.3: earlier data stays; the hold behind it is no longer reached, so its callbacks wait again."""
    story = holds()
    row = ask(story)
    call_back(story, n=1)
    story.answer({"told": 1})
    assert isinstance(story.hit("sent", {"job": 42}), Resumed)
    assert list(row.data) == ["asked", "work", "back", "tell", "sent"]
    call_back(story, n=2)
    assert (list(row.data), row.data["back"]["n"], row.data["tell"]) == (["asked", "work", "back", "tell"], 2, {})
    assert isinstance(story.hit("sent", {"job": 42}), Parked)
    story.answer({})
    assert (row.number, row.status, story.state.cycle("holds").parked) == (5, "completed", 0)


def test_6_3_each_pass_makes_calls_of_its_own() -> None:
    """6.3 and section 7: the key ends with the pass, or the remote would take the second call for a repeat."""
    story = holds()
    row = ask(story)
    for _ in range(2):
        call_back(story)
        story.answer({})
    name = transaction_name("holds", row.id)
    assert [call.idempotency_key for call in story.calls()] == [f"{name}.work.1", f"{name}.tell.2", f"{name}.tell.3"]


def test_6_4_hits_of_different_transactions_never_wait_for_each_other() -> None:
    """6.4: one pass is in progress, and the other transaction's callback runs at once."""
    story = holds()
    ask(story, 1)
    ask(story, 2)
    call_back(story, 1)
    call_back(story, 2)
    assert [call.step for call in story.calls()] == ["work", "work", "tell", "tell"]


def test_6_4_hits_that_move_run_in_the_order_in_which_they_came() -> None:
    """6.4: a hit that moved once stands behind later ones; when it moves again it goes first."""
    story = holds()
    oldest, middle = ask(story), ask(story)
    newest = ask(story, reach=False)
    call_back(story, n=1)
    early = call_back(story, n=2)
    story.answer({}, transaction=newest.id)
    call_back(story, n=3)
    late = call_back(story, n=4)
    story.answer(None, 500, transaction=middle.id)
    assert newest.queue == [late.hit, early.hit]
    story.answer(None, 500, transaction=newest.id)
    assert (oldest.data["back"]["n"], oldest.queue) == (2, [late.hit])


def test_6_5_parked_hits_go_to_the_first_transaction_of_their_value_in_order_of_arrival() -> None:
    """6.5: those of another value stay, and a second transaction finds none left."""
    story = holds()
    for n, job in enumerate([42, 7, 42], 1):
        assert isinstance(call_back(story, job, n=n), Parked)
    row = ask(story)
    assert row.data["back"]["n"] == 1
    assert [story.state.hit(hit).status for hit in row.queue] == ["queued"]
    story.answer({})
    assert (row.data["back"]["n"], row.number) == (3, 3)
    assert ask(story).number == 1
    assert story.state.cycle("holds").parked == 1


def test_6_5_a_hit_is_parked_as_long_as_its_step_says_and_not_longer() -> None:
    """6.5: `park`; an expired one is an incident, gives its body up, and is delivered to nobody."""
    story = holds("park: 2 minutes")
    verdict = call_back(story)
    assert verdict.until == story.at + 120 * SECOND
    story.put(ParkDue("holds", verdict.until - 1, verdict.hit))
    assert told(story, verdict).status == "parked"
    story.put(ParkDue("holds", verdict.until, verdict.hit))
    assert (told(story, verdict).status, told(story, verdict).body) == ("expired", b"")
    assert (story.incidents(), story.state.cycle("holds").parked) == (["hit_expired"], 0)
    story.put(ParkDue("holds", verdict.until, verdict.hit))
    assert story.names() == []
    assert ask(story).number == 1


def test_6_5_a_delivered_hit_does_not_expire() -> None:
    """6.5: its timer comes and finds it gone."""
    story = holds()
    verdict = call_back(story)
    ask(story)
    story.put(ParkDue("holds", verdict.until, verdict.hit))
    assert (story.names(), told(story, verdict).status) == ([], "running")


def test_6_6_the_most_recent_of_several_wins_and_all_are_named() -> None:
    """6.6: in the verdict and in the record, newest first."""
    story = holds()
    rows = [ask(story) for _ in range(3)]
    verdict = call_back(story)
    named = [row.id for row in reversed(rows)]
    assert verdict == Resumed(verdict.hit, named[0], tuple(named))
    assert told(story, verdict).candidates == named


def test_6_6_pick_only_refuses_several_and_takes_one() -> None:
    """6.6: 409 that names them, and nothing is recorded."""
    story = holds("pick: only")
    rows = [ask(story)]
    assert call_back(story).transaction == rows[0].id
    rows.append(ask(story))
    recorded = len(story.journal)
    refused = call_back(story)
    assert isinstance(refused, Refused)
    assert (refused.status, len(story.journal)) == (409, recorded)
    assert all(transaction_name("holds", row.id) in refused.detail for row in rows)


def test_4_1_a_step_may_refuse_what_matches_nothing() -> None:
    """4.1: `unmatched: reject` is 404, and nothing is recorded; what matches is taken."""
    story = holds("unmatched: reject")
    recorded = len(story.journal)
    refused = call_back(story)
    assert isinstance(refused, Refused)
    assert (refused.status, len(story.journal)) == (404, recorded)
    ask(story)
    assert isinstance(call_back(story), Resumed)


def test_6_7_a_hold_ends_when_its_time_has_come_and_not_before() -> None:
    """6.7: to the nanosecond of the recorded time; an early or repeated timer changes nothing."""
    story = holds()
    row = ask(story)
    story.put(HoldDue("holds", row.until - 1, row.id))
    assert (story.names(), row.status) == ([], "held")
    until = row.until
    story.put(HoldDue("holds", until, row.id))
    assert (row.status, row.step) == ("running", "too_late")
    story.put(HoldDue("holds", until, row.id))
    assert story.names() == []


def test_6_7_an_exit_is_a_pass_of_its_own_and_its_transaction_still_takes_callbacks() -> None:
    """6.7: `on_timeout: STEP`; calls of the exit share no key with a pass, and 6.3 goes on to hold."""
    story = holds()
    row = ask(story)
    story.later(HOUR)
    assert story.calls()[-1].idempotency_key == f"{transaction_name('holds', row.id)}.too_late.2"
    story.answer({})
    assert row.status == "completed"
    assert call_back(story).transaction == row.id
    assert row.number == 3


@pytest.mark.parametrize(("exit_", "status"), [("end", "completed"), ("fail", "failed")])
def test_6_7_an_exit_may_end_or_fail_the_transaction(exit_: str, status: str) -> None:
    """6.7: a failure is an incident and is no candidate any more."""
    story = holds(on_timeout=exit_)
    row = ask(story)
    story.later(HOUR)
    assert (row.status, story.incidents()) == (status, ["hold_expired"] if exit_ == "fail" else [])
    assert isinstance(call_back(story), Parked if exit_ == "fail" else Resumed)


def test_6_7_each_pass_that_comes_to_the_hold_again_has_the_whole_time() -> None:
    """6.7: the time of a hold counts from the moment it is reached."""
    until_tell, _, _ = (HOLDS % "hold_for: 1 hour\n    on_timeout: end").partition("  sent:")
    story = Story(until_tell.replace("tell: {", "tell: {next: back, "))
    row = ask(story)
    for _ in range(3):
        story.later(HOUR - 1)
        call_back(story)
        story.answer({})
        assert (row.status, row.until) == ("held", story.at + HOUR * SECOND)
    story.later(HOUR)
    assert row.status == "completed"


def test_6_7_a_hold_in_a_cycle_that_does_not_run_waits_for_its_start() -> None:
    """6.7 and section 11: held transactions survive a stop; the exit would begin a pass."""
    story = holds()
    row = ask(story)
    story.stop()
    story.later(2 * HOUR)
    assert row.status == "held"
    story.start()
    story.later(0)
    assert (row.status, row.step) == ("running", "too_late")


def test_4_a_contract_that_only_warns_runs_and_says_so() -> None:
    """Section 4: `check: warn` is an incident of level warning about the transaction that runs."""
    story = holds("check: warn")
    row = ask(story)
    assert isinstance(call_back(story, n=0), Resumed)
    assert not story.incidents()
    assert isinstance(story.hit("back", {"job": 42, "area": "north", "n": "many"}), Resumed)
    (incident,) = [event for event in story.latest if isinstance(event, IncidentRaised)]
    assert (incident.level, incident.kind, incident.transaction, incident.step) == (
        "warning",
        "contract_broken",
        row.id,
        "back",
    )
    assert "n: must be an integer" in incident.message


def test_4_a_request_without_a_value_to_match_by_is_refused_even_if_the_step_only_warns() -> None:
    """6.2: nothing could ever match it."""
    story = holds("check: warn")
    refused = story.admit("back", {"job": "", "area": "north"})
    assert isinstance(refused, Reply)
    assert refused.status == 422


def test_every_accepted_callback_is_recorded_before_it_is_told_that_it_is_parked() -> None:
    """Rule 1 of the core: the record of a parked hit is the hit, and the place where it waits."""
    story = holds()
    verdict = call_back(story)
    accepted, parked = story.latest
    assert isinstance(accepted, HitAccepted)
    assert parked == HitParked("holds", story.at, verdict.hit, ["42", "north"], verdict.until, "early")


def test_11_hits_behind_a_pass_that_fails_in_a_cycle_that_finishes_are_kept_for_the_start() -> None:
    """Sections 6.3 and 11: nothing takes them now; their callers are told so, and the start gives them their place."""
    story = holds()
    older, newer = ask(story), ask(story)
    call_back(story, n=1)
    behind = call_back(story, n=2)
    story.stop("finish")
    story.answer(None, 500, transaction=newer.id)
    hit = told(story, behind)
    assert (hit.status, hit.parked, hit.transaction, story.state.cycle("holds").status) == (
        "collected",
        True,
        0,
        "stopped",
    )
    story.start()
    assert (older.data["back"]["n"], hit.transaction) == (2, older.id)


def test_6_3_what_the_exit_of_a_hold_did_is_dropped_by_a_later_callback() -> None:
    """6.3: a pass from a webhook step forgets what came after it, also what the exit of its hold ran."""
    story = holds()
    row = ask(story)
    story.later(HOUR)
    story.answer({})
    assert "too_late" in row.data
    call_back(story)
    assert "too_late" not in row.data


WAYS = """
cycle: ways
connectors: {shop: {}, remote: {base_url: "http://remote.example"}}
steps:
  asked: {webhook: shop, fields: {job: integer}}
  back:
    webhook: shop
    fields: {job: {type: integer, required: true}, over: boolean}
    match: {job: asked.job}
  way: {decide: back.over == true, then: end, else: sent}
  sent: {webhook: shop, fields: {job: {type: integer, required: true}}, match: {job: asked.job}}
  tell: {post: remote, path: /tell}
"""


def test_6_3_a_request_that_waited_for_a_step_that_is_no_longer_reached_looks_for_another_place() -> None:
    """6.3: the pass before it went another way, so nothing waits for it; it is kept as an early one is."""
    story = Story(WAYS)
    story.hit("asked", {"job": 1})
    story.hit("back", {"job": 1, "over": False})
    story.hit("sent", {"job": 1})
    story.hit("back", {"job": 1, "over": True})
    behind = told(story, story.hit("sent", {"job": 1}))
    assert behind.status == "queued"
    story.answer({})
    row = story.only()
    assert (row.status, row.queue, list(row.reached), behind.status) == ("completed", [], ["back"], "parked")
    story.hit("back", {"job": 1, "over": False})
    assert (behind.status, behind.transaction, row.step) == ("running", row.id, "tell")
