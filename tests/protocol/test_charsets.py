"""Bodies in other charsets than UTF-8, and lists that a format writes by repeating a name (section 4)."""

from typing import Any

import msgspec
import pytest

from protocol import charsets
from protocol.bodies import BodyError, UnsupportedBody, read_body
from protocol.discovery import discover_sample
from protocol.inputs import CallAnswer, Hit
from protocol.state import Reply
from tests.protocol.story import Story, cycle

FORM = "application/x-www-form-urlencoded"
LISTS = cycle(
    """
  t:
    webhook: shop
    methods: [POST, GET]
    fields: {"[tags]": text, more: list, "order.[line].n": integer, one: text}
  call: {get: remote, path: /x, fields: {"a.[b].c": integer}}
"""
)
BOUNDARY = "xYzZy"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
PART = "--xYzZy\r\nContent-Disposition: form-data; name=n\r\nContent-Type: text/plain; charset=%s\r\n\r\n"


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("iso-8859-1", "latin-1"), ("ISO-8859-1", "latin-1"), ('"iso-8859-1"', "latin-1"), ("latin1", "latin-1"),
        ("windows-1252", "cp1252"), ("utf-16", "utf-16"), ("utf-16le", "utf-16le"), ("UTF8", "utf-8"),
        ("iso_8859-15", "iso8859-15"), ("utf-8", "utf-8"),
    ],
)  # fmt: skip
def test_4_a_body_is_read_in_the_charset_it_names(charset: str, codec: str) -> None:
    """Section 4: JSON, text and XML alike; a parameter of the header comes before what XML says of itself."""
    json = '{"n": "Zoë"}'.encode(codec)
    assert read_body(json, f"application/json; charset={charset}") == {"n": "Zoë"}
    assert read_body("Zoë".encode(codec), f"text/plain;charset={charset}; x=y") == {"text": "Zoë"}
    xml = '<?xml version="1.0" encoding="koi8-r"?><n>Zoë</n>'.encode(codec)
    assert read_body(xml, f"text/xml; Charset = {charset}") == {"n": "Zoë"}


@pytest.mark.parametrize(
    ("body", "charset"),
    [(b"n=Zo\xeb", "iso-8859-1"), (b"n=Zo%EB", "iso-8859-1"), (b"n=Zo%C3%AB", "utf-8"), (b"n=Zo%C3%AB", "us-ascii")],
)
def test_4_a_form_is_read_in_the_charset_it_names(body: bytes, charset: str) -> None:
    """Section 4: also what stands behind a percent sign; ASCII is a part of UTF-8."""
    assert read_body(body, f"{FORM}; charset={charset}") == {"n": "Zoë"}


def test_4_parts_of_a_multipart_form_name_charsets_of_their_own() -> None:
    """RFC 7578, 4.4."""
    body = (PART % "iso-8859-1").encode() + b"Zo\xeb\r\n--xYzZy--\r\n"
    assert read_body(body, MULTIPART) == {"n": "Zoë"}
    with pytest.raises(UnsupportedBody):
        read_body((PART % "x-none").encode() + b"a\r\n--xYzZy--\r\n", MULTIPART)


def test_4_xml_without_a_parameter_says_itself_what_it_is_in() -> None:
    """RFC 7303: a byte order mark comes first, then the parameter, then the declaration."""
    declared = '<?xml version="1.0" encoding="iso-8859-1"?><n>Zoë</n>'.encode("latin-1")
    assert read_body(declared, "application/xml") == {"n": "Zoë"}
    marked = b"\xef\xbb\xbf" + "<n>Zoë</n>".encode()
    assert read_body(marked, "application/xml; charset=iso-8859-1") == {"n": "Zoë"}


@pytest.mark.parametrize("charset", ["x-none", "utf-7", "rot13", "idna", "hex", "unicode_escape", "x" * 200])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", FORM, "text/xml"])
def test_4_a_charset_that_is_not_known_is_415(kind: str, charset: str) -> None:
    """Section 4: also what Python calls an encoding and is none of text."""
    reply = Story(LISTS).admit("t", b"{}", headers={"content-type": f"{kind}; charset={charset}"})
    assert isinstance(reply, Reply)
    assert (reply.status, len(reply.body) < 400) == (415, True)


def test_4_a_form_in_a_charset_that_is_not_ascii_in_its_first_half_is_415() -> None:
    """Percent signs and ampersands are bytes."""
    with pytest.raises(UnsupportedBody):
        read_body("n=1".encode("utf-16"), f"{FORM}; charset=utf-16")


@pytest.mark.parametrize(("charset", "body"), [("us-ascii", b'"\xff"'), ("utf-16", b'"'), ("shift_jis", b'"\x80"')])
def test_4_a_body_that_is_not_in_the_charset_it_names_is_400(charset: str, body: bytes) -> None:
    """Section 4: the sender's fault."""
    with pytest.raises(BodyError, match="is not") as raised:
        read_body(body, f"application/json; charset={charset}")
    assert not isinstance(raised.value, UnsupportedBody)


def test_4_what_a_body_becomes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of the journal takes the bytes and the data; one byte may become three."""
    monkeypatch.setattr(charsets, "DECODED_BYTES_MAX", 10)
    assert read_body(b"\x80" * 3, "text/plain; charset=windows-1252") == {"text": "€€€"}
    with pytest.raises(BodyError, match="at most 10 bytes"):
        read_body(b"\x80" * 4, "text/plain; charset=windows-1252")


def test_7_the_answer_of_a_remote_is_text_in_its_charset_when_it_is_nothing_else() -> None:
    """Section 7: an answer is data even when it is not what it says."""
    assert read_body(b"Zo\xeb", "text/html; charset=iso-8859-1", lenient=True) == "Zoë"
    assert read_body(b"Zo\xeb", "text/html; charset=x-none", lenient=True) == "Zo\ufffd"
    assert read_body(b"{Zo\xeb", "application/json; charset=iso-8859-1", lenient=True) == "{Zoë"


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        (FORM, b"tags=a&more=b&one=c", {"tags": ["a"], "more": ["b"], "one": "c"}),
        (FORM, b"tags=a&tags=b&more=", {"tags": ["a", "b"], "more": None}),
        (MULTIPART, (PART % "utf-8").replace("=n", "=tags").encode() + b"a\r\n--xYzZy--\r\n", {"tags": ["a"]}),
        ("text/xml", b"<order><line><n>1</n></line></order>", {"order": {"line": [{"n": 1}]}}),
        ("text/xml", b"<order><line><n>1</n></line><line/></order>", {"order": {"line": [{"n": 1}, {"n": None}]}}),
    ],
)  # fmt: skip
def test_4_a_declared_list_that_is_written_once_is_a_list_of_one(content_type: str, body: bytes, data: Any) -> None:
    """Section 4: forms and XML write a list by repeating its name, so one and several look different."""
    story = Story(LISTS)
    hit = story.admit("t", body, headers={"content-type": content_type})
    assert isinstance(hit, Hit), hit
    assert hit.data.items() >= data.items()
    story.put(hit)
    assert story.only().data["t"] == hit.data


def test_4_a_query_writes_a_list_so_too_and_a_kept_request_is_read_alike() -> None:
    """Sections 4 and 11: also when it is read again from the journal."""
    story = Story(LISTS.replace("settings: {}", "settings: {while_stopped: collect}"), started=False)
    story.hit("t", b"", method="GET", query={"tags": "a"})
    story.hit("t", b"tags=b", headers={"content-type": FORM})
    story.start()
    assert [row.data["t"]["tags"] for row in story.state.transactions.values()] == [["a"], ["b"]]


def test_4_a_json_body_says_what_is_a_list() -> None:
    """Section 4: there one value is a fault, as before."""
    reply = Story(LISTS).admit("t", {"tags": "a", "order": {"line": {"n": 1}}})
    assert isinstance(reply, Reply)
    assert [one["rule"] for one in msgspec.json.decode(reply.body)["faults"]] == ["must be a list"] * 2


def test_7_the_answer_of_a_call_is_read_by_the_same_rule() -> None:
    """Section 7: by its content type."""
    story = Story(LISTS)
    story.hit("t", {})
    story.end_call(CallAnswer(200, {"content-type": "application/xml"}, b"<a><b><c>1</c></b></a>"), 0)
    assert story.only().data["call"]["a"] == {"b": [{"c": 1}]}


def test_4_fields_are_discovered_in_other_charsets() -> None:
    """Section 4: read as a webhook reads it."""
    assert discover_sample(b'{"n": "Zo\xeb"}', "application/json; charset=iso-8859-1").fields == {"n": "text"}
