"""Retention: what is over is dropped when it is old enough, by events; what is awaited or promised is not."""

from collections.abc import Callable
from typing import Any

import pytest

from protocol import events as e
from protocol.ages import Ages, Retention, ages_of
from protocol.check import check_project
from protocol.events_retention import BodiesPurged, RetentionApplied
from protocol.evolve import evolve
from protocol.inputs import (
    Accepted,
    Aim,
    CallAnswer,
    CallEnded,
    Duplicate,
    Input,
    Parked,
    Refused,
    Resumed,
    Retain,
    Settle,
)
from protocol.loading import Source
from protocol.verdicts import first_verdict
from runtime.store.digest import digest
from tests.protocol.story import SECOND, Story, begun, cycle
from tests.protocol.test_cycle import ORDER
from tests.protocol.test_links import linked
from tests.protocol.test_pairs import INPUTS, completed, failed, halted, held, queued, running, stopped, unknown
from tests.protocol.test_split import ITEMS, children, order

DAY = 86_400
DEDUPED = cycle("  t: {webhook: shop, dedupe: {header: x-id, window: 10 days}}\n  r: {respond: {body: {n: 1}}}\n")


def assert_replays(story: Story) -> None:
    assert digest(story.replayed()) == digest(story.state)


def is_empty(story: Story) -> bool:
    state = story.state
    return not (state.transactions or state.hits or state.incidents or state.entries())


def test_11_a_completed_transaction_is_removed_with_all_that_belongs_to_it() -> None:
    """Its requests, its incidents and its place in every index go; the cycle counts it no more."""
    story = completed()
    story.later(DAY)
    assert story.retain(completed=DAY + 1, failed=1) == []
    story.later(3 * DAY)
    told = story.retain(completed=4 * DAY, failed=1)
    assert {type(event) for event in told} == {RetentionApplied}
    assert is_empty(story)
    assert story.state.cycle("orders").completed == 0
    assert_replays(story)


@pytest.mark.parametrize("given", [failed, stopped])
def test_11_failed_and_stopped_ones_have_an_age_of_their_own(given: Callable[[], Story]) -> None:
    """What went wrong is looked into later than what went well."""
    story = given()
    story.later(10 * DAY)
    assert story.retain(completed=DAY) == []
    assert story.retain(completed=DAY, failed=10 * DAY)
    assert is_empty(story)
    row = story.state.cycle("orders")
    assert (row.failed, row.stopped) == (0, 0)
    assert_replays(story)


@pytest.mark.parametrize("given", [running, held, queued, halted, unknown])
def test_11_what_is_not_over_is_never_removed(given: Callable[[], Story]) -> None:
    """Held ones go only by an age that says so; those in progress by none."""
    story = given()
    story.at += 3650 * DAY * SECOND
    before = digest(story.state)
    assert story.retain(completed=1, failed=1, bodies=1) == []
    assert digest(story.state) == before


@pytest.mark.parametrize("given", [running, queued])
def test_11_what_is_in_progress_is_not_held(given: Callable[[], Story]) -> None:
    """A pass that waits for a remote has a wake source of its own, however long that takes."""
    story = given()
    story.at += 3650 * DAY * SECOND
    assert story.retain(completed=1, failed=1, held=1, bodies=1) == []


def test_11_a_hold_past_its_age_fails_with_an_incident_and_is_then_kept_as_failed() -> None:
    """Never silently: the incident says so, and the transaction is there to be looked at for the failed age."""
    story = Story(ORDER.replace("    hold_for: 30 days\n", "").replace("    on_timeout: end\n", ""))
    story.hit("placed", {"order": "A1"})
    story.answer({"job_id": 42})
    story.later(20 * DAY)
    assert story.retain(held=20 * DAY + 1, failed=5 * DAY) == []
    story.later(10 * DAY)
    told = story.retain(held=30 * DAY, failed=25 * DAY)
    assert [type(event) for event in told] == [e.IncidentRaised, e.TransactionFailed]
    assert (story.status(), story.incidents()) == (["failed"], ["retention_expired"])
    assert isinstance(story.hit("changed", {"job_id": 42, "status": "Late"}), Parked), "it is no candidate any more"
    story.later(25 * DAY)
    assert story.retain(held=30 * DAY, failed=26 * DAY) == []
    story.retain(held=30 * DAY, failed=25 * DAY)
    assert story.state.transactions == {}
    assert_replays(story)


def test_11_a_hold_that_has_an_end_of_its_own_is_left_to_it() -> None:
    """6.7: `hold_for` is a promise to whoever answers late; only where it can not fire does the age count."""
    story = held()
    story.at += 10 * DAY * SECOND
    assert story.retain(held=DAY) == []
    story.at += 30 * DAY * SECOND
    assert story.retain(held=DAY) == [], "its timer is due, and says where it goes on"
    story.stop()
    assert story.retain(held=DAY), "in a stopped cycle nothing else would ever end it"
    assert story.incidents() == ["retention_expired"]


def test_7_a_call_that_awaits_a_person_expires_too() -> None:
    """Its transaction is held, and nobody came."""
    story = unknown()
    story.later(40 * DAY)
    assert story.retain(held=40 * DAY)
    assert (story.status(), story.incidents()[-1]) == (["failed"], "retention_expired")
    assert story.only().call is None
    assert_replays(story)


def test_11_bodies_go_first_and_leave_a_skeleton() -> None:
    """Ids, status and times stay when the data is gone, until the transaction's own age."""
    story = completed()
    before = story.only()
    told = (before.created, before.updated, before.number, before.step)
    story.later(7 * DAY)
    assert [type(event) for event in story.retain(completed=30 * DAY, failed=30 * DAY, bodies=7 * DAY)] == [
        BodiesPurged,
        BodiesPurged,
    ]
    row = story.only()
    assert (row.created, row.updated, row.number, row.step) == told
    assert (row.status, row.data, row.reached, row.purged) == ("completed", {}, {}, story.at)
    assert all(hit.purged and not hit.key for hit in story.state.hits.values())
    assert story.state.entries() == []
    assert story.retain(completed=30 * DAY, bodies=7 * DAY) == [], "it is done once"
    assert_replays(story)
    story.later(23 * DAY)
    story.retain(completed=30 * DAY, failed=30 * DAY, bodies=7 * DAY)
    assert is_empty(story)
    assert_replays(story)


def test_6_3_a_completed_transaction_is_a_candidate_until_its_data_is_gone() -> None:
    """6.3: until retention removes them; without the data of its earlier steps nothing could run."""
    story = completed()
    story.later(7 * DAY)
    story.retain(completed=30 * DAY)
    assert isinstance(story.hit("changed", {"job_id": 42, "status": "Again"}), Resumed)
    story.later(7 * DAY)
    story.retain(completed=30 * DAY, bodies=7 * DAY)
    assert isinstance(story.hit("changed", {"job_id": 42, "status": "Again"}), Parked)


def test_6_3_a_run_again_makes_a_transaction_young_again() -> None:
    """Ages count from the last change."""
    story = completed()
    story.later(20 * DAY)
    story.hit("changed", {"job_id": 42, "status": "Again"})
    story.later(20 * DAY)
    assert story.retain(completed=30 * DAY) == []


def test_4_a_delivery_key_is_remembered_for_its_whole_window_though_its_transaction_is_gone() -> None:
    """Section 4: exact for the whole window. The answer comes again byte for byte; a nanosecond later it is news."""
    story = Story(DEDUPED)
    first = story.ask("t", {"a": 1}, headers={"x-id": "d1"})
    story.sent()
    story.later(DAY)
    story.retain(completed=3600, failed=3600, bodies=60)
    assert story.state.transactions == {}
    story.at += 9 * DAY * SECOND
    story.retain(completed=3600, failed=3600, bodies=60)
    verdict = story.hit("t", {"a": 1}, headers={"x-id": "d1"})
    assert isinstance(verdict, Duplicate)
    hit = story.state.hit(verdict.hit)
    assert hit.reply == first
    assert first_verdict(hit) == Accepted(hit.id, hit.transaction)
    other = story.hit("t", {"a": 2}, headers={"x-id": "d1"})
    assert isinstance(other, Refused)
    assert other.status == 409
    story.at += 1
    story.retain(completed=3600, failed=3600)
    assert is_empty(story)
    assert isinstance(story.hit("t", {"a": 1}, headers={"x-id": "d1"}), Accepted)
    assert_replays(story)


def test_4_a_repeat_of_a_callback_whose_transaction_is_gone_is_told_resumed_again() -> None:
    """A repeat gets the original answer, whatever became of what it ran."""
    story = held()
    said = story.hit("changed", {"job_id": 42, "status": "Picked"}, headers={"idempotency-key": "k"})
    assert isinstance(said, Resumed)
    story.later(DAY)
    story.retain(completed=DAY)
    again = story.hit("changed", {"job_id": 42, "status": "Picked"}, headers={"idempotency-key": "k"})
    assert again == Duplicate(said.hit)
    assert first_verdict(story.state.hit(said.hit)) == said


def test_4_the_window_of_a_step_that_is_gone_is_as_long_as_failures_are_kept() -> None:
    """The step may be written again, and then the promise counts again."""
    story = Story(DEDUPED)
    story.hit("t", {"a": 1}, headers={"x-id": "d1"})
    story.sent()
    story.deploy(DEDUPED.replace("  t:", "  u:"))
    story.later(20 * DAY)
    story.retain(completed=DAY, failed=30 * DAY)
    assert len(story.state.hits) == 1
    story.later(10 * DAY)
    story.retain(completed=DAY, failed=30 * DAY)
    assert is_empty(story)


def test_8_a_link_is_known_while_the_call_that_made_it_is_open() -> None:
    """Section 8: exactly once. After a crash the parent makes the call again, however long the child is over."""
    story, call, hit = linked()
    accepted = story.put(hit)
    assert isinstance(accepted, Accepted)
    story.answer({}, transaction=accepted.transaction)
    story.later(30 * DAY)
    story.retain(completed=DAY, failed=DAY, bodies=DAY, cycle="child")
    assert accepted.transaction not in story.state.transactions
    assert isinstance(story.put(hit), Duplicate)
    (reply,) = story.answers(accepted.hit)
    told = CallAnswer(reply.status, reply.headers, reply.body, accepted.transaction, "child")
    story.put(CallEnded("parent", story.at, call.transaction, call.step, 1, 0, told))
    story.retain(completed=DAY, failed=DAY, cycle="child")
    assert [row.cycle for row in story.state.hits.values()] == ["parent"]
    assert story.state.transaction(call.transaction).children == [f"child-{accepted.transaction}"]
    assert_replays(story)


def test_8_a_child_that_ends_after_its_parent_is_gone_tells_nobody() -> None:
    """A parent that failed meanwhile is removed; the answer finds no one, and that is no defect."""
    story, call, hit = linked()
    accepted = story.put(hit)
    assert isinstance(accepted, Accepted)
    story.stop(cycle="parent")
    story.later(DAY)
    story.retain(failed=DAY, cycle="parent")
    assert call.transaction not in story.state.transactions
    story.answer({}, transaction=accepted.transaction)
    (reply,) = story.answers(accepted.hit)
    told = CallAnswer(reply.status, reply.headers, reply.body)
    story.put(CallEnded("parent", story.at, call.transaction, call.step, 1, 0, told))
    assert story.latest == []
    story.later(DAY)
    story.retain(completed=DAY, cycle="child")
    assert story.state.hits == {}


def test_9_a_part_of_a_split_holds_on_without_its_parent_and_the_request_that_began_it() -> None:
    """Section 9: the parts refer to what began them, and outlive it."""
    story = Story(ITEMS)
    parent = order(story, "tea!")
    (part,) = children(story, parent)
    story.later(30 * DAY)
    story.retain(completed=DAY, failed=DAY)
    assert list(story.state.transactions) == [part.id]
    assert story.state.hits == {}
    assert part.parent is not None
    assert part.parent.transaction == parent.id
    assert isinstance(story.hit("back", {"sku": "tea!"}), Resumed)
    assert story.state.transaction(part.id).status == "completed"
    assert_replays(story)


def test_9_wait_all_counts_what_came_though_it_was_removed_since() -> None:
    """Section 9: it counts, it does not look."""
    story = Story(ITEMS)
    parent = order(story, "tea", "jam")
    tea, jam = children(story, parent)
    story.answer({}, transaction=tea.id)
    story.later(DAY)
    story.retain(completed=DAY, failed=DAY)
    assert list(story.state.transactions) == [jam.id]
    story.answer({}, transaction=jam.id)
    assert story.calls()[-1].request.body == b'{"picked":2}'
    assert_replays(story)


def test_6_7_an_exit_taken_after_the_request_was_purged_answers_nobody_twice() -> None:
    """A hold outlives what began it only in a part of a split; there the request may be a skeleton or gone."""
    text = ITEMS.replace("next: end}", "hold_for: 9 days, on_timeout: late, next: end}") + "  late: {respond: {}}\n"
    for completed_age, bodies in ((DAY, 0), (30 * DAY, DAY)):
        story = Story(text)
        parent = order(story, "tea!")
        (part,) = children(story, parent)
        answered = len(story.replies())
        story.at += 2 * DAY * SECOND
        story.retain(completed=completed_age, failed=DAY, bodies=bodies)
        story.later(8 * DAY)
        assert story.state.transaction(part.id).status == "completed"
        assert len(story.replies()) == answered
        assert story.incidents()[-1:] == ["already_answered"]
        assert_replays(story)


def test_6_5_requests_that_expired_and_incidents_about_no_transaction_have_the_failed_age() -> None:
    """A parked request that nothing came for is a failure of somebody's; its incident goes with it."""
    story = Story(ORDER)
    assert isinstance(story.hit("changed", {"job_id": 1, "status": "x"}), Parked)
    assert story.retain(completed=1, failed=1) == [], "parked is not over"
    story.later(DAY)
    assert story.incidents() == ["hit_expired"]
    assert story.retain(completed=1) == []
    story.later(DAY)
    story.retain(failed=DAY)
    assert is_empty(story)
    assert_replays(story)


def test_12_usage_is_kept() -> None:
    """Section 12: what was metered is counted for ever."""
    story = completed()
    before = dict(story.state.usages)
    story.later(4 * DAY)
    story.retain(completed=1, failed=1)
    assert is_empty(story)
    assert story.state.usages == before


def test_11_a_turn_of_many_holds_is_bounded() -> None:
    """What one turn can not hold is offered again."""
    story = Story(ORDER.replace("    hold_for: 30 days\n", "").replace("    on_timeout: end\n", ""))
    for job in range(3):
        accepted = story.hit("placed", {"order": f"A{job}"})
        assert isinstance(accepted, Accepted)
        story.answer({"job_id": job}, transaction=accepted.transaction)
    story.later(DAY)
    told = story.retain(held=DAY)
    assert sum(isinstance(event, e.TransactionFailed) for event in told) == 3


@pytest.mark.parametrize("when", [name for name in INPUTS if name not in ("callback", "stray", "trigger", "repeat")])
def test_an_input_about_what_was_removed_means_nothing(when: str) -> None:
    """Timers, answers and orders come late; each finds nobody, and none is a defect."""
    story = completed()
    before = story.only()
    hit = before.hit
    story.later(30 * DAY)
    given: Input = INPUTS[when](story)
    story.retain(completed=DAY, failed=DAY)
    assert not {before.id, hit} & {*story.state.transactions, *story.state.hits}
    verdict = story.put(given)
    if isinstance(given, Settle | Aim):  # A request that is to be aimed is parked, and so still there.
        assert isinstance(verdict, Refused)
        assert verdict.status == 404
    assert not {"CallAnswered", "HoldExpired", "HitExpired", "ReplySent"} & set(story.names())
    assert_replays(story)


ABOUT: list[Callable[[int, int], Any]] = [
    lambda one, _: e.StepCompleted("orders", 1, one, "book", {}, "changed"),
    lambda one, _: e.DecisionTaken("orders", 1, one, "despatched", "end"),
    lambda one, _: e.TransactionHeld("orders", 1, one, "changed", ["1"], 0),
    lambda one, _: e.HoldExpired("orders", 1, one, "changed", "end"),
    lambda one, _: e.TransactionCompleted("orders", 1, one),
    lambda one, _: e.TransactionFailed("orders", 1, one, "book", "x"),
    lambda one, _: e.TransactionStopped("orders", 1, one),
    lambda one, _: e.TransactionSplit("orders", 1, one, "book", 0, {}, "end"),
    lambda one, _: e.TransactionGathered("orders", 1, one, "book"),
    lambda one, _: e.CallAnswered("orders", 1, one, "book", 1, 200, {}, b""),
    lambda one, _: e.CallFailed("orders", 1, one, "book", 1, "sent", "x"),
    lambda one, _: e.CallUnknown("orders", 1, one, "book", 1, waits=True),
    lambda one, _: e.CallSettled("orders", 1, one, "book", "done"),
    lambda one, _: e.WaitStarted("orders", 1, one, "book", 9, "delay"),
    lambda one, _: e.WaitEnded("orders", 1, one, "book"),
    lambda one, hit: e.PassStarted("orders", 1, one, hit, "changed", 2),
    lambda one, hit: e.HitMatched("orders", 1, hit, one, []),
    lambda _, hit: e.HitParked("orders", 1, hit, ["1"], 9, "early"),
    lambda _, hit: e.HitExpired("orders", 1, hit),
    lambda _, hit: e.ReplyBuilt("orders", 1, hit, 200, {}, b""),
    lambda _, hit: e.ReplySent("orders", 1, hit),
    lambda _, hit: e.ReplyDetached("orders", 1, hit, "gone"),
    lambda _, hit: e.HitDuplicated("orders", 1, hit),
    lambda one, hit: BodiesPurged("orders", 1, [one], [hit]),
    lambda one, hit: RetentionApplied("orders", 1, [one], [hit], [one]),
]


@pytest.mark.parametrize("about", ABOUT, ids=lambda about: type(about(1, 1)).__name__)
def test_an_event_about_what_was_removed_changes_nothing(about: Callable[[int, int], Any]) -> None:
    """Rule 4 of `evolve`: it accepts every event ever journaled."""
    story = completed()
    one, hit = story.only().id, story.only().hit
    story.later(DAY)
    story.retain(completed=1, failed=1)
    before = digest(story.state)
    evolve(story.state, about(one, hit), len(story.journal))
    assert digest(story.state) == before


@pytest.mark.parametrize("about", ABOUT[:22], ids=lambda about: type(about(1, 1)).__name__)
def test_an_event_about_what_never_was_is_a_defect(about: Callable[[int, int], Any]) -> None:
    """The journal and the state do not belong together; going on would hide it."""
    story = completed()
    story.later(DAY)
    story.retain(completed=1, failed=1)
    with pytest.raises(KeyError):
        evolve(story.state, about(900, 900), 901)


def test_an_incident_about_what_was_removed_is_kept_as_one_about_nothing() -> None:
    """What a person should know is told all the same, and goes with the next round."""
    story = completed()
    one = story.only().id
    story.later(DAY)
    story.retain(completed=1, failed=1)
    evolve(story.state, e.IncidentRaised("orders", story.at, one, "book", "filtered", "y", "info"), 900)
    assert list(story.state.incidents) == [900]


def test_a_row_that_young_ones_refer_to_is_offered_in_vain() -> None:
    """The core looks again at what is named: the store that was asked may be behind."""
    story = completed()
    ages = Ages(DAY * SECOND, DAY * SECOND, DAY * SECOND, DAY * SECOND)
    everything = (tuple(story.state.transactions), tuple(story.state.hits), (1, 2, 3))
    before = digest(story.state)
    story.put(Retain("orders", story.at, ages, *everything))
    assert story.latest == []
    assert digest(story.state) == before


# -- ages


def test_an_age_is_the_cycles_own_else_the_servers_else_the_default() -> None:
    """30 and 90 days for what is over; holds and data go by no age of their own unless one is said."""
    day = DAY * SECOND
    assert ages_of() == Ages(30 * day, 90 * day, 0, 0)
    server = Retention(completed="10 days", bodies="2 days")
    assert ages_of(Retention(completed="forever", held="1 day"), server) == Ages(0, 90 * day, day, 2 * day)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("completed: 5 fortnights", "a length of time is a number and a unit"),
        ("failed: 99999 days", "at most 3660 days"),
        ("held: never", "must be written as e.g. 30 days, or forever"),
        ("bodys: 7 days", "is no key here"),
        ("bodies: 7", "must be written as e.g. 30 days, or forever"),
    ],
)
def test_check_names_the_age_that_is_none(said: str, rule: str) -> None:
    """`check` tells where it is written and what it may be."""
    text = cycle("  t: {webhook: shop}\n  r: {respond: {}}\n", rules=f"{{retention: {{{said}}}}}")
    (fault,) = check_project([Source("c.cycle.yaml", text)])[1]
    assert "settings.retention" in str(fault)
    assert rule in str(fault)


def test_an_age_that_is_one_passes_and_says_nothing_of_what_it_leaves_out() -> None:
    """A definition without ages keeps its hash."""
    text = cycle("  t: {webhook: shop}\n  r: {respond: {}}\n", rules="{retention: {completed: 1 week, held: forever}}")
    definitions, faults = check_project([Source("c.cycle.yaml", text)])
    assert not faults
    assert ages_of(definitions["c"].settings.retention).completed == 7 * DAY * SECOND


def test_5_4_an_answer_goes_with_the_data_once_nobody_may_ask_for_it_again() -> None:
    """Section 5.4: a request without a delivery key has no repeats; a caller who still waits keeps everything."""
    story = begun("  r: {respond: {body: {n: 1}}}\n")
    story.at += DAY * SECOND
    story.retain(completed=9 * DAY, bodies=DAY)
    assert [hit.reply is None for hit in story.state.hits.values()] == [False]
    story.sent()
    story.retain(completed=9 * DAY, bodies=DAY)
    row, hit = story.only(), next(iter(story.state.hits.values()))
    assert (row.purged, hit.purged, hit.reply) == (story.at, story.at, None)
