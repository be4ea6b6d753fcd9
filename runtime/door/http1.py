"""HTTP/1.1 of the lane, without I/O: bytes in, requests at webhook URLs out, and answers as bytes (RFC 9112).

1. llhttp reads each head, in its strict mode; where it is in doubt the connection ends. Nothing is guessed.
2. What is no plain request at a webhook URL is `FOREIGN`, and not a byte of it has been taken from `pending`.
3. A body has exactly one length: `Content-Length`, or chunks. So no two requests are ever read as one, or one as two.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

import httptools
from msgspec import Struct

from protocol.state import Reply

WEBHOOKS = b"/webhook/"
COMMON = b"POST " + WEBHOOKS  # How nearly every request begins.
METHODS = frozenset({b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"})
METHOD_BYTES_MAX = max(map(len, METHODS))
CHUNK_LINE_MAX = 256  # Bytes of a chunk's size with its extensions, which nobody reads, and of a trailer's line.
TRAILERS_MAX = 32  # Lines after the last chunk.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODILESS = frozenset({204, 304})

_HEX = re.compile(rb"[0-9A-Fa-f]{1,8}")
_PLAIN = re.compile(rb"[^/%#;]+")


class Malformed(Exception):
    """Bytes that are no request; the connection ends after the answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Foreign:
    """The request is not for the lane."""


FOREIGN: Final = Foreign()


class Head(Struct, frozen=True, gc=False):
    """The head of a request; names of headers are in lower case."""

    method: str
    identifier: str
    query: bytes
    headers: dict[str, str]
    length: int  # Bytes of the body; -1 when it comes in chunks.
    keep: bool  # Whether the connection goes on after the answer.


def parameters(query: bytes) -> dict[str, str]:
    """The parameters of a query; of a name that comes twice the first value."""
    found: dict[str, str] = {}
    if query:
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            found.setdefault(name, value)
    return found


class Reader:
    """Reads the requests of one connection, one after the other.

    Attributes:
        pending: bytes that came and belong to no request that was taken yet.
    """

    __slots__ = ("_body", "_body_bytes_max", "_header_bytes_max", "_looked", "pending")

    def __init__(self, header_bytes_max: int, body_bytes_max: int) -> None:
        self.pending = bytearray()
        self._header_bytes_max = header_bytes_max
        self._body_bytes_max = body_bytes_max
        self._looked = 0  # Bytes in which no end of the head was found.
        self._body = bytearray()  # What chunks have brought so far.

    def head(self) -> Head | Foreign | None:
        """The next head, taken from what is pending; None while it is not whole.

        Raises:
            Malformed: the bytes are no head, or too many.
        """
        pending = self.pending
        ours = _is_ours(pending)
        if not ours:
            return None if ours is None else FOREIGN
        end = pending.find(b"\r\n\r\n", self._looked)
        if end < 0 or end + 4 > self._header_bytes_max:
            if len(pending) > self._header_bytes_max:
                raise Malformed(431, f"a head has at most {self._header_bytes_max} bytes")
            if pending.find(b"\n\n", self._looked) >= 0 or pending.find(b"\n\r\n", self._looked) >= 0:
                raise Malformed(400, "lines of a head end with CR LF")
            self._looked = max(0, len(pending) - 3)
            return None
        self._looked = 0
        head = _parse(bytes(pending[: end + 4]))
        if isinstance(head, Head):
            if head.length > self._body_bytes_max:
                raise Malformed(413, f"a body has at most {self._body_bytes_max} bytes")
            del pending[: end + 4]
        return head

    def body(self, head: Head) -> bytes | None:
        """The body after a head; None while it is not whole.

        Raises:
            Malformed: the chunks are none, or too large.
        """
        if head.length < 0:
            return self._chunks()
        if len(self.pending) < head.length:
            return None
        body = bytes(self.pending[: head.length])
        del self.pending[: head.length]
        return body

    def _chunks(self) -> bytes | None:
        """Take whole chunks as they come (RFC 9112, 7.1); what is taken is never looked at again."""
        pending = self.pending
        while True:
            size = _chunk_size(pending)
            if size is None:
                return None
            if len(self._body) + size > self._body_bytes_max:
                raise Malformed(413, f"a body has at most {self._body_bytes_max} bytes")
            start = pending.index(b"\r\n") + 2
            if not size:
                end = _trailers_end(pending, start)
                if end is None:
                    return None
                del pending[:end]
                body, self._body = bytes(self._body), bytearray()
                return body
            if len(pending) < start + size + 2:
                return None
            if not pending.startswith(b"\r\n", start + size):
                raise Malformed(400, "a chunk is longer than it says")
            self._body += pending[start : start + size]
            del pending[: start + size + 2]


def _is_ours(pending: bytearray) -> bool | None:
    """Whether a request at a webhook URL begins here; None while that can not be said."""
    if pending.startswith(COMMON):
        return True
    space = pending.find(b" ", 0, METHOD_BYTES_MAX + 1)
    if space < 0:
        may_be = not pending or (pending.isalpha() and len(pending) <= METHOD_BYTES_MAX)
        return None if may_be else False
    if bytes(pending[:space]) not in METHODS:
        return False
    target = bytes(pending[space + 1 : space + 1 + len(WEBHOOKS)])
    if len(target) < len(WEBHOOKS) and WEBHOOKS.startswith(target):
        return None
    return target == WEBHOOKS


class _Lines:
    """What llhttp tells of one head."""

    __slots__ = ("done", "headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.done = True


def _parse(raw: bytes) -> Head | Foreign:
    lines = _Lines()
    parser = httptools.HttpRequestParser(lines)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        return FOREIGN
    except httptools.HttpParserError as fault:
        raise Malformed(400, f"the head is malformed: {fault}") from None
    if not lines.done:
        raise Malformed(400, "the head is malformed")
    path, _, query = lines.url.partition(b"?")
    identifier = path[len(WEBHOOKS) :]
    if parser.get_http_version() != "1.1" or not _PLAIN.fullmatch(identifier):
        return FOREIGN
    headers: dict[str, str] = {}
    hosts = 0
    for name, value in lines.headers:
        text = _lower(name)
        hosts += text == "host"
        headers[text] = value.decode("latin-1").strip(" \t")
    if hosts != 1:
        raise Malformed(400, f"a request has one Host header, not {hosts}")
    return Head(
        parser.get_method().decode("ascii"),
        identifier.decode("ascii"),
        query,
        headers,
        _length(headers),
        parser.should_keep_alive(),
    )


@lru_cache(1024)  # Senders say few different ones.
def _lower(name: bytes) -> str:
    return name.decode("ascii").lower()


def _length(headers: Mapping[str, str]) -> int:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Malformed(501, f"a body may come in chunks, but not as {coding[:50]!r}")
        return -1
    said = headers.get("content-length", "0")
    if len(said) > 18:  # llhttp lets only digits through.
        raise Malformed(413, "the body is too large")
    return int(said or 0)


def _chunk_size(pending: bytearray) -> int | None:
    end = pending.find(b"\r\n", 0, CHUNK_LINE_MAX)
    if end < 0:
        if len(pending) >= CHUNK_LINE_MAX or b"\n" in pending:
            raise Malformed(400, "a chunk begins with its size, in hexadecimal digits, and CR LF")
        return None
    digits, _, extension = bytes(pending[:end]).partition(b";")
    if not _HEX.fullmatch(digits.rstrip(b" \t") if extension else digits) or b"\n" in extension or b"\r" in extension:
        raise Malformed(400, "a chunk begins with its size, in hexadecimal digits")
    return int(digits, 16)


def _trailers_end(pending: bytearray, start: int) -> int | None:
    """Where the lines after the last chunk end; they are dropped, since nobody declared them."""
    for _ in range(TRAILERS_MAX):
        end = pending.find(b"\r\n", start, start + CHUNK_LINE_MAX)
        if end < 0:
            if len(pending) - start >= CHUNK_LINE_MAX or b"\n" in pending[start:]:
                raise Malformed(400, "a trailer is a line that ends with CR LF")
            return None
        if end == start:
            return end + 2
        if b":" not in pending[start:end] or b"\n" in pending[start:end]:
            raise Malformed(400, "a trailer has a name and a value")
        start = end + 2
    raise Malformed(400, f"at most {TRAILERS_MAX} trailers come after the last chunk")


def encode_answer(reply: Reply, date: bytes, *, keep: bool, bodiless: bool = False) -> bytes:
    """An answer as it leaves; `bodiless` is the answer to HEAD, which tells the length of what it leaves out."""
    lines = [_status_line(reply.status)]
    for name, value in reply.headers.items():
        lines.append(f"{name}: {value}\r\n".encode())
    if reply.status not in BODILESS:
        lines.append(b"content-length: %d\r\n" % len(reply.body))
    lines.append(date)
    lines.append(b"\r\n" if keep else b"connection: close\r\n\r\n")
    if not bodiless and reply.status not in BODILESS:
        lines.append(reply.body)
    return b"".join(lines)


@lru_cache(64)
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # A cycle may answer with any status.
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()
