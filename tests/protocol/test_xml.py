"""`body_as: xml` (section 7): objects as XML, in the form in which XML is read (section 4)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bodies import read_body
from tests.protocol.story import Story, begun, cycle

DECLARED = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,6}", fullmatch=True)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), min_size=1
).filter(lambda text: text == text.strip())
VALUES = st.recursive(
    TEXTS | st.none(),
    lambda inner: st.dictionaries(NAMES, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3),
    max_leaves=10,
)


def asking() -> Story:
    """A cycle that sends what it is given, and answers with it, both as XML."""
    return Story(
        cycle(
            "  t: {webhook: shop}\n"
            "  ask: {post: remote, path: /x, body: '{{ t.value }}', body_as: xml}\n"
            "  tell: {respond: {body: '{{ t.value }}', body_as: xml}}\n"
        )
    )


def sent(value: Any) -> str:
    """The body that a step sends."""
    story = asking()
    story.hit("t", {"value": value})
    (call,) = story.calls()
    assert call.request.content_type == "application/xml; charset=utf-8"
    return call.request.body.decode()


@pytest.mark.parametrize(
    ("value", "xml"),
    [
        ({"order": {"@id": "7", "line": ["tea", "pot"]}}, '<order id="7"><line>tea</line><line>pot</line></order>'),
        ({"price": {"@currency": "EUR", "#text": 9.9}}, '<price currency="EUR">9.9</price>'),
        (
            {"a": {"n": 7, "yes": True, "nothing": None, "empty": ""}},
            "<a><n>7</n><yes>true</yes><nothing/><empty/></a>",
        ),
        ({"a": "<b> & \"c\" 'd'"}, "<a>&lt;b&gt; &amp; &quot;c&quot; &#x27;d&#x27;</a>"),
        ({"a": {"@b": 'x"\n<'}}, '<a b="x&quot;&#10;&lt;"/>'),
        (
            {"soap:Body": {"@xmlns:soap": "urn:x", "größe": 3}},
            '<soap:Body xmlns:soap="urn:x"><größe>3</größe></soap:Body>',
        ),
        ({"a": {"b": []}}, "<a/>"),
    ],
)
def test_7_an_object_is_sent_as_xml(value: Any, xml: str) -> None:
    """Section 7: `@name` is an attribute, `#text` the text beside them, a list repeats its element."""
    assert sent(value) == DECLARED + xml


@given(VALUES)
def test_4_what_is_sent_as_xml_is_read_as_the_same_value(value: Any) -> None:
    """Sections 4 and 7: whatever texts and names it has, markup among them."""
    assert read_body(sent({"root": value}).encode(), "application/xml") == {"root": value}


@pytest.mark.parametrize(
    "value",
    [
        "text", ["a"], {}, {"a": 1, "b": 2}, {"a": ["b", "c"]}, {"a b": 1}, {"a><b": 1}, {"1a": 1}, {"": 1}, {"@a": 1},
        {"a": {"@b c": 1}}, {"a": {"@b": {"c": 1}}}, {"a": {"#text": [1]}}, {"a": "\u0001"}, {"a": {"@b": "\u0000"}},
        {"a": "\ufffe"}, {"a": [["b"]]}, {"a": {"b": [["c"]]}},
    ],
)  # fmt: skip
def test_7_what_is_no_xml_is_not_sent(value: Any) -> None:
    """Section 7: one root, names that are names, and no character that XML has no place for; the step fails."""
    story = asking()
    story.hit("t", {"value": value})
    assert not story.calls()
    assert story.incidents()[0] == "invalid_request"


def test_5_an_answer_can_be_xml() -> None:
    """Section 5: the kinds of body are those of section 7."""
    story = begun("  r: {respond: {body: {ok: '{{ t.n }}'}, body_as: xml}}\n", {"n": 1})
    (reply,) = story.answers(story.only().hit)
    assert (reply.headers["content-type"], reply.body.decode()) == (
        "application/xml; charset=utf-8",
        f"{DECLARED}<ok>1</ok>",
    )
