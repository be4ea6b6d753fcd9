"""Bodies by their content type (section 4): XML without entities, multipart forms, and CloudEvents in both modes."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.v1.conversion import to_binary, to_json, to_structured
from cloudevents.v1.http import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from protocol.bodies import BodyError, read_body
from protocol.cloudevents import read_event
from protocol.inputs import Accepted, Hit
from protocol.state import Reply
from tests.protocol.story import Story, cycle

CYCLE = """
cycle: takes
connectors: {shop: {}}
steps:
  asked: {webhook: shop, fields: {order.id: {type: integer, required: true}}}
  answer: {respond: {body: {order: "{{ asked.order.id }}", event: "{{ hit.event }}"}}}
"""
BOUNDARY = "xYzZy"


def multipart(*parts: tuple[str, bytes]) -> bytes:
    """A form of parts: what stands in their Content-Disposition after form-data, and their content."""
    opened = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {said}\r\n\r\n".encode() + content + b"\r\n"
        for said, content in parts
    )
    return opened + f"--{BOUNDARY}--\r\n".encode()


def read_form(body: bytes) -> Any:
    """What a multipart form is read as."""
    return read_body(body, f"multipart/form-data; boundary={BOUNDARY}")


def test_4_xml_is_read_as_nested_objects() -> None:
    """Section 4: attributes, text beside them, and lists of what is repeated."""
    xml = b'<?xml version="1.0"?><order id="7"><line sku="a">2</line><line sku="b"/><note>hi &amp; bye</note></order>'
    assert read_body(xml, "text/xml; charset=utf-8") == {
        "order": {"@id": "7", "line": [{"@sku": "a", "#text": "2"}, {"@sku": "b"}], "note": "hi & bye"}
    }
    assert read_body(xml, "application/vnd.shop+xml") == read_body(xml, "application/xml")


@pytest.mark.parametrize(
    "xml",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
        b"<a><b></a>",
        b"<a>" * 100 + b"</a>" * 100,
        b"",
        b"plain",
        b"\xff\xfe<a/>",
    ],
)
def test_4_xml_with_entities_or_none_at_all_is_refused(xml: bytes) -> None:
    """Section 4 and the threat model: nothing is expanded, nothing is fetched, nothing nests without end."""
    with pytest.raises(BodyError):
        read_body(xml, "application/xml")


def test_4_a_multipart_form_gives_fields_and_files() -> None:
    """Section 4: files as base64 objects, fields that come more than once as a list."""
    form = multipart(
        ('name="a"', b"1"),
        ('name="b"', "ü".encode()),
        ('name="b"', b""),
        ('name="f"; filename="x.bin"', b"\x00\r\n\xff"),
    )
    packed = base64.b64encode(b"\x00\r\n\xff").decode()
    file = {"filename": "x.bin", "content_type": "text/plain", "base64": packed}
    assert read_form(form) == {"a": "1", "b": ["ü", ""], "f": file}


@given(st.binary(max_size=300).filter(lambda content: BOUNDARY.encode() not in content))
def test_4_a_file_keeps_every_byte(content: bytes) -> None:
    """Section 4: whatever line ends it holds."""
    found = read_form(multipart(('name="f"; filename="f"', content)))
    assert base64.b64decode(found["f"]["base64"]) == content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary",
        multipart(('name="a"', b"1"))[:-10],
        multipart(("", b"1")),
        multipart(*((f'name="a{number}"', b"") for number in range(1001))),
        multipart(('name="a"', b"\xff")),
    ],
    ids=["empty", "none", "not closed", "no name", "too many", "no text"],
)
def test_4_a_multipart_form_that_is_none_is_refused(body: bytes) -> None:
    """Section 4: 400, with what is wrong."""
    with pytest.raises(BodyError):
        read_form(body)


def event(**more: Any) -> CloudEvent:
    """An event of the CloudEvents library."""
    attributes = {
        "type": "order.placed",
        "source": "/shop/ü",
        "id": "e-1",
        "time": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
    }
    return CloudEvent({**attributes, **more}, {"order": {"id": "42"}})


@pytest.mark.parametrize("mode", [to_binary, to_structured], ids=["binary", "structured"])
def test_4_a_cloudevent_of_the_library_gives_its_data_and_hit_event_its_attributes(mode: Any) -> None:
    """Section 4: both modes, from a sender that is not ours; source and id name the delivery."""
    headers, body = mode(event(tenant="t1"))
    story = Story(CYCLE)
    hit = story.admit("asked", body, headers={name.lower(): value for name, value in headers.items()})
    assert isinstance(hit, Hit), hit
    assert (hit.data["order"]["id"], hit.delivery) == (42, "/shop/ü e-1")
    assert isinstance(story.put(hit), Accepted)
    ((_, answer),) = story.replies()
    said = msgspec.json.decode(answer)
    assert said["order"] == 42
    assert (said["event"]["type"], said["event"]["tenant"], said["event"]["specversion"]) == (
        "order.placed",
        "t1",
        "1.0",
    )


def test_4_data_in_base64_is_read_by_its_own_content_type() -> None:
    """CloudEvents JSON format, 3.1.1."""
    packed = base64.b64encode(b"a=1").decode()
    body = {"id": "1", "source": "s", "specversion": "1.0", "type": "t", "data_base64": packed}
    value, _ = read_event(
        {},
        msgspec.json.encode({**body, "datacontenttype": "application/x-www-form-urlencoded"}),
        "application/cloudevents+json",
    )
    assert value == {"a": "1"}


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"id": "", "source": "s", "specversion": "1.0", "type": "t"}',
        to_json(event()).replace(b'"id": "e-1"', b'"id": 5'),
    ],
)
def test_4_a_structured_event_without_its_attributes_is_refused(body: bytes) -> None:
    """CloudEvents 1.0: id, source, specversion and type are required."""
    reply = Story(CYCLE).admit("asked", body, headers={"content-type": "application/cloudevents+json"})
    assert isinstance(reply, Reply)
    assert reply.status == 400


def test_4_a_batch_of_events_is_refused() -> None:
    """One request is one hit."""
    reply = Story(CYCLE).admit("asked", b"[]", headers={"content-type": "application/cloudevents-batch+json"})
    assert isinstance(reply, Reply)
    assert reply.status == 400


@pytest.mark.parametrize("body", [b'{"sku": "tea"}', b'  [{"sku": "tea"}]'])
def test_4_1_json_that_says_it_is_a_form_is_told_what_to_say(body: bytes) -> None:
    """4.1: 400; `curl -d` says so of everything, so the answer names the content type that was meant."""
    story = Story(cycle("  t: {webhook: shop}\n  r: {respond: {}}\n"))
    reply = story.ask("t", body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert reply is not None
    assert (reply.status, b"content-type: application/json" in reply.body) == (400, True)
