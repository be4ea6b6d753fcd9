"""Requests before they are hits (section 4): which delivery they are, what they prefer, and what their fields are."""

from typing import Any

import msgspec
import pytest

from protocol.admission import DELIVERY_KEY_MAX, preferences
from protocol.inputs import Hit, Resumed
from protocol.state import Reply
from tests.protocol.story import Story

TAKES = """
cycle: takes
connectors: {shop: {webhook: {fields: {shared: text}}}}
steps:
  asked:
    webhook: shop
    methods: [POST, GET]
    %s
  next_one: {decide: {left: asked, is: exists}, then: end, else: end}
"""
ITEMS = "fields: {'[].sku': {type: text, required: true}, '[].count': {type: integer, default: 1}}"
LINES = """fields:
      order.id: {type: integer, required: true}
      "[lines].sku": {type: text, required: true}
      "[tags]": integer"""


def admitted(said: str, body: Any, **more: Any) -> Hit:
    """A request that is taken."""
    hit = Story(TAKES % said).admit("asked", body, **more)
    assert isinstance(hit, Hit), hit
    return hit


def faults(said: str, body: Any, **more: Any) -> dict[str, str]:
    """The faults of a request that is refused: where, and which rule."""
    reply = Story(TAKES % said).admit("asked", body, **more)
    assert isinstance(reply, Reply)
    assert reply.status == 422
    return {fault["where"]: fault["rule"] for fault in msgspec.json.decode(reply.body)["faults"]}


@pytest.mark.parametrize(
    ("said", "more", "delivery"),
    [
        ("check: off", {"headers": {"webhook-id": "w", "idempotency-key": "i"}}, "w"),
        ("check: off", {"headers": {"idempotency-key": "i"}}, "i"),
        ("check: off", {"headers": {"x-github-delivery": "g"}}, "g"),
        ("check: off", {"headers": {"x-shopify-webhook-id": "s"}}, "s"),
        ("check: off", {"headers": {"ce-id": "1", "ce-source": "/shop"}}, "/shop 1"),
        ("check: off", {"headers": {"ce-id": "1"}}, ""),
        ("check: off", {}, ""),
        ("dedupe: off", {"headers": {"webhook-id": "w"}}, ""),
        ("dedupe: {header: X-Event}", {"headers": {"x-event": "e", "webhook-id": "w"}}, "e"),
        ("dedupe: {query: event}", {"query": {"event": "q"}}, "q"),
        ("dedupe: {field: event.id}\n    fields: {event.id: integer}", {"body": {"event": {"id": "42"}}}, "42"),
        ("dedupe: {field: event.id}\n    fields: {event.id: integer}", {"body": {}}, ""),
    ],
)
def test_4_a_delivery_is_named_by_an_explicit_key_only(said: str, more: dict[str, Any], delivery: str) -> None:
    """Section 4: the first of the known headers, or what the step says."""
    assert admitted(said, **{"body": {}, **more}).delivery == delivery


def test_4_a_request_may_be_known_by_a_field_that_is_no_word() -> None:
    """Sections 3 and 4: a location may hold what an expression reads as an operator; requests are found by it too."""
    story = Story(
        """
        cycle: words
        connectors: {shop: {}}
        steps:
          asked: {webhook: shop, fields: {Order-Id.no 1: integer}, dedupe: {field: Order-Id.no 1}}
          back: {webhook: shop, fields: {meta: object}, match: {meta.job-id: 'asked["Order-Id"]["no 1"]'}}
        """
    )
    asked = {"Order-Id": {"no 1": 7}}
    (hit, back) = (story.admit("asked", asked), story.admit("back", {"meta": {"job-id": "7"}}))
    assert isinstance(hit, Hit)
    assert hit.delivery == "7"
    story.put(hit)
    assert isinstance(back, Hit)
    assert isinstance(story.put(back), Resumed)


def test_4_a_delivery_key_has_a_bound() -> None:
    """Section 4: it is kept for the whole window, so it is refused when it is too long."""
    story = Story(TAKES % "check: off")
    longest = "k" * DELIVERY_KEY_MAX
    assert isinstance(story.admit("asked", {}, headers={"webhook-id": longest}), Hit)
    refused = story.admit("asked", {}, headers={"webhook-id": longest + "k"})
    assert isinstance(refused, Reply)
    assert refused.status == 400


def test_4_secrets_of_a_request_never_reach_its_record() -> None:
    """Section 4 and the threat model: Authorization, cookies and API keys are dropped; the rest is kept."""
    secrets = {"authorization": "Bearer x", "cookie": "c", "x-api-key": "k", "proxy-authorization": "p"}
    assert admitted("check: off", {}, headers={**secrets, "x-kept": "1"}).headers == {
        "content-type": "application/json",
        "x-kept": "1",
    }


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("wait=5", {"wait": "5"}),
        ('respond-async, wait="10"', {"respond-async": "", "wait": "10"}),
        ("Respond-Async; foo=1", {"respond-async": ""}),
        ("wait=5, wait=9", {"wait": "5"}),
        (" , ,", {}),
    ],
)
def test_5_1_preferences_are_read_as_rfc_7240_has_them(header: str, found: dict[str, str]) -> None:
    """5.1: names in lower case, the first of two wins, parameters are left aside."""
    assert preferences({"prefer": header}) == found


def test_3_lists_defaults_and_types_are_read_by_location() -> None:
    """Section 3: what is declared is there, by its type; what is not, is left out."""
    body = {"order": {"id": "42", "more": 1}, "lines": [{"sku": "a", "x": 1}, {"sku": 7}], "tags": ["1", 2], "y": 0}
    assert admitted(LINES, body).data == {
        "shared": None,
        "order": {"id": 42},
        "lines": [{"sku": "a"}, {"sku": "7"}],
        "tags": [1, 2],
    }


def test_3_a_body_that_is_a_list_is_read_by_its_items() -> None:
    """Section 3: `[].x`."""
    assert admitted(ITEMS, [{"sku": "a"}, {"sku": "b", "count": "3"}]).data["items"] == [
        {"sku": "a", "count": 1},
        {"sku": "b", "count": 3},
    ]


def test_4_every_fault_of_a_request_is_listed_at_its_place() -> None:
    """Section 4: 422 with all of them at once."""
    body = {"order": {"id": "x"}, "lines": [{"sku": "a"}, {}, 5], "tags": ["a"]}
    assert faults(LINES, body) == {
        "order.id": "must be an integer of 64 bits",
        "lines[1].sku": "is required",
        "lines[2]": "must be an object",
        "lines[2].sku": "is required",
        "tags[0]": "must be an integer of 64 bits",
    }
    assert faults(LINES, None) == {"order.id": "is required", "lines": "is required"}
    assert faults(LINES, {"order": 1, "lines": {}}) == {
        "order": "must be an object",
        "order.id": "is required",
        "lines": "must be a list",
    }
    assert faults(ITEMS, {"items": "no"}) == {"items": "must be a list"}


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("text", 4.20, "4.2"),
        ("text", True, "true"),
        ("integer", "1e2", 100),
        ("decimal", "0010.50", "10.5"),
        ("decimal", 1e2, "100"),
        ("float", "1.5", 1.5),
        ("boolean", "TRUE", True),
        ("datetime", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("object", {"a": 1}, {"a": 1}),
        ("list", [1], [1]),
        ("any", [None], [None]),
    ],
)
def test_3_a_value_is_kept_as_its_declared_type(kind: str, given: Any, kept: Any) -> None:
    """Section 3: decimals and instants stay text, so that nothing of them is lost."""
    assert admitted(f"fields: {{v: {kind}}}", {"v": given}).data["v"] == kept


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("text", {}),
        ("integer", 1.5),
        ("integer", 2**63),
        ("integer", "9" * 30),
        ("decimal", "1,5"),
        ("decimal", "NaN"),
        ("float", "x"),
        ("boolean", 1),
        ("datetime", "2026-13-01"),
        ("object", []),
        ("list", {}),
    ],
)
def test_3_a_value_of_another_type_is_a_fault(kind: str, given: Any) -> None:
    """Section 3: named by its location."""
    body = msgspec.json.encode({"v": given})
    reply = Story(TAKES % f"fields: {{v: {kind}}}").admit("asked", body)
    assert isinstance(reply, Reply)
    assert reply.status in (400, 422)


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("application/vnd.shop+json; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("", b'{"a": 1}', {"a": 1}),
        ("application/x-www-form-urlencoded", b"a=1&b=x+y&b=%C3%BC&c=", {"a": "1", "b": ["x y", "ü"], "c": ""}),
        ("text/plain", "grüße".encode(), {"text": "grüße"}),
        ("application/json", b"[1]", {"body": [1]}),
        ("application/json", b"", {"body": None}),
    ],
)
def test_4_bodies_are_read_by_their_content_type(content_type: str, body: bytes, read: dict[str, Any]) -> None:
    """Section 4: without declared fields, everything is given."""
    story = Story((TAKES % "check: reject").replace("{webhook: {fields: {shared: text}}}", "{}"))
    hit = story.admit("asked", body, headers={"content-type": content_type})
    assert isinstance(hit, Hit), hit
    assert hit.data == read


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/xml-dtd", b"", 415),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(1001)), 400),
        ("application/x-www-form-urlencoded", b"\xff=1", 400),
        ("text/plain", b"\xff", 400),
        ("application/json", b'{"a": 1', 400),
        ("application/json", b'{"a": 18446744073709551615}', 400),
        ("application/json", b"[" * 65 + b"]" * 65, 400),
        ("application/json", b'{"a": 1e400}', 400),
    ],
)
def test_4_1_a_body_that_can_not_be_read_is_refused(content_type: str, body: bytes, status: int) -> None:
    """4.1: and its answer is a problem that says what is wrong."""
    reply = Story(TAKES % "check: off").admit("asked", body, headers={"content-type": content_type})
    assert isinstance(reply, Reply)
    assert (reply.status, msgspec.json.decode(reply.body)["status"]) == (status, status)


def test_6_2_a_value_to_match_by_is_there_and_not_too_long() -> None:
    """6.2: null, missing, empty and endless values match nothing, so such a request is refused."""
    matching = "fields: {k: any}\n  second: {webhook: shop, fields: {k: any}, match: {k: asked.k}}"
    story = Story(TAKES % matching)
    refused: list[Any] = [None, "", [], {}, "x" * 513]
    for value in refused:
        reply = story.admit("second", {"k": value})
        assert isinstance(reply, Reply)
        assert reply.status == 422
    taken: list[Any] = [0, False, "x" * 512]
    for value in taken:
        assert isinstance(story.admit("second", {"k": value}), Hit)
