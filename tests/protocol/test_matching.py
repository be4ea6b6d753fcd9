"""Mid-cycle webhooks: holding, matching, parking, choosing and timing out (section 6)."""

from typing import Any

import pytest

from protocol.inputs import Accepted, Parked, Refused, Resumed
from protocol.program import MATCHED_CHARACTERS_MAX
from protocol.state import Reply
from tests.protocol.story import SECOND, Story, cycle

TRIGGER = "  t: {webhook: shop}\n"


def waits(more: str = "", *, kind: str = "text", after: str = "  call: {post: remote, path: /x}\n") -> Story:
    """A cycle that holds at `w` until a request brings the `id` that the trigger brought."""
    hold = f"  w: {{webhook: shop, fields: {{id: {kind}, n: any}}, match: {{id: t.id}}{more}}}\n"
    return Story(cycle(TRIGGER + hold + after, rules="{on_error: stop_transaction}"))


def start(story: Story, **body: Any) -> int:
    verdict = story.hit("t", body)
    assert isinstance(verdict, Accepted)
    return verdict.transaction


def test_6_1_a_transaction_holds_and_nothing_of_it_is_open() -> None:
    """6.1: no call, no queue, no body of the request that brought it there."""
    story = waits()
    one = start(story, id="a")
    row = story.state.transaction(one)
    assert (row.status, row.step, row.call, row.queue, row.until) == ("held", "w", None, [], 0)
    assert (story.state.hit(row.hit).status, story.state.hit(row.hit).body) == ("done", b"")


MATCHES: list[tuple[str, Any, Any, bool]] = [
    ("text", "a", "a", True),
    ("text", "a", "A", False),
    ("text", 42, "42", True),
    ("integer", "42", 42, True),
    ("integer", "042", 42, True),
    ("decimal", "4.20", 4.2, True),
    ("decimal", "4.2", "4.21", False),
    ("datetime", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", True),
    ("boolean", True, "TRUE", True),
    ("text", "4.20", "4.2", False),
]


@pytest.mark.parametrize(("kind", "earlier", "sent", "same"), MATCHES)
def test_6_2_values_match_as_canonical_text_of_the_declared_type(
    kind: str, earlier: Any, sent: Any, same: bool
) -> None:
    """6.2: `42` is `"42"`, `4.20` is `4.2` as a decimal and not as text."""
    story = waits(kind=kind)
    start(story, id=earlier)
    assert isinstance(story.hit("w", {"id": sent}), Resumed if same else Parked)


@pytest.mark.parametrize("sent", [{}, {"id": None}, {"id": ""}, {"id": "a" * (MATCHED_CHARACTERS_MAX + 1)}])
def test_6_2_a_request_without_a_value_to_match_by_is_refused(sent: Any) -> None:
    """6.2: null, missing and empty never match, whatever `check` says; nor does a value too long for an index."""
    for check in ("reject", "warn", "off"):
        story = waits(f", check: '{check}'")
        refused = story.admit("w", sent)
        assert isinstance(refused, Reply)
        assert refused.status == 422
        assert b"matched by" in refused.body


def test_6_2_a_value_of_the_largest_length_matches() -> None:
    """The bound is inclusive."""
    story = waits()
    start(story, id="a" * MATCHED_CHARACTERS_MAX)
    assert isinstance(story.hit("w", {"id": "a" * MATCHED_CHARACTERS_MAX}), Resumed)


@pytest.mark.parametrize("body", [{"id": None}, {"id": ""}, {"id": "a" * (MATCHED_CHARACTERS_MAX + 1)}, {}])
def test_6_2_a_transaction_without_a_value_to_match_by_fails_even_when_errors_are_ignored(body: Any) -> None:
    """Going on past the hold would run the steps that only its request may run."""
    hold = "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}, on_error: ignore}\n"
    story = Story(cycle(TRIGGER + hold + "  call: {post: remote, path: /x}\n"))
    story.hit("t", body)
    assert (story.status(), story.incidents(), story.calls()) == (["failed"], ["required_source_empty"], [])


def test_6_2_several_pairs_mean_and() -> None:
    """6.2: one that differs is enough to differ."""
    hold = "  w: {webhook: shop, fields: {a: text, b: integer}, match: {a: t.a, b: t.b}}\n"
    story = Story(cycle(TRIGGER + hold))
    start(story, a="x", b=1)
    assert isinstance(story.hit("w", {"a": "x", "b": 2}), Parked)
    assert isinstance(story.hit("w", {"a": "y", "b": 1}), Parked)
    assert isinstance(story.hit("w", {"a": "x", "b": "1"}), Resumed)


def test_6_3_a_later_pass_replaces_this_step_drops_the_later_and_keeps_the_earlier() -> None:
    """6.3: the data of each step after the pass has begun."""
    story = waits()
    start(story, id="a", more=1)
    story.hit("w", {"id": "a", "n": 1})
    story.answer({"ok": 1})
    assert list(story.only().data) == ["t", "w", "call"]
    story.hit("w", {"id": "a", "n": 2})
    assert story.only().data == {"t": {"id": "a", "more": 1}, "w": {"id": "a", "n": 2}, "call": {}}


def test_6_3_the_most_recent_by_creation_wins_even_when_it_is_completed() -> None:
    """6.3: in whatever state it is since it reached the step."""
    story = waits(after="  d: {decide: 'true'}\n")
    older, newer = start(story, id="a"), start(story, id="a")
    story.hit("w", {"id": "a"})
    assert [story.state.transaction(one).status for one in (older, newer)] == ["held", "completed"]
    verdict = story.hit("w", {"id": "a"})
    assert isinstance(verdict, Resumed)
    assert (verdict.transaction, story.state.transaction(newer).number) == (newer, 3)


def test_6_3_failed_and_stopped_transactions_are_no_candidates() -> None:
    """6.3: the older one runs, since the newer two are over for good."""
    story = waits()
    oldest, failed, stopped = (start(story, id="a") for _ in range(3))
    story.hit("w", {"id": "a"})
    story.stop()
    story.start()
    story.hit("w", {"id": "a"})
    story.answer(None, 500, transaction=failed)
    assert [story.state.transaction(one).status for one in (oldest, failed, stopped)] == ["held", "failed", "stopped"]
    verdict = story.hit("w", {"id": "a"})
    assert isinstance(verdict, Resumed)
    assert (verdict.transaction, verdict.candidates) == (oldest, ())


def test_6_3_a_transaction_that_has_not_reached_the_step_is_no_candidate() -> None:
    """6.3: its value is known, but its call has not returned."""
    story = Story(
        cycle(
            TRIGGER + "  call: {post: remote, path: /x}\n  w: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n"
        )
    )
    start(story, id="a")
    assert isinstance(story.hit("w", {"id": "a"}), Parked)


TWO_HOLDS = (
    TRIGGER + "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}, hold_for: 1 hour, on_timeout: v}\n"
    "  v: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n"
)


def test_6_3_a_pass_from_an_earlier_webhook_takes_back_that_a_later_one_was_reached() -> None:
    """6.3: the steps after it have not run in this traversal."""
    story = Story(cycle(TWO_HOLDS + "  call: {post: remote, path: /x}\n"))
    start(story, id="a")
    story.hit("w", {"id": "a"})
    assert story.only().step == "v"
    story.hit("v", {"id": "a"})
    story.answer()
    assert story.only().reached == {"w": ["a"], "v": ["a"]}
    broken = Story(cycle(TWO_HOLDS.replace("  v:", "  call: {post: remote, path: /x}\n  v:")))
    start(broken, id="a")
    broken.hit("w", {"id": "a"})
    broken.answer()
    broken.hit("w", {"id": "a"})
    assert broken.only().reached == {"w": ["a"]}
    assert isinstance(broken.hit("v", {"id": "a"}), Parked)


def test_6_3_a_late_request_still_runs_a_hold_that_timed_out_before() -> None:
    """6.3: it was reached, and a pass from the step after it does not take that back."""
    story = Story(cycle(TWO_HOLDS + "  d: {decide: 'true'}\n"))
    one = start(story, id="a")
    story.later(3600)
    story.hit("v", {"id": "a"})
    assert story.status() == ["completed"]
    verdict = story.hit("w", {"id": "a"})
    assert isinstance(verdict, Resumed)
    assert (verdict.transaction, story.only().step) == (one, "v")


def test_6_4_hits_of_different_transactions_do_not_wait_for_each_other() -> None:
    """6.4: one is at its call, the other runs."""
    story = waits()
    first, second = start(story, id="a"), start(story, id="b")
    story.hit("w", {"id": "a"})
    story.hit("w", {"id": "b"})
    assert [call.transaction for call in story.calls()] == [first, second]


def test_6_5_a_parked_hit_is_kept_for_as_long_as_the_step_says() -> None:
    """6.5: to the instant."""
    story = waits(", park: 2 minutes")
    parked = story.hit("w", {"id": "a"})
    assert isinstance(parked, Parked)
    assert parked.until == story.at + 120 * SECOND
    story.later(119)
    assert story.state.hit(parked.hit).status == "parked"
    story.later(1)
    assert (story.state.hit(parked.hit).status, story.incidents()) == ("expired", ["hit_expired"])
    start(story, id="a")
    assert story.status() == ["held"]


def test_6_5_unmatched_reject_refuses_what_has_no_candidate() -> None:
    """4.1: 404, and nothing is recorded."""
    story = waits(", unmatched: reject")
    recorded = len(story.journal)
    refused = story.hit("w", {"id": "a"})
    assert isinstance(refused, Refused)
    assert (refused.status, len(story.journal)) == (404, recorded)


def test_6_5_only_the_value_that_is_reached_takes_its_parked_hits() -> None:
    """6.5: those of others stay."""
    story = waits()
    mine, other = story.hit("w", {"id": "a"}), story.hit("w", {"id": "b"})
    assert isinstance(mine, Parked)
    assert isinstance(other, Parked)
    start(story, id="a")
    assert (story.state.hit(mine.hit).status, story.state.hit(other.hit).status) == ("running", "parked")


def test_6_6_several_candidates_are_said_in_the_verdict_and_on_record() -> None:
    """6.6: the most recent is first."""
    story = waits()
    older, newer = start(story, id="a"), start(story, id="a")
    verdict = story.hit("w", {"id": "a"})
    assert isinstance(verdict, Resumed)
    assert verdict.candidates == (newer, older)
    assert story.state.hit(verdict.hit).candidates == [newer, older]


def test_6_6_pick_only_refuses_when_several_match() -> None:
    """6.6: 409 that names them; one candidate is taken."""
    story = waits(", pick: only")
    one = start(story, id="a")
    verdict = story.hit("w", {"id": "a"})
    assert isinstance(verdict, Resumed)
    two = start(story, id="a")
    recorded = len(story.journal)
    refused = story.hit("w", {"id": "a"})
    assert isinstance(refused, Refused)
    assert (refused.status, len(story.journal)) == (409, recorded)
    assert f"c-{one}" in refused.detail
    assert f"c-{two}" in refused.detail


@pytest.mark.parametrize(
    ("on_timeout", "status", "incidents", "calls"),
    [
        ("", "failed", ["hold_expired"], []),
        (", on_timeout: fail", "failed", ["hold_expired"], []),
        (", on_timeout: end", "completed", [], []),
        (", on_timeout: late", "running", [], ["late"]),
    ],
)
def test_6_7_a_hold_ends_in_time_and_goes_where_it_says(
    on_timeout: str, status: str, incidents: list[str], calls: list[str]
) -> None:
    """6.7: not a second before; what runs then is a pass of its own, so its calls have keys of their own."""
    after = "  d: {decide: 'false', then: late, else: end}\n  late: {post: remote, path: /late}\n"
    story = waits(f", hold_for: 1 hour{on_timeout}", after=after)
    start(story, id="a")
    story.later(3599)
    assert story.status() == ["held"]
    story.later(1)
    assert (story.status(), story.incidents(), [call.step for call in story.calls()]) == ([status], incidents, calls)
    assert story.only().number == 2


def test_6_7_each_pass_that_comes_to_the_hold_has_its_whole_time() -> None:
    """6.7: the time counts from when it holds."""
    story = waits(", hold_for: 1 hour, on_timeout: end", after="  d: {decide: 'true', then: w}\n")
    start(story, id="a")
    story.later(3000)
    story.hit("w", {"id": "a"})
    story.later(3000)
    assert story.status() == ["held"]
    story.later(600)
    assert story.status() == ["completed"]


def test_6_7_a_hold_of_a_stopped_cycle_waits_for_its_start() -> None:
    """Section 11: held transactions survive."""
    story = waits(", hold_for: 1 hour, on_timeout: end")
    start(story, id="a")
    story.stop()
    story.later(7200)
    assert story.status() == ["held"]
    story.start()
    story.later(0)
    assert story.status() == ["completed"]
