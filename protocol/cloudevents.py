"""CloudEvents 1.0 over HTTP (CNCF CloudEvents HTTP Protocol Binding): attributes apart from data, in both modes.

Binary mode carries the attributes in `ce-` headers and the data as the body; structured mode carries all of it as one
JSON object. Either way a step's fields are those of the data, and `hit.event` holds the attributes.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from protocol.bodies import BodyError, media_type, read_body

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
REQUIRED = ("id", "source", "specversion", "type")


def read_event(headers: Mapping[str, str], body: bytes, content_type: str) -> tuple[Any, dict[str, Any] | None]:
    """A body's value, and the attributes of the event it is; None when it is none.

    Raises:
        UnsupportedBody: the content type is none that a webhook reads, batches of events among them.
        BodyError: the body is not what it says, or a structured event lacks a required attribute.
    """
    if "ce-id" not in headers and "cloudevents" not in content_type.lower():
        return read_body(body, content_type), None  # Most requests, at once.
    kind = media_type(content_type)
    if kind == BATCHED:
        raise BodyError("a batch of events is many requests: send each event by itself")
    value = read_body(body, content_type)
    if kind == STRUCTURED:
        return _structured(value)
    attributes = {name[3:]: unquote(said) for name, said in headers.items() if name.startswith("ce-") and len(name) > 3}
    if not all(name in attributes for name in REQUIRED):
        return value, None
    if content_type:
        attributes["datacontenttype"] = content_type
    return value, attributes


def _structured(value: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(value, dict):
        raise BodyError("a structured event is an object")
    missing = [name for name in REQUIRED if not isinstance(value.get(name), str) or not value[name]]
    if missing:
        raise BodyError(f"an event needs the attributes {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    attributes = {name: said for name, said in value.items() if name not in ("data", "data_base64")}
    if "data_base64" not in value:
        return value.get("data"), attributes
    try:
        data = base64.b64decode(str(value["data_base64"]), validate=True)
    except (binascii.Error, ValueError):
        raise BodyError("data_base64 of the event is not base64") from None
    return read_body(data, str(attributes.get("datacontenttype", ""))), attributes
