"""Request and response bodies as values: JSON, XML, forms and text.

What comes out is always fit for the journal and for expressions: maps with text keys, lists, text, booleans,
nulls, integers of 64 bits and finite floats.
"""

import base64
from collections.abc import Sequence
from email.parser import BytesParser
from email.policy import HTTP
from functools import lru_cache
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl
from xml.parsers.expat import ExpatError

import msgspec
import xmltodict

from protocol.charsets import DEFAULT, NotInCharset, UnknownCharset, charset_of, decode

MULTIPART = "multipart/form-data"
XML_TYPES = ("application/xml", "text/xml")
FORM = "application/x-www-form-urlencoded"
NESTING_MAX = 64  # Levels; real payloads have fewer than 20, and each level costs stack wherever a value is walked.
FORM_FIELDS_MAX = 1000  # As most servers allow; more is an attack on the dict behind it.
UTF8_MARK = b"\xef\xbb\xbf"
_INT_MAX = 2**63 - 1  # What CEL, msgpack readers and SQLite agree on.


class BodyError(ValueError):
    """The sender's fault: the body is not what its content type says."""


class UnsupportedBody(BodyError):
    """The sender's fault: the content type is none that a webhook reads."""


@lru_cache(256)  # Senders say few different ones, and each is asked for several times a request.
def media_type(content_type: str) -> str:
    """The type of a Content-Type header (RFC 9110, 8.3.1) without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def read_body(body: bytes, content_type: str, *, lenient: bool = False) -> Any:
    """Read a body by its content type; without one, JSON is tried.

    Args:
        body: the bytes as received.
        content_type: the Content-Type header, or "".
        lenient: a remote's answer is data even when it is not what it says: such a body is given as text.

    Raises:
        UnsupportedBody: the content type is not JSON, XML, form or text.
        BodyError: the body is not what it says, nests too deep, or holds a number beyond 64 bits.
    """
    kind = media_type(content_type)
    try:
        return _read(body, kind, content_type)
    except BodyError:
        if lenient:
            return body.decode(_known_charset(content_type) or DEFAULT, "replace")
        raise


def repeats_names(content_type: str) -> bool:
    """Whether a format writes a list by repeating its name: a list of one is then written as a single value."""
    kind = media_type(content_type)
    return kind in (FORM, MULTIPART, *XML_TYPES) or kind.endswith("+xml")


def _read(body: bytes, kind: str, content_type: str) -> Any:
    if kind in ("", "application/json") or kind.endswith("+json"):
        charset = _charset(content_type)
        if not body or charset in ("", "utf-8"):
            return read_json(body) if body else None
        return read_json(_text(body, charset).encode("utf-8", "replace"))
    if kind == FORM:
        return _read_form(body, _charset(content_type, ascii_only=True))
    if kind == MULTIPART:
        return _read_multipart(body, content_type)
    if kind in XML_TYPES or kind.endswith("+xml"):
        return _read_xml(body, _charset(content_type))
    if kind == "text/plain":
        return {"text": _text(body, _charset(content_type))}
    raise UnsupportedBody(f"a webhook reads JSON, XML, form and text bodies, not {kind[:80]!r}")


def _charset(content_type: str, *, ascii_only: bool = False) -> str:
    try:
        return charset_of(content_type, ascii_only=ascii_only)
    except UnknownCharset as fault:
        raise UnsupportedBody(str(fault)) from None


def _known_charset(content_type: str) -> str:
    try:
        return charset_of(content_type)
    except UnknownCharset:
        return ""


def read_json(body: bytes) -> Any:
    """Read JSON (RFC 8259) within our limits; raises `BodyError`."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as fault:
        raise BodyError(f"the body is not JSON: {fault}") from None
    except (RecursionError, UnicodeDecodeError):
        raise BodyError(f"the body is not JSON within {NESTING_MAX} levels of UTF-8 text") from None
    check_value(value)
    return value


def _read_form(body: bytes, charset: str) -> dict[str, Any]:
    behind_percent = DEFAULT if charset in ("", "us-ascii", "ascii") else charset
    try:
        pairs = parse_qsl(
            _text(body, charset),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=FORM_FIELDS_MAX,
            encoding=behind_percent,
        )
    except ValueError as fault:
        hint = "; JSON is sent with content-type: application/json" if body.lstrip()[:1] in (b"{", b"[") else ""
        raise BodyError(f"the body is not a form: {fault}{hint}") from None
    return collect_pairs(pairs)


def _read_multipart(body: bytes, content_type: str) -> dict[str, Any]:
    """Fields by name, and files as objects of `filename`, `content_type` and `base64` (RFC 7578)."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = list(message.iter_parts()) if message.is_multipart() else []
    if not parts or message.defects or len(parts) > FORM_FIELDS_MAX:
        raise BodyError(
            f"the body is not a multipart form of 1 to {FORM_FIELDS_MAX} parts, each closed by its boundary"
        )
    pairs: list[tuple[str, Any]] = []
    for part in parts:
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            raise BodyError("a part of the multipart form has no name, or is itself in parts")
        filename = part.get_filename()
        if filename is None:
            pairs.append((name, _text(content, _charset(str(part.get("content-type", ""))))))
        else:
            packed = base64.b64encode(content).decode()
            pairs.append((name, {"filename": filename, "content_type": part.get_content_type(), "base64": packed}))
    return collect_pairs(pairs)


def _read_xml(body: bytes, charset: str) -> Any:
    """XML as nested objects: attributes as `@name`, text beside them as `#text`, repeated elements as a list.

    Entities and document types are refused: expanding them is how a small document fills the memory.
    """
    marked = body.startswith(UTF8_MARK)  # It says more than any header (RFC 7303, 3).
    said: str | bytes = body if marked or not charset else _text(body, charset)
    try:
        value = xmltodict.parse(said, disable_entities=True)
    except (ExpatError, ValueError, RecursionError) as fault:
        raise BodyError(f"the body is not XML without entities: {fault}") from None
    check_value(value)
    return value


def collect_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs as a map; a name that comes more than once gives a list."""
    form: dict[str, Any] = {}
    for name, value in pairs:
        if name not in form:
            form[name] = value
        elif isinstance(form[name], list):
            form[name].append(value)
        else:
            form[name] = [form[name], value]
    return form


def _text(body: bytes, charset: str) -> str:
    try:
        return decode(body, charset)
    except NotInCharset as fault:
        raise BodyError(str(fault)) from None


def check_value(value: Any, levels: int = NESTING_MAX) -> None:
    """Hold a decoded value to the limits above; raises `BodyError`."""
    if isinstance(value, dict | list):
        if levels == 0:
            raise BodyError(f"the body nests deeper than {NESTING_MAX} levels")
        for item in value.values() if isinstance(value, dict) else value:
            if type(item) is not str:  # Most are; a text is held to no limit here.
                check_value(item, levels - 1)
    elif isinstance(value, int) and not -_INT_MAX - 1 <= value <= _INT_MAX:
        raise BodyError("the body holds an integer beyond 64 bits: send it as text")
    elif isinstance(value, float) and not isfinite(value):
        raise BodyError("the body holds a number beyond the range of a float: send it as text")
