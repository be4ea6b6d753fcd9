"""Multipart forms (RFC 7578), cut in one pass: what comes from a stranger may cost no more than its length.

The parser of `email` reads mail: parts within parts, as deep as its stack. And its newer policies take a tenth of a
millisecond for each parameter of a header. So it is given the small head of each part alone, under its oldest policy.
"""

import binascii
import re
from email.message import Message
from email.parser import HeaderParser
from email.policy import compat32
from email.utils import collapse_rfc2231_value
from typing import NamedTuple

PARTS_MAX = 1000  # As most servers allow; more is an attack on the dict behind it.
HEAD_BYTES_MAX = 2048  # Of one part: a name, a file's name and a type.

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_parse = HeaderParser(policy=compat32).parsestr


class MultipartError(ValueError):
    """The sender's fault: the body is no multipart form."""


class Part(NamedTuple):
    """One field, or a file when it has a `filename`."""

    name: str
    filename: str | None
    content_type: str
    charset_header: str
    content: bytes


def read_parts(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form.

    Raises:
        MultipartError: it is none, has too many parts, or one that is no field.
    """
    boundary = _boundary(content_type)
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    parts: list[Part] = []
    begun = -1
    for found in delimiter.finditer(body):
        if begun >= 0:
            parts.append(_part(body[begun : found.start()]))
        if found[1] is not None:
            if parts:
                return parts
            break
        if len(parts) == PARTS_MAX:
            break
        begun = found.end()
    raise MultipartError(f"the body is not a multipart form of 1 to {PARTS_MAX} parts, each closed by its boundary")


def _boundary(content_type: str) -> bytes:
    boundary = _parse(f"Content-Type: {content_type}\r\n\r\n").get_boundary()
    if not boundary:
        raise MultipartError("the content type of a multipart form names its boundary")
    return boundary.encode()


def _part(packed: bytes) -> Part:
    """A part, from behind its delimiter up to the next one."""
    packed = packed.removeprefix(b"\r").removeprefix(b"\n")
    end = _HEAD_END.search(packed, 0, HEAD_BYTES_MAX)
    if end is None:
        raise MultipartError(f"a part of the multipart form begins with its head, of at most {HEAD_BYTES_MAX} bytes")
    head = _parse(packed[: end.end()].decode("utf-8", "replace"))  # As browsers write names of files.
    kind = head.get_content_type()
    name = head.get_param("name", header="content-disposition")
    if name is None or kind.startswith(("multipart/", "message/")):
        raise MultipartError("a part of the multipart form has no name, or is itself in parts")
    content = _decoded(packed[end.end() :], head)
    return Part(collapse_rfc2231_value(name), head.get_filename(), kind, str(head.get("content-type", "")), content)


def _decoded(content: bytes, head: Message) -> bytes:
    """The content without its transfer encoding, which old senders still use (RFC 7578, 4.7)."""
    coding = str(head.get("content-transfer-encoding", "")).strip().lower()
    try:
        if coding == "base64":
            return binascii.a2b_base64(content)
        return binascii.a2b_qp(content) if coding == "quoted-printable" else content
    except binascii.Error as fault:
        raise MultipartError(f"a part of the multipart form is not the {coding} that it says: {fault}") from None
