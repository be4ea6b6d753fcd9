"""Requests before they are hits: methods, names of deliveries, preferences, and the work of `check` (section 4)."""

from typing import Any

import msgspec
import pytest

from protocol.admission import DELIVERY_KEY_MAX, preferences
from protocol.inputs import Accepted, Duplicate, Hit, Parked, Refused
from protocol.state import Reply
from tests.protocol.story import Story, cycle

END = "  d: {decide: 'true'}\n"


def receiving(more: str = "", fields: str = "{id: text, n: integer}", rules: str = "{}") -> Story:
    return Story(cycle(f"  t: {{webhook: shop, fields: {fields}{more}}}\n" + END, rules=rules))


def admitted(story: Story, body: Any = None, **more: Any) -> Hit:
    hit = story.admit("t", body, **more)
    assert isinstance(hit, Hit), hit
    return hit


def refused(story: Story, body: Any = None, **more: Any) -> tuple[int, Any]:
    reply = story.admit("t", body, **more)
    assert isinstance(reply, Reply), reply
    assert reply.headers["content-type"] == "application/problem+json"
    return reply.status, msgspec.json.decode(reply.body)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_4_only_post_is_taken_unless_the_step_widens_it(method: str) -> None:
    """4.1: 405 with `Allow`."""
    reply = receiving().admit("t", {}, method=method)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    widened = receiving(", methods: [POST, PUT, PATCH, GET, DELETE]").admit("t", {}, method=method)
    if method == "HEAD":
        assert isinstance(widened, Reply)
        assert widened.headers["allow"] == "POST, PUT, PATCH, GET, DELETE"
    else:
        assert isinstance(widened, Hit)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_4_get_and_delete_take_their_fields_from_the_query(method: str) -> None:
    """Section 4: their bodies are not read, not even when they are broken."""
    story = receiving(", methods: [GET, DELETE]")
    verdict = story.hit("t", b"{", method=method, query={"id": "a", "n": "4"})
    assert isinstance(verdict, Accepted)
    assert story.only().data["t"] == {"id": "a", "n": 4}
    assert refused(story, {"n": 4}, method=method, query={"n": "x"})[0] == 422


DELIVERIES: list[tuple[dict[str, str], str]] = [
    ({"webhook-id": "w", "idempotency-key": "i"}, "w"),
    ({"idempotency-key": "i", "x-github-delivery": "g"}, "i"),
    ({"x-github-delivery": "g", "x-shopify-webhook-id": "s"}, "g"),
    ({"x-shopify-webhook-id": "s", "ce-id": "1", "ce-source": "/a"}, "s"),
    ({"ce-id": "1", "ce-source": "/a"}, "/a 1"),
    ({"ce-id": "1"}, ""),
    ({"ce-source": "/a"}, ""),
    ({"webhook-id": "", "idempotency-key": "i"}, "i"),
    ({}, ""),
]


@pytest.mark.parametrize(("headers", "delivery"), DELIVERIES)
def test_4_the_first_known_header_names_the_delivery(headers: dict[str, str], delivery: str) -> None:
    """Section 4: in the order of the contract; no name, no deduplication and no fingerprint."""
    hit = admitted(receiving(), {}, headers=headers)
    assert (hit.delivery, bool(hit.digest)) == (delivery, bool(delivery))


NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("{header: X-Event}", {"headers": {"x-event": "e", "webhook-id": "w"}}, "e"),
    ("{header: X-Event}", {"headers": {"webhook-id": "w"}}, ""),
    ("{query: event}", {"query": {"event": "q"}, "headers": {"webhook-id": "w"}}, "q"),
    ("{query: event}", {}, ""),
    ("{field: id}", {"headers": {"webhook-id": "w"}}, "a"),
    ("{field: n}", {}, "4"),
    ("{field: gone}", {}, ""),
    ("'off'", {"headers": {"webhook-id": "w"}}, ""),
]


@pytest.mark.parametrize(("dedupe", "more", "delivery"), NAMED)
def test_4_dedupe_names_another_part_of_the_request_or_none(dedupe: str, more: dict[str, Any], delivery: str) -> None:
    """Section 4: then no other part counts."""
    assert admitted(receiving(f", dedupe: {dedupe}"), {"id": "a", "n": 4}, **more).delivery == delivery


def test_4_a_name_of_a_delivery_is_bounded() -> None:
    """It is kept for the whole window, so 400 for one that is too long."""
    story = receiving()
    assert admitted(story, {}, headers={"webhook-id": "k" * DELIVERY_KEY_MAX}).delivery
    assert refused(story, {}, headers={"webhook-id": "k" * (DELIVERY_KEY_MAX + 1)})[0] == 400


def test_4_a_delivery_is_the_same_when_its_body_and_its_query_are() -> None:
    """Section 4: the same key with anything else is 409; the order of query parameters says nothing."""
    story = receiving()
    key = {"webhook-id": "k"}
    first = story.hit("t", {"id": "a"}, headers=key, query={"a": "1", "b": "2"})
    assert isinstance(first, Accepted)
    assert story.hit("t", {"id": "a"}, headers=key, query={"b": "2", "a": "1"}) == Duplicate(first.hit)
    others: list[tuple[Any, dict[str, str]]] = [
        ({"id": "b"}, {"a": "1", "b": "2"}),
        ({"id": "a"}, {"a": "1"}),
        ({"id": "a"}, {"a": "1\0b\x002"}),
    ]
    for body, query in others:
        conflict = story.hit("t", body, headers=key, query=query)
        assert isinstance(conflict, Refused)
        assert conflict.status == 409


def test_4_a_key_names_one_delivery_of_one_step_for_its_window() -> None:
    """Section 4: to the instant; another step has keys of its own."""
    story = Story(
        cycle(
            "  t: {webhook: shop, dedupe: {window: 1 hour}}\n"
            "  w: {webhook: shop, fields: {id: text}, match: {id: t.id}}\n"
        )
    )
    key = {"webhook-id": "k"}
    first = story.hit("t", {"id": "a"}, headers=key)
    assert isinstance(first, Accepted)
    assert not isinstance(story.hit("w", {"id": "a"}, headers=key), Duplicate | Refused)
    story.later(3600)
    assert story.hit("t", {"id": "a"}, headers=key) == Duplicate(first.hit)
    story.at += 1
    assert isinstance(story.hit("t", {"id": "a"}, headers=key), Accepted)


def test_4_a_duplicate_is_known_in_a_stopped_cycle_too() -> None:
    """Section 4: what was answered once is answered so again, before anything else is looked at."""
    story = receiving()
    key = {"webhook-id": "k"}
    first = story.hit("t", {"id": "a"}, headers=key)
    assert isinstance(first, Accepted)
    story.stop()
    assert story.hit("t", {"id": "a"}, headers=key) == Duplicate(first.hit)


def test_4_a_refused_delivery_leaves_its_key_free() -> None:
    """Nothing was recorded for it, so it may come again."""
    story = receiving()
    key = {"webhook-id": "k"}
    story.stop()
    assert isinstance(story.hit("t", {}, headers=key), Refused)
    story.start()
    assert isinstance(story.hit("t", {}, headers=key), Accepted)


def test_4_faults_are_answered_all_at_once() -> None:
    """4.1: 422 with where, rule and value of each."""
    status, problem = refused(receiving(fields="{id: {type: text, required: true}, n: integer}"), {"n": "x"})
    assert (status, [(fault["where"], fault["found"]) for fault in problem["faults"]]) == (
        422,
        [("id", "nothing"), ("n", "'x'")],
    )


@pytest.mark.parametrize(("check", "warnings"), [("warn", ["contract_broken", "contract_broken"]), ("'off'", [])])
def test_4_check_can_warn_or_be_off(check: str, warnings: list[str]) -> None:
    """Section 4: the hit runs, with null for what did not fit."""
    story = receiving(f", check: {check}", fields="{id: {type: text, required: true}, n: integer}")
    assert isinstance(story.hit("t", {"n": "x"}), Accepted)
    assert story.only().data["t"] == {"id": None, "n": None}
    assert story.incidents() == warnings
    assert {incident.level for incident in story.state.incidents.values()} <= {"warning"}


def test_4_check_warn_warns_of_hits_that_are_parked_or_collected() -> None:
    """Section 4: they run later, and their warning must not be lost on the way."""
    story = Story(
        cycle(
            "  t: {webhook: shop, fields: {id: text, n: integer}, check: warn}\n"
            "  w: {webhook: shop, fields: {id: text, n: integer}, match: {id: t.id}, check: warn}\n",
            rules="{while_stopped: collect}",
        )
    )
    assert isinstance(story.hit("w", {"id": "a", "n": "x"}), Parked)
    assert story.incidents() == ["contract_broken"]
    story.stop()
    assert isinstance(story.hit("t", {"id": "a", "n": "x"}), Parked)
    assert story.incidents() == ["contract_broken"] * 2


def test_4_secrets_of_a_request_are_not_recorded() -> None:
    """Section 10: neither credentials nor cookies reach the journal."""
    secrets = dict.fromkeys(("authorization", "proxy-authorization", "cookie", "x-api-key"), "s3cret")
    story = receiving()
    story.hit("t", {}, headers={**secrets, "x-kept": "yes"})
    assert "s3cret" not in repr(story.journal)
    assert admitted(story, {}, headers=secrets).headers == {"content-type": "application/json"}


def test_3_the_request_itself_is_in_scope_as_hit() -> None:
    """Section 3: headers, query and the instant; undeclared fields are mapped from `hit.body`."""
    story = Story(
        cycle(
            "  t: {webhook: shop, fields: {id: text}}\n  call:\n    post: remote\n    path: /x\n"
            "    body: ['{{ hit.headers[\"x-a\"] }}', "
            "'{{ hit.query.q }}', '{{ hit.body.more }}', '{{ hit.received }}']\n"
        )
    )
    story.hit("t", {"id": "a", "more": [1]}, headers={"x-a": "A"}, query={"q": "Q"})
    assert msgspec.json.decode(story.calls()[0].request.body) == ["A", "Q", [1], story.at // 1_000_000]


PREFERENCES: list[tuple[str, dict[str, str]]] = [
    ("", {}),
    ("respond-async", {"respond-async": ""}),
    ("Wait=10, RESPOND-ASYNC", {"wait": "10", "respond-async": ""}),
    ('wait="10"; x=y', {"wait": "10"}),
    (" , wait = 5 ,", {"wait": "5"}),
    ("wait=1, wait=2", {"wait": "1"}),
]


@pytest.mark.parametrize(("header", "expected"), PREFERENCES)
def test_5_1_preferences_are_read_as_rfc_7240_writes_them(header: str, expected: dict[str, str]) -> None:
    """5.1: names in any case, quoted values, parameters left out, the first of two wins."""
    assert preferences({"prefer": header}) == expected
    assert preferences({}) == {}
