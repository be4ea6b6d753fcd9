"""Objects written as XML, in the form in which XML bodies are read: attributes as `@name`, text beside them as `#text`.

1. A body has one root: an object with one name. A list repeats its element.
2. Names come from data too, so each is held to the grammar of XML; texts are escaped, never trusted.
3. What XML has no characters for is refused, since no reader would take it.
"""

import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

# XML 1.0, fifth edition, productions 2, 4 and 4a.
_START = (
    ":A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f"
    "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME = re.compile(f"[{_START}][{_START}0-9.\\-\u00b7\u0300-\u036f\u203f\u2040]*")
_NO_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class XmlError(ValueError):
    """The author's or the sender's fault: a value is no XML; the message says what it breaks."""


def write_xml(value: Any, written: Callable[[Any], str]) -> str:
    """A value as an XML document.

    Args:
        value: an object with one name, that of the root.
        written: how a value that is neither object nor list stands in a text.

    Raises:
        XmlError: it has no root or several, a name is none, or a text holds a character that XML does not have.
    """
    if not isinstance(value, Mapping) or len(value) != 1:
        raise XmlError("an xml body is an object with one name, that of its root")
    ((name, root),) = value.items()
    if isinstance(root, list):
        raise XmlError(f"the root of an xml body is one element, not a list of {len(root)}")
    return DECLARATION + _element(name, root, written)


def _element(name: str, value: Any, written: Callable[[Any], str]) -> str:
    if not _NAME.fullmatch(name):
        raise XmlError(f"{name[:40]!r} is no name of an xml element")
    attributes, inner = "", ""
    for key, item in value.items() if isinstance(value, Mapping) else [("#text", value)]:
        if key == "#text":
            inner += _text(item, written).replace("\r", "&#13;")
        elif key.startswith("@"):
            if not _NAME.fullmatch(key[1:]):
                raise XmlError(f"{key[1:41]!r} is no name of an xml attribute")
            text = _text(item, written).replace("\t", "&#9;").replace("\n", "&#10;").replace("\r", "&#13;")
            attributes += f' {key[1:]}="{text}"'
        else:
            inner += "".join(_element(key, one, written) for one in (item if isinstance(item, list) else [item]))
    return f"<{name}{attributes}>{inner}</{name}>" if inner else f"<{name}{attributes}/>"


def _text(value: Any, written: Callable[[Any], str]) -> str:
    if isinstance(value, Mapping | list):
        raise XmlError("a text of an xml body is neither an object nor a list")
    text = written(value)
    if found := _NO_CHARACTER.search(text):
        raise XmlError(f"XML has no character {found[0]!r}")
    return escape(text)
