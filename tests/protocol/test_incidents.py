"""Incidents (section 10): one list of kinds for all that can go wrong, and messages that show nothing sensitive."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from protocol.events import IncidentRaised, decode_events
from protocol.incidents import KINDS, Kind
from tests.protocol.story import Story, cycle

ROOT = Path(__file__).resolve().parents[2]


def test_10_every_kind_is_explained_and_the_readme_says_the_same() -> None:
    """Section 10: the table of the README is the list of the code."""
    assert tuple(KINDS) == get_args(Kind)
    assert list(KINDS) == sorted(KINDS)
    told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {kind: told.get(kind) for kind in KINDS} == KINDS


def test_10_a_kind_that_nobody_knows_is_no_incident() -> None:
    """Section 10: neither the types nor the journal's bytes let one through."""
    event = IncidentRaised("c", 1, 0, "s", "remote_error", "m", "error")
    packed = msgspec.msgpack.encode([event])
    assert decode_events(packed) == [event]
    with pytest.raises(msgspec.ValidationError, match="no_such_kind"):
        decode_events(packed.replace(b"\xacremote_error", b"\xacno_such_kind"))


HIDING = "  t: {webhook: shop, fields: {card: {type: any, sensitive: true}, n: any, m: object}}\n"
STEPS = [
    ("  s: {wait_until: '{{ t.card }}'}\n", "invalid_instant"),
    ("  s: {split: t.card}\n", "can_not_be_split"),
    ("  s: {respond: {status: '{{ t.card }}'}}\n", "invalid_response"),
    ("  s: {split: hit.body.card}\n", "can_not_be_split"),
    ("  s: {wait_until: '{{ t.m[t.card] }}'}\n", "required_source_empty"),
    ("  s: {wait_until: '{{ t.card.matches(t.card) }}'}\n", "invalid_expression"),
    ("  s: {split: '[t.card]'}\n  v: {wait_until: '{{ s.item }}'}\n", "invalid_instant"),
]


@pytest.mark.parametrize(("steps", "kind"), STEPS)
def test_10_no_incident_shows_what_is_sensitive(steps: str, kind: str) -> None:
    """Section 10: incidents are journaled, logged and sent as alerts; a value that was read is not shown by any."""
    story = Story(cycle(HIDING + steps + "  z: {post: remote, path: /z}\n", rules="{on_error: stop_transaction}"))
    story.hit("t", {"card": "hidden[4111", "n": 1, "m": {}})
    assert story.incidents() == [kind]
    assert "hidden" not in repr([event for event in story.journal if isinstance(event, IncidentRaised)])
    assert "hidden" not in repr([row.reason for row in story.state.transactions.values()])


def test_10_what_is_not_sensitive_is_shown() -> None:
    """Section 10: a message names the value found, so that a person can act."""
    story = Story(cycle(HIDING + "  s: {wait_until: '{{ t.n }}'}\n  z: {post: remote, path: /z}\n"))
    story.hit("t", {"card": "hidden", "n": "tomorrow", "m": {}})
    (incident,) = story.state.incidents.values()
    assert "tomorrow" in incident.message
