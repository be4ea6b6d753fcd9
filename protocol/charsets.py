"""The charset of a body (RFC 9110, 8.3.2): known ones are decoded, within a bound; what names another is not read.

Python has encodings that are none of text, and some that a sender must not choose (UTF-7 hides markup), so what is
known is a list: the charsets that browsers read, by the labels that senders use.
"""

import re

DECODED_BYTES_MAX = 8 << 20  # As UTF-8: a byte may become three, and a frame of the journal takes bytes and data.
DEFAULT = "utf-8"

_LABELS = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "latin1", "latin-1", "koi8-r", "koi8-u", "macintosh", "tis-620"}
    | {f"iso-8859-{part}" for part in (*range(1, 12), *range(13, 17))}
    | {f"windows-{page}" for page in (874, *range(1250, 1259))}
    | {f"cp{page}" for page in (437, 850, 866, 874, *range(1250, 1259))}
    | {"shift-jis", "euc-jp", "iso-2022-jp", "gb2312", "gbk", "gb18030", "big5", "euc-kr"}
)
_WIDE = frozenset({"utf-16", "utf-16le", "utf-16be"})
_CODECS = {"windows-874": "cp874"}  # Where Python has another name.
_PARAMETER = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;\"]+))", re.IGNORECASE)


class UnknownCharset(ValueError):
    """The sender's fault: a charset that nobody here reads."""


class NotInCharset(ValueError):
    """The sender's fault: the bytes are not in the charset that they name, or become too many."""


def charset_of(content_type: str, *, ascii_only: bool = False) -> str:
    """The codec of a body; "" when its content type names none.

    Args:
        content_type: the Content-Type header.
        ascii_only: whether the format gives ASCII characters a meaning as bytes, as forms do.

    Raises:
        UnknownCharset: it names one that is not known.
    """
    found = _PARAMETER.search(content_type)
    if found is None:
        return ""
    label = (found[1] or found[2] or "").strip().lower().replace("_", "-")
    if label not in _LABELS and (ascii_only or label not in _WIDE):
        raise UnknownCharset(f"a body in the charset {label[:40]!r} is not read here: send it as UTF-8")
    return _CODECS.get(label, label)


def decode(body: bytes, charset: str) -> str:
    """The text of a body; raises `NotInCharset`."""
    charset = charset or DEFAULT
    try:
        text = body.decode(charset)
    except UnicodeDecodeError:
        raise NotInCharset(f"the body is not {charset.upper()} text") from None
    if charset not in ("utf-8", "utf8") and len(text.encode("utf-8", "surrogatepass")) > DECODED_BYTES_MAX:
        raise NotInCharset(f"the body is not read: as UTF-8 it may have at most {DECODED_BYTES_MAX} bytes")
    return text
