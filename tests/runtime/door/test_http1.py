"""HTTP/1.1 of the lane: the same requests however their bytes are cut, and nothing that is in doubt (RFC 9112)."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.state import Reply
from runtime.door.http1 import FOREIGN, Foreign, Head, Malformed, Reader, encode_answer, parameters

HOST = b"Host: a\r\n"
DATE = b"date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"


def post(body: bytes, path: bytes = b"/webhook/abc", headers: bytes = b"") -> bytes:
    """A request with a length."""
    return b"POST %s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (path, HOST, headers, len(body), body)


def chunked(body: bytes, sizes: Iterable[int], trailers: bytes = b"") -> bytes:
    """The same body, in chunks of these sizes."""
    raw = b"POST /webhook/abc HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    for size in sizes:
        part, body = body[:size], body[size:]
        if part:
            raw += b"%x\r\n%s\r\n" % (len(part), part)
    if body:
        raw += b"%X;name=value\r\n%s\r\n" % (len(body), body)
    return raw + b"0\r\n" + trailers + b"\r\n"


def read(pieces: Iterable[bytes], header_max: int = 1024, body_max: int = 4096) -> tuple[list[tuple[Head, bytes]], str]:
    """The requests that pieces give, and how it ended: `more`, `foreign`, or the status of a refusal."""
    reader = Reader(header_max, body_max)
    found: list[tuple[Head, bytes]] = []
    head: Head | None = None
    try:
        for piece in pieces:
            reader.pending += piece
            while True:
                if head is None:
                    one = reader.head()
                    if isinstance(one, Foreign):
                        return found, "foreign"
                    head = one
                if head is None or (body := reader.body(head)) is None:
                    break
                found.append((head, body))
                head = None
    except Malformed as fault:
        return found, str(fault.status)
    return found, "more"


def cut(raw: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes in pieces that end at these places."""
    ends = sorted({place % (len(raw) + 1) for place in places})
    return [raw[start:end] for start, end in zip([0, *ends], [*ends, len(raw)], strict=True)]


BODIES = st.binary(max_size=300)
REQUESTS = st.one_of(
    BODIES.map(post),
    st.builds(chunked, BODIES, st.lists(st.integers(1, 40), max_size=8), st.sampled_from([b"", b"x: y\r\n"])),
    st.sampled_from(
        [
            b"GET /webhook/abc?a=1&a=2&b=%20 HTTP/1.1\r\n" + HOST + b"\r\n",
            post(b"{}", headers=b"Connection: close\r\n"),
        ]
    ),
)


@given(st.lists(REQUESTS, min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=30))
def test_requests_are_the_same_however_their_bytes_are_cut(requests: list[bytes], places: list[int]) -> None:
    """Given requests one behind the other, then no cut between bytes changes which they are."""
    raw = b"".join(requests)
    whole, ended = read([raw])
    assert (len(whole), ended) == (len(requests), "more")
    assert read(cut(raw, places)) == (whole, "more")


@given(st.binary(max_size=400) | st.builds(lambda a, b, c: a[: b % (len(a) + 1)] + c, REQUESTS, st.integers(), BODIES))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    """Given anything at all, then it gives requests, is refused, or is somebody else's; byte by byte the same."""
    whole = read([noise])
    assert read([noise[at : at + 1] for at in range(len(noise))]) == whole


@given(BODIES, st.lists(st.integers(1, 50), max_size=8))
def test_a_body_in_chunks_is_the_body(body: bytes, sizes: list[int]) -> None:
    """Given a body in chunks of any size, then it is the same as with a length."""
    (one,), _ = read([chunked(body, sizes)])
    (other,), _ = read([post(body)])
    assert one[1] == other[1] == body


def test_a_request_cut_at_every_byte_is_read_once() -> None:
    """Given one byte at a time, then there is one request, at its last byte."""
    for raw in (post(b'{"a": 1}'), chunked(b'{"a": 1}', [3, 3])):
        for end in range(len(raw)):
            assert read([raw[:end]]) == ([], "more")
        assert len(read([raw])[0]) == 1


@pytest.mark.parametrize(
    ("raw", "ended"),
    [
        (post(b"", b"/api/cycles"), "foreign"),
        (post(b"", b"/webhook/a/b"), "foreign"),
        (post(b"", b"/webhook/a%20"), "foreign"),
        (post(b"", b"http://a/webhook/x"), "foreign"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "foreign"),
        (b"TRACE /webhook/a HTTP/1.1\r\nHost: a\r\n\r\n", "foreign"),
        (b"FROB /webhook/a HTTP/1.1\r\nHost: a\r\n\r\n", "foreign"),
        (b"POST  /webhook/a HTTP/1.1\r\nHost: a\r\n\r\n", "foreign"),
        (b"POST /webhook/a HTTP/1.0\r\nHost: a\r\n\r\n", "foreign"),
        (post(b"", headers=b"Upgrade: h2c\r\nConnection: Upgrade\r\n"), "foreign"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "foreign"),
        (b"POST /webhook/a HTTP/1.1\nHost: a\n\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", "400"),
        (
            b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n", "413"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000, "431"),
        (b"POST /webhook/a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1000 + b"\r\n\r\n", "431"),
    ],
)
def test_what_is_no_plain_webhook_request_is_handed_on_or_refused(raw: bytes, ended: str) -> None:
    """Given it, then it is somebody else's with every byte in place, or it ends the connection."""
    assert read([raw]) == ([], ended)
    assert read([raw[at : at + 1] for at in range(len(raw))]) == ([], ended)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"x\r\n", "400"),
        (b"\r\n", "400"),
        (b"-1\r\n", "400"),
        (b"1_0\r\n", "400"),
        (b"0x1\r\n", "400"),
        (b" 1\r\n", "400"),
        (b"1\n", "400"),
        (b"1;a\nb\r\nx\r\n", "400"),
        (b"1\r\nxy\r\n", "400"),
        (b"1000\r\n", "more"),
        (b"1001\r\n", "413"),
        (b"fffffffff\r\n", "400"),
        (b"a" * 300, "400"),
        (b"0\r\nname\r\n\r\n", "400"),
        (b"0\r\na: b\nc: d\r\n\r\n", "400"),
        (b"0\r\n" + b"a: b\r\n" * 40 + b"\r\n", "400"),
    ],
)
def test_chunks_are_read_strictly(raw: bytes, status: str) -> None:
    """Given framing that two readers could read as two things, then it is refused, or waited for."""
    head = b"POST /webhook/abc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read([head + raw]) == ([], status)


def test_what_is_foreign_keeps_every_byte() -> None:
    """Given a webhook request and a foreign one behind it, then what is pending begins with the foreign one."""
    reader = Reader(1024, 1024)
    reader.pending += post(b"{}") + post(b"[]", b"/api/x")
    head = reader.head()
    assert isinstance(head, Head)
    assert reader.body(head) == b"{}"
    assert reader.head() is FOREIGN
    assert bytes(reader.pending) == post(b"[]", b"/api/x")


def test_of_a_parameter_that_comes_twice_the_first_counts() -> None:
    """Given a query, then each name has one value."""
    assert parameters(b"a=1&a=2&b=&c=%C3%A9+x") == {"a": "1", "b": "", "c": "é x"}


def test_answers_say_their_length_and_whether_the_connection_goes_on() -> None:
    """Given a reply, then its bytes are one message; 204 has no body, the answer to HEAD only its length."""
    reply = Reply(200, {"content-type": "text/plain"}, b"hello")
    line = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n" + DATE
    assert encode_answer(reply, DATE, keep=True) == line + b"\r\nhello"
    assert encode_answer(reply, DATE, keep=False) == line + b"connection: close\r\n\r\nhello"
    assert encode_answer(reply, DATE, keep=True, bodiless=True) == line + b"\r\n"
    assert encode_answer(Reply(204, {}, b""), DATE, keep=True) == b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n"
    assert encode_answer(Reply(599, {}, b""), DATE, keep=True).startswith(b"HTTP/1.1 599 \r\n")
