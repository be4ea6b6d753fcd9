"""Redrive (section 13): a hit again, a failed transaction from where it failed, a transaction from its start."""

from typing import Any

import pytest

from protocol.cycle import decide
from protocol.events import CallIntended, Origin, TransactionSplit
from protocol.events_redrive import HitRedriven, RedriveOrdered
from protocol.inputs import Hit, Ordered, OrderRedrive, Redriven, Refused
from protocol.state import Lineage, TransactionRow
from tests.protocol.story import Story, begun, cycle
from tests.protocol.test_cycle import ORDER

CALL = "  one: {post: remote, path: /1}\n"
RULES = "{on_error: stop_transaction}"
TWO = "  one: {post: remote, path: /1}\n  two: {post: remote, path: /2, body: {got: '{{ one.body.n }}'}}\n"
ITEMS = """
  parts: {split: t.parts}
  work: {post: remote, path: "/{{ parts.n }}"}
  all: {wait_all: true}
  told: {post: remote, path: /told, body: {count: "{{ all.count }}"}}
"""
ASKED = "  answer: {respond: {body: {sku: '{{ hit.body.sku }}'}}}\n"
TARGET = cycle("  t: {webhook: shop}\n" + CALL, name="d", rules=RULES)


def latest(story: Story) -> TransactionRow:
    """The transaction that began last."""
    return story.state.transaction(max(story.state.transactions))


def failed(steps: str = TWO, body: Any = None, status: int = 422) -> Story:
    """A transaction whose first call was answered and whose second one failed."""
    story = begun(steps, body, rules=RULES)
    story.answer({"n": 1})
    story.answer(None, status)
    return story


def reason(verdict: Any) -> str:
    """Why an item was refused."""
    assert isinstance(verdict, Refused), verdict
    return verdict.detail


def test_13_a_failed_transaction_resumes_at_its_failed_step_with_the_data_so_far() -> None:
    """Section 13: what was done is not done again, what comes after is; the old one is left as it was."""
    story = failed()
    old = story.only()
    verdict = story.redrive("resume", old.id)
    new = latest(story)
    assert verdict == Redriven(new.hit, new.id)
    assert story.names() == ["HitAccepted", "HitRedriven", "TransactionResumed", "CallIntended"]
    call = story.calls()[-1]
    assert (call.transaction, call.step, call.request.body) == (new.id, "two", b'{"got":1}')
    assert (old.status, old.redriven) == ("failed", [new.id])
    assert new.lineage == Lineage("o1", "resume", old.hit, old.id)
    story.answer({}, transaction=new.id)
    assert story.status() == ["failed", "completed"]
    assert [one.step for one in story.calls()] == ["one", "two", "two"]


def test_13_a_transaction_reruns_from_its_start_as_a_new_one() -> None:
    """Section 13: the same request, every step again, calls under keys of their own."""
    story = failed(TWO, {"sku": "tea"})
    old = story.only()
    verdict = story.redrive("rerun", old.id)
    new = latest(story)
    assert verdict == Redriven(new.hit, new.id)
    hit = story.state.hit(new.hit)
    assert (hit.body, hit.lineage) == (b'{"sku":"tea"}', Lineage("o1", "rerun", old.hit, old.id))
    keys = [call.idempotency_key for call in story.calls()]
    assert keys[-1] == f"c-{new.id}.one.1"
    assert len(set(keys)) == len(keys)
    assert (new.lineage, old.redriven) == (hit.lineage, [new.id])
    assert story.state.hit(old.hit).redriven == [new.hit]


@pytest.mark.parametrize(("current", "path"), [(False, "/1"), (True, "/new")])
def test_13_a_rerun_takes_the_original_or_the_current_definition(current: bool, path: str) -> None:
    """Section 13."""
    story = failed()
    story.deploy(cycle("  t: {webhook: shop}\n" + TWO.replace("/1", "/new"), rules=RULES))
    story.redrive("rerun", story.only().id, current=current)
    assert story.calls()[-1].request.url == path


@pytest.mark.parametrize(("current", "path"), [(False, "/2"), (True, "/new")])
def test_13_a_resume_takes_the_original_or_the_current_definition(current: bool, path: str) -> None:
    """Section 13."""
    story = failed()
    story.deploy(cycle("  t: {webhook: shop}\n" + TWO.replace("/2", "/new"), rules=RULES))
    story.redrive("resume", story.only().id, current=current)
    assert story.calls()[-1].request.url == path


def test_13_a_step_that_is_gone_can_be_resumed_with_the_original_definition_only() -> None:
    """Section 13: the current one is taken when asked for, and when the step still exists."""
    story = failed()
    story.deploy(cycle("  t: {webhook: shop}\n" + CALL, rules=RULES))
    assert "two is gone" in reason(story.redrive("resume", story.only().id, current=True))
    assert isinstance(story.redrive("resume", story.only().id), Redriven)


@pytest.mark.parametrize(
    ("status", "kept"), [(200, True), (303, True), (400, False), (409, False), (422, False), (500, True), (504, True)]
)
def test_13_a_resumed_call_keeps_its_key_unless_it_was_refused(status: int, kept: bool) -> None:
    """Section 13: a remote that may have acted must not act twice; a refusal that it remembers must not come again."""
    story = begun("  one: {post: remote, path: /1, fields: {n: {type: integer, required: true}}}\n", rules=RULES)
    story.answer({}, status)
    old = story.only()
    story.redrive("resume", old.id)
    first, again = story.calls()
    assert first.idempotency_key == f"c-{old.id}.one.1"
    assert again.idempotency_key == (first.idempotency_key if kept else f"c-{latest(story).id}.one.1")


def test_13_a_call_without_an_answer_keeps_its_key_and_its_request() -> None:
    """Section 13: under one key a remote may refuse what is not the same, and this request names its transaction."""
    story = begun("  one: {post: remote, path: /1, body: {by: '{{ transaction.id }}'}}\n", rules=RULES)
    story.no_answer()
    story.redrive("resume", story.only().id)
    first, again = story.calls()
    assert (again.idempotency_key, again.request) == (first.idempotency_key, first.request)


def test_13_a_key_is_kept_along_a_line_of_resumes_though_a_later_attempt_is_refused() -> None:
    """Section 13: the refusal says nothing of the attempt before it, whose fate nobody knows."""
    story = begun(CALL, rules=RULES)
    story.no_answer()
    story.redrive("resume", story.only().id)
    story.answer(None, 409, transaction=latest(story).id)
    story.redrive("resume", latest(story).id, "o2")
    assert len({call.idempotency_key for call in story.calls()}) == 1
    assert len({call.transaction for call in story.calls()}) == 3


def test_13_a_key_is_kept_when_a_crash_left_an_attempt_in_doubt() -> None:
    """Sections 7 and 13: the attempt after the restart was refused, the one before it may have acted."""
    story = begun(CALL, rules=RULES)
    story.restart()
    story.answer(None, 422)
    story.redrive("resume", story.only().id)
    assert len({call.idempotency_key for call in story.calls()}) == 1


def test_13_the_current_definition_renders_a_kept_call_anew() -> None:
    """Section 13: that is what it was asked for; the key stays, so a remote that honours it still acts once."""
    story = begun(CALL, rules=RULES)
    story.no_answer()
    story.deploy(cycle("  t: {webhook: shop}\n" + CALL.replace("/1", "/new"), rules=RULES))
    story.redrive("resume", story.only().id, current=True)
    first, again = story.calls()
    assert (again.idempotency_key, again.request.url) == (first.idempotency_key, "/new")


def test_13_a_call_that_surely_was_not_sent_gets_a_new_key() -> None:
    """Section 13: nothing can have happened under the old one."""
    story = begun(CALL, rules=RULES)
    story.unreachable()
    story.redrive("resume", story.only().id)
    first, again = story.calls()
    assert first.idempotency_key != again.idempotency_key


def test_13_what_is_made_after_the_resumed_call_has_keys_of_its_own() -> None:
    """Section 13: the kept key is that of one call."""
    story = begun(TWO, rules=RULES)
    story.no_answer()
    story.redrive("resume", story.only().id)
    story.answer({"n": 1}, transaction=latest(story).id)
    assert story.calls()[-1].idempotency_key == f"c-{latest(story).id}.two.1"


@pytest.mark.parametrize(("said", "status"), [("resend", "running"), ("done", "completed"), ("fail", "failed")])
def test_13_a_call_that_is_not_safe_to_repeat_waits_for_a_person_when_it_may_have_acted(said: Any, status: str) -> None:
    """Sections 7 and 13: its key does not protect it, so nobody sends it again unasked."""
    story = begun("  one: {post: remote, path: /1, safe_to_repeat: no}\n", rules=RULES)
    story.no_answer()
    story.redrive("resume", story.only().id)
    new = latest(story)
    assert story.names()[-2:] == ["CallWithheld", "IncidentRaised"]
    assert (new.status, len(story.calls())) == ("held", 1)
    story.restart()
    assert len(story.calls()) == 1
    story.settle(said, transaction=new.id)
    assert latest(story).status == status
    assert len(story.calls()) == (2 if said == "resend" else 1)


def test_13_a_refused_call_that_is_not_safe_to_repeat_is_made_again() -> None:
    """Section 13: nothing happened, so there is nothing to repeat."""
    story = begun("  one: {post: remote, path: /1, safe_to_repeat: no}\n", rules=RULES)
    story.answer(None, 422)
    story.redrive("resume", story.only().id)
    assert len(story.calls()) == 2


def test_13_a_link_to_what_failed_runs_its_target_anew_when_resumed() -> None:
    """Section 13: the fate of a linked run is known, and under the old key its old answer would come again."""
    story = Story(cycle("  t: {webhook: shop}\n  ask: {post: other, url: 'cycle:d/t'}\n", rules=RULES), TARGET)
    story.hit("t")
    story.answer(None, 500)
    story.redrive("resume", story.only().id)
    first, again = story.calls()
    assert first.idempotency_key != again.idempotency_key


def test_13_a_stopped_transaction_resumes_where_it_was_stopped_under_the_key_of_its_open_call() -> None:
    """Sections 11 and 13: nobody heard what became of the call."""
    story = begun(TWO, rules=RULES)
    story.stop()
    story.start()
    story.redrive("resume", story.only().id)
    first, again = story.calls()
    assert (again.step, again.idempotency_key) == ("one", first.idempotency_key)


def test_13_callbacks_find_a_resumed_transaction_and_those_that_are_parked_are_its_own() -> None:
    """Sections 6.3, 6.5 and 13: it has reached what the old one had, from the moment it goes on."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    story.answer({"job_id": 42})
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    story.answer(None, 422)
    (old,) = story.state.transactions.values()
    assert old.reached == {}
    story.hit("changed", {"job_id": 42, "status": "Late"})
    story.hit("changed", {"job_id": 43, "status": "Other"})
    parked = [hit.id for hit in story.state.hits.values() if hit.status == "parked"]
    story.redrive("resume", old.id)
    new = latest(story)
    assert new.queue == parked[:1]
    assert story.state.hit(parked[1]).status == "parked"
    story.answer(None, transaction=new.id)
    assert (new.status, new.number) == ("completed", 3)
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    assert (new.status, new.number) == ("running", 4)


def test_13_a_webhook_that_matches_otherwise_in_the_current_version_is_not_reached() -> None:
    """Section 13: its key was made for another match."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    story.answer({"job_id": 42})
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    story.answer(None, 422)
    story.deploy(ORDER.replace("match: {job_id: book.job_id}", "match: {status: placed.order}"))
    story.redrive("resume", story.only().id, current=True)
    assert latest(story).reached == {}


def test_13_a_hold_that_expired_holds_again_when_resumed() -> None:
    """Sections 6.7 and 13: for its full time, by the value it had."""
    story = Story(ORDER.replace("on_timeout: end", "on_timeout: fail"))
    story.hit("placed", {"order": "A1"})
    story.answer({"job_id": 42})
    story.later(31 * 86_400)
    story.redrive("resume", story.only().id)
    new = latest(story)
    assert (new.status, new.until) == ("held", story.at + 30 * 86_400 * 10**9)
    story.hit("changed", {"job_id": 42, "status": "Picked"})
    assert latest(story).status == "completed"


def test_13_a_hit_is_delivered_again_through_routing_past_its_delivery_key() -> None:
    """Section 13: it is a new hit, whatever its sender called the old one; the sender's repeat is still a repeat."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"}, headers={"idempotency-key": "k1"})
    story.answer(None, 500)
    old = story.only()
    verdict = story.redrive("redeliver", old.hit)
    new = latest(story)
    assert verdict == Redriven(new.hit, new.id)
    assert (new.lineage, old.redriven) == (Lineage("o1", "redeliver", old.hit, old.id), [new.id])
    story.hit("placed", {"order": "A1"}, headers={"idempotency-key": "k1"})
    assert story.names() == ["HitDuplicated"]


def test_13_a_callback_is_delivered_again_to_whatever_matches_it_now() -> None:
    """Sections 6.3 and 13; a held transaction takes it as any other."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    story.answer({"job_id": 42})
    story.hit("changed", {"job_id": 42, "status": "Picked"})
    hit = story.only().hit
    assert story.redrive("redeliver", hit) == Redriven(story.only().hit, story.only().id)
    assert (story.only().number, story.state.hit(story.only().hit).lineage) == (
        3,
        Lineage("o1", "redeliver", hit, story.only().id),
    )


def test_13_a_hit_that_expired_is_parked_anew_when_nothing_matches_it_yet() -> None:
    """Sections 6.5 and 13."""
    story = Story(ORDER)
    story.hit("changed", {"job_id": 42, "status": "Picked"})
    (hit,) = story.state.hits.values()
    assert "parked" in reason(story.redrive("redeliver", hit.id))
    story.later(601)
    verdict = story.redrive("redeliver", hit.id, "o2")
    assert isinstance(verdict, Redriven)
    assert (verdict.transaction, story.state.hit(verdict.hit).status) == (0, "parked")


def test_13_a_redelivered_request_meets_the_contract_of_now() -> None:
    """Section 13: the same checks as at the door, with the words of the door."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    story.answer(None, 500)
    more = "fields: {order: {type: text, required: true}, total: {type: decimal, required: true}}"
    story.deploy(ORDER.replace("fields: {order: {type: text, required: true}}", more))
    assert "total" in reason(story.redrive("redeliver", story.only().hit))
    assert "total" in reason(story.redrive("rerun", story.only().id, current=True))
    assert isinstance(story.redrive("rerun", story.only().id), Redriven)


def test_13_nobody_waits_for_what_is_redriven_and_its_answer_is_kept_without_trouble() -> None:
    """Sections 5 and 13: the answer is built and recorded; the first caller's answer stays."""
    story = begun(ASKED + TWO, {"sku": "tea"}, rules=RULES)
    story.answer(None, 422)
    old = story.only()
    for action in ("rerun", "resume"):
        story.redrive(action, old.id, action, again=True)
    story.redrive("redeliver", old.hit, again=True)
    assert [body for _, body in story.replies()] == [b'{"sku":"tea"}'] * 3
    assert "already_answered" not in story.incidents()
    assert {hit.fate for hit in story.state.hits.values()} == {"none", "waiting"}


def test_13_a_respond_that_failed_answers_nobody_when_resumed() -> None:
    """Section 13: the request itself goes along, since the definition reads it."""
    story = begun(CALL + ASKED, {"sku": "tea"}, rules=RULES)
    story.answer(None, 422)
    story.redrive("resume", story.only().id)
    story.answer({}, transaction=latest(story).id)
    assert latest(story).status == "completed"
    assert story.replies()[-1] == (200, b'{"sku":"tea"}')


@pytest.mark.parametrize("action", ["resume", "rerun", "redeliver"])
def test_13_an_order_acts_on_an_item_once_also_across_a_restart(action: Any) -> None:
    """Section 13: given the order twice, then there is one redrive, and the second one is told of it."""
    story = failed()
    old = story.only()
    item = old.hit if action == "redeliver" else old.id
    done = story.redrive(action, item)
    assert isinstance(done, Redriven)
    story.restart()
    again = story.redrive(action, item)
    assert again == Redriven(done.hit, done.transaction, already=True)
    assert not story.latest
    assert len(story.state.transactions) == 2


@pytest.mark.parametrize("action", ["resume", "rerun", "redeliver"])
def test_13_another_order_redrives_an_item_only_when_asked_to_do_so_again(action: Any) -> None:
    """Section 13: what failed stays failed, so the next filter for failures finds it too."""
    story = failed()
    item = story.only().hit if action == "redeliver" else story.only().id
    story.redrive(action, item)
    assert "it was redriven as" in reason(story.redrive(action, item, "o2"))
    assert isinstance(story.redrive(action, item, "o2", again=True), Redriven)


def test_13_an_order_does_not_redrive_what_it_made() -> None:
    """Section 13: what fails again is found by the same filter, and is another order's business."""
    story = failed()
    story.redrive("resume", story.only().id)
    story.answer(None, 422, transaction=latest(story).id)
    assert reason(story.redrive("resume", latest(story).id)) == "this order made it"
    assert isinstance(story.redrive("resume", latest(story).id, "o2"), Redriven)


@pytest.mark.parametrize("action", ["resume", "rerun", "redeliver"])
@pytest.mark.parametrize("mode", ["stop", "finish"])
def test_13_a_cycle_that_is_not_running_redrives_nothing(action: Any, mode: str) -> None:
    """Section 13: refused with the reason, also where new requests would be collected."""
    story = failed()
    item = story.only().hit if action == "redeliver" else story.only().id
    story.stop(mode)
    assert "is stopped" in reason(story.redrive(action, item))
    assert not story.latest
    story.start()
    assert isinstance(story.redrive(action, item), Redriven)


@pytest.mark.parametrize(
    ("action", "why"), [("resume", "running"), ("rerun", "in progress"), ("redeliver", "in progress")]
)
def test_13_what_is_in_progress_is_not_redriven(action: Any, why: str) -> None:
    """Section 13: it would run twice at once."""
    story = begun(TWO, rules=RULES)
    item = story.only().hit if action == "redeliver" else story.only().id
    assert why in reason(story.redrive(action, item))


def test_13_a_completed_transaction_is_rerun_and_not_resumed() -> None:
    """Section 13: nothing of it failed."""
    story = begun("", rules=RULES)
    assert "it is completed" in reason(story.redrive("resume", story.only().id))
    assert isinstance(story.redrive("rerun", story.only().id), Redriven)


def test_13_an_unknown_call_is_settled_before_its_transaction_is_rerun() -> None:
    """Sections 7 and 13: a person has to look first."""
    story = begun("  one: {post: remote, path: /1, safe_to_repeat: no}\n", rules=RULES)
    story.restart()
    assert "say resend, done or fail" in reason(story.redrive("rerun", story.only().id))


@pytest.mark.parametrize("action", ["resume", "rerun"])
def test_13_a_part_of_a_split_is_redriven_by_itself(action: Any) -> None:
    """Sections 9 and 13: with its item; its siblings are left alone, and `wait_all` goes on once more with it."""
    story = begun(ITEMS, {"parts": [{"n": 1}, {"n": 2}]}, rules=RULES)
    _, first, second = story.state.transactions.values()
    story.answer({}, transaction=first.id)
    story.answer(None, 422, transaction=second.id)
    assert story.calls()[-1].request.body == b'{"count":1}'
    story.redrive(action, second.id)
    new = latest(story)
    assert story.calls()[-1].request.url == "/2"
    assert (new.data["parts"], new.parent) == ({"n": 2}, second.parent)
    story.answer({}, transaction=new.id)
    assert first.status == "completed"
    assert sum(call.request.url == "/told" for call in story.calls()) == 2


@pytest.mark.parametrize("action", ["resume", "rerun"])
def test_13_what_a_wait_all_began_is_redriven_without_a_request(action: Any) -> None:
    """Sections 9 and 13: it has its count; the order acts on it once all the same."""
    story = begun(ITEMS, {"parts": [{"n": 1}]}, rules=RULES)
    part = list(story.state.transactions.values())[1]
    story.answer({}, transaction=part.id)
    gathered = latest(story)
    story.answer(None, 422, transaction=gathered.id)
    done = story.redrive(action, gathered.id)
    assert done == Redriven(0, latest(story).id)
    assert story.calls()[-1].request.body == b'{"count":1}'
    story.restart()
    assert story.redrive(action, gathered.id) == Redriven(0, latest(story).id, already=True)


def test_13_a_split_that_was_stopped_resumes_at_the_item_it_came_to() -> None:
    """Sections 9, 11 and 13: no item is begun twice."""
    story = Story(cycle("  t: {webhook: shop, fields: {parts: list}}\n  parts: {split: t.parts}\n" + CALL, rules=RULES))
    admitted = story.admit("t", {"parts": list(range(100))})
    assert isinstance(admitted, Hit)
    story.journal += decide(story.state, admitted, len(story.journal)).events  # Its rest is cut off by the stop.
    parent = min(story.state.transactions)
    assert 0 < story.state.transaction(parent).split < 100
    story.stop()
    story.start()
    story.redrive("resume", parent)
    items = [event.item for event in story.journal if isinstance(event, TransactionSplit)]
    assert items == list(range(100))


def test_13_an_order_fixes_its_items_once_and_refuses_another_meaning() -> None:
    """Section 13: given twice, the items of the first time stand, whatever fits the filter by then."""
    story = failed()

    def order(*items: int, page: str = "", digest: str = "d") -> Any:
        return story.put(OrderRedrive("", story.at, "o1", page, "resume", digest, items))

    first = order(5, 6)
    assert isinstance(first, Ordered)
    event = story.journal[first.seq]
    assert isinstance(event, RedriveOrdered)
    assert event.items == [5, 6]
    story.restart()
    assert order(7) == first
    assert order(7, page="5") == Ordered(len(story.journal) - 1)
    refused = order(7, digest="e")
    assert isinstance(refused, Refused)
    assert (refused.status, story.names()) == (409, [])


def test_12_what_is_redriven_is_metered_as_any_hit() -> None:
    """Sections 12 and 13: the hit that a redrive is, and the attempts it makes."""
    story = failed()
    before = sum(row.tasks for row in story.state.usages.values())
    story.redrive("resume", story.only().id)
    assert sum(row.tasks for row in story.state.usages.values()) == before + 2
    assert [type(event) for event in story.latest if isinstance(event, HitRedriven | CallIntended)] == [
        HitRedriven,
        CallIntended,
    ]


def test_13_a_rerun_with_a_current_definition_that_begins_elsewhere_is_refused() -> None:
    """Section 13: the request belongs to another trigger, whether or not its step is still there."""
    story = failed()
    story.deploy(cycle("  u: {webhook: shop}\n" + TWO, rules=RULES))
    assert "t does not begin transactions" in reason(story.redrive("rerun", story.only().id, current=True))
    moved = "  u: {webhook: shop}\n" + CALL + "  t: {webhook: shop, match: {n: one.body.n}}\n"
    story.deploy(cycle(moved, rules=RULES))
    assert "t does not begin transactions" in reason(story.redrive("rerun", story.only().id, current=True))
    assert "no webhook" in reason(redelivered_without_its_step())


def redelivered_without_its_step() -> Any:
    """A request for a step that no version has any more."""
    story = failed()
    story.deploy(cycle("  u: {webhook: shop}\n" + TWO, rules=RULES))
    return story.redrive("redeliver", story.only().hit)


def test_13_what_was_resumed_reruns_from_the_start_of_the_first() -> None:
    """Section 13: its own first step was somewhere in the middle."""
    story = failed(TWO, {"sku": "tea"})
    story.redrive("resume", story.only().id)
    story.answer(None, 422, transaction=latest(story).id)
    story.redrive("rerun", latest(story).id, "o2")
    assert latest(story).data["t"] == {"sku": "tea"}
    assert story.calls()[-1].step == "one"


def test_13_what_a_wait_all_began_reruns_after_it_also_when_it_was_resumed_before() -> None:
    """Sections 9 and 13."""
    story = begun(ITEMS, {"parts": [{"n": 1}]}, rules=RULES)
    story.answer({}, transaction=latest(story).id)
    for action, order in (("resume", "o1"), ("rerun", "o2")):
        story.answer(None, 422, transaction=latest(story).id)
        assert isinstance(story.redrive(action, latest(story).id, order), Redriven)  # type: ignore[arg-type]
    assert [call.step for call in story.calls()] == ["work", "told", "told", "told"]
    assert latest(story).data["all"] == {"count": 1}


def test_13_the_bad_answer_of_the_old_call_is_no_data_of_the_resumed_step() -> None:
    """Section 13: the data so far is that before the step."""
    story = begun(CALL, rules=RULES)
    story.answer({"why": "no"}, 422)
    story.deploy(cycle("  t: {webhook: shop}\n" + CALL.replace("/1", "'{{ t.nothing }}'"), rules=RULES))
    story.redrive("resume", story.only().id, current=True)
    assert (latest(story).status, latest(story).data["one"]) == ("failed", {})


def test_13_a_linked_request_is_delivered_again_without_an_answer_to_its_parent() -> None:
    """Sections 8 and 13: the parent's step has had its answer; the depth of the chain goes along."""
    story = Story(TARGET)
    origin = Origin("c", 99, "ask", 1)
    story.hit("t", {}, origin=origin, depth=3, delivery="c-99.ask.1")
    story.answer(None, 422)
    story.redrive("redeliver", story.only().hit)
    hit = story.state.hit(latest(story).hit)
    assert (hit.origin, hit.depth, latest(story).parent, latest(story).depth) == (None, 3, None, 3)
