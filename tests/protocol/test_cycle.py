"""Decisions about hits: what a request to a webhook becomes, whatever comes first (sections 4 to 6)."""

from typing import Any

import pytest

from protocol.inputs import Accepted, Duplicate, Parked, Receipt, Refused, Resumed
from protocol.state import Reply
from tests.protocol.story import Story

ORDER = """
cycle: orders
connectors:
  shop: {}
  warehouse: {base_url: "http://127.0.0.1:9000"}
settings: {on_error: stop_transaction}
steps:
  placed:
    webhook: shop
    fields: {order: {type: text, required: true}}
  book:
    post: warehouse
    path: /shipments
    body: {reference: "{{ placed.order }}"}
    fields: {job_id: {type: integer, required: true}}
  changed:
    webhook: shop
    fields: {job_id: {type: integer, required: true}, status: {type: text, required: true}}
    match: {job_id: book.job_id}
    hold_for: 30 days
    on_timeout: end
  despatched:
    decide: {left: changed.status, is: equals, right: Despatched}
    else: end
  tell:
    post: warehouse
    path: /messages
    body: {to: "{{ placed.order }}"}
"""


def held() -> Story:
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    story.answer({"job_id": 42})
    return story


def test_a_trigger_starts_a_transaction_that_runs_to_its_first_call() -> None:
    """Section 6: the pass runs as far as it can in one turn."""
    story = Story(ORDER)
    verdict = story.hit("placed", {"order": "A1"})
    assert isinstance(verdict, Accepted)
    assert story.names() == ["HitAccepted", "TransactionStarted", "PassStarted", "StepCompleted", "CallIntended"]
    (call,) = story.calls()
    assert call.request.body == b'{"reference":"A1"}'
    assert call.idempotency_key == f"orders-{verdict.transaction}.book.1"


def test_an_answered_call_leads_to_the_hold() -> None:
    """6.1: a transaction that reaches a mid-cycle webhook holds there."""
    story = held()
    assert story.status() == ["held"]
    assert story.only().reached == {"changed": ["42"]}
    assert story.only().data["book"]["job_id"] == 42


def test_6_3_every_matching_hit_runs_from_the_webhook_again() -> None:
    """6.3: four statuses make four more passes of one transaction and one message."""
    story = held()
    for number, status in enumerate(["Received", "Picked", "Packed", "Despatched"], 2):
        verdict = story.hit("changed", {"job_id": "42", "status": status})
        assert isinstance(verdict, Resumed)
        assert story.only().number == number
        assert story.only().data["changed"]["status"] == status
    assert [call.step for call in story.calls()] == ["book", "tell"]
    story.answer(None, 204)
    assert story.status() == ["completed"]


def test_6_3_the_most_recent_of_two_transactions_wins_and_ambiguity_is_said() -> None:
    """6.3, 6.6: both match, the later one runs, and the verdict names both."""
    story = held()
    second = story.hit("placed", {"order": "A2"})
    assert isinstance(second, Accepted)
    story.answer({"job_id": 42}, transaction=second.transaction)
    first = min(story.state.transactions)
    assert story.hit("changed", {"job_id": 42, "status": "Picked"}) == Resumed(
        story.state.transaction(second.transaction).hit, second.transaction, (second.transaction, first)
    )


def test_6_4_hits_during_a_pass_queue_behind_it_in_order() -> None:
    """6.4: passes of one transaction run one at a time."""
    story = held()
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    for status in ("Late", "Later"):
        story.hit("changed", {"job_id": 42, "status": status})
    assert len(story.only().queue) == 2
    story.answer(None, 204)
    assert story.only().number == 4
    assert story.only().data["changed"]["status"] == "Later"
    assert story.status() == ["completed"]


def test_6_5_a_callback_before_its_hold_is_parked_and_delivered_in_order() -> None:
    """6.5: even before the call that caused it has returned."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    for status in ("Received", "Picked"):
        assert isinstance(story.hit("changed", {"job_id": 42, "status": status}), Parked)
    assert story.state.cycle("orders").parked == 2
    story.answer({"job_id": 42})
    assert story.only().number == 3
    assert story.only().data["changed"]["status"] == "Picked"
    assert story.state.cycle("orders").parked == 0


def test_6_5_a_parked_hit_expires_with_an_incident() -> None:
    """6.5: parked for ten minutes, then listed as expired."""
    story = Story(ORDER)
    story.hit("changed", {"job_id": 7, "status": "Picked"})
    story.later(601)
    assert story.incidents() == ["hit_expired"]
    assert story.state.cycle("orders").parked == 0


def test_6_7_a_hold_that_times_out_takes_its_exit() -> None:
    """6.7: `on_timeout: end` completes the transaction."""
    story = held()
    story.later(31 * 86_400)
    assert story.status() == ["completed"]


def test_a_thousand_parked_hits_all_run_in_order() -> None:
    """6.4, 6.5: none is lost, whatever a turn can take."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    for number in range(1000):
        story.hit("changed", {"job_id": 42, "status": f"S{number}"})
    story.answer({"job_id": 42})
    assert story.only().number == 1001
    assert story.only().data["changed"]["status"] == "S999"
    assert all(hit.status == "done" for hit in story.state.hits.values())


def test_4_a_delivery_that_comes_again_does_not_run_again() -> None:
    """Section 4: the same key is a duplicate, the same key with another body is refused."""
    story = Story(ORDER)
    headers = {"idempotency-key": "k1"}
    first = story.hit("placed", {"order": "A1"}, headers=headers)
    assert isinstance(first, Accepted)
    assert story.hit("placed", {"order": "A1"}, headers=headers) == Duplicate(first.hit)
    refused = story.hit("placed", {"order": "A2"}, headers=headers)
    assert isinstance(refused, Refused)
    assert refused.status == 409
    story.later(4 * 86_400)
    assert isinstance(story.hit("placed", {"order": "A2"}, headers=headers), Accepted)


def test_4_1_a_stopped_cycle_refuses_or_collects() -> None:
    """4.1: 409, or parked until it starts."""
    story = Story(ORDER)
    story.stop()
    refused = story.hit("placed", {"order": "A1"})
    assert isinstance(refused, Refused)
    assert refused.status == 409
    collecting = Story(ORDER.replace("settings: {", "settings: {while_stopped: collect, "), started=False)
    assert isinstance(collecting.hit("placed", {"order": "A1"}), Parked)
    assert collecting.start() == Receipt("running", resumed=1)
    assert collecting.status() == ["running"]


def test_11_stop_cuts_passes_keeps_queues_and_leaves_holds() -> None:
    """Section 11: what was not begun is kept and runs on start; held transactions survive."""
    story = held()
    second = story.hit("placed", {"order": "A2"})
    assert isinstance(second, Accepted)
    receipt = story.stop()
    assert receipt == Receipt("stopped", cut=1, kept=0, held=1)
    assert story.status() == ["held", "stopped"]


def test_11_stop_during_a_pass_keeps_the_hits_behind_it_for_the_start() -> None:
    """Section 11: hits not yet begun are kept."""
    story = held()
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    story.hit("changed", {"job_id": 42, "status": "Late"})
    assert story.stop() == Receipt("stopped", cut=1, kept=1, held=0)
    assert story.state.cycle("orders").parked == 1
    story.start()
    assert [hit.status for hit in story.state.hits.values()][-1] == "parked"


def test_11_finish_ends_when_the_last_pass_has_ended() -> None:
    """Section 11: `finish` drains first."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    assert story.stop("finish") == Receipt("stopping")
    assert isinstance(story.hit("placed", {"order": "A2"}), Refused)
    story.answer({"job_id": 42})
    assert story.state.cycle("orders").status == "stopped"
    assert story.status() == ["held"]


def test_a_failed_transaction_is_no_candidate_and_its_queue_looks_elsewhere() -> None:
    """6.3: failed transactions do not match; nothing accepted is lost."""
    story = held()
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    story.hit("changed", {"job_id": 42, "status": "Late"})
    story.answer(None, 500)
    assert story.status() == ["failed"]
    assert story.incidents() == ["remote_error"]
    assert story.state.cycle("orders").parked == 1


def test_a_crash_repeats_an_open_call_under_its_key() -> None:
    """Section 7: unknown, and safe to repeat."""
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"})
    story.restart()
    first, second = story.calls()
    assert (first.idempotency_key, first.attempt) == (second.idempotency_key, 1)
    assert second.attempt == 2
    story.answer({"job_id": 1})
    assert story.status() == ["held"]


def test_a_crash_leaves_an_unsafe_call_to_a_person() -> None:
    """Section 7: `safe_to_repeat: no` parks the transaction."""
    story = Story(ORDER.replace("path: /shipments", "path: /shipments\n    safe_to_repeat: no"))
    story.hit("placed", {"order": "A1"})
    story.restart()
    assert len(story.calls()) == 1
    assert story.status() == ["held"]
    assert story.incidents() == ["unknown_outcome"]


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        ({"order": "A1"}, {"method": "PUT"}, 405),
        ({"order": "A1"}, {"headers": {"content-type": "image/png"}}, 415),
        (b"{", {}, 400),
        (b"[" * 5000, {}, 400),
        (b'{"order": 1e999}', {}, 400),
        (b'{"order": 123456789012345678901234567890}', {}, 400),
        (b"\xff\xfe", {}, 400),
        ({}, {}, 422),
        ({"order": None}, {}, 422),
        ({"order": ["A1"]}, {}, 422),
        (b"", {}, 422),
    ],
)
def test_a_request_that_breaks_the_contract_is_refused(body: object, more: dict[str, Any], status: int) -> None:
    """4.1: nothing is recorded for it."""
    story = Story(ORDER)
    recorded = len(story.journal)
    refusal = story.admit("placed", body, **more)
    assert isinstance(refusal, Reply)
    assert refusal.status == status
    assert len(story.journal) == recorded


def test_a_trigger_is_told_of_its_own_hit_when_parked_ones_run_behind_it() -> None:
    """4.1: the answer names the caller's hit, though the same turn ran the passes of others."""
    story = Story(
        ORDER.replace("    match: {job_id: book.job_id}", "    match: {job_id: placed.order}").replace(
            "  book:\n    post: warehouse\n    path: /shipments\n"
            '    body: {reference: "{{ placed.order }}"}\n    fields: {job_id: {type: integer, required: true}}\n',
            "",
        )
    )
    early = story.hit("changed", {"job_id": 42, "status": "Picked"})
    assert isinstance(early, Parked)
    told = story.hit("placed", {"order": "42"})
    assert isinstance(told, Accepted)
    assert story.state.hit(told.hit).step == "placed"
    assert story.only().hit == early.hit
