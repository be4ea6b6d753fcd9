"""`check: warn`: a request that breaks its contract is taken, and a person is told, wherever it finds its place."""

from protocol.inputs import Parked
from tests.protocol.story import Story

WARNED = """
cycle: warned
connectors: {shop: {}}
settings: {while_stopped: collect}
steps:
  placed: {webhook: shop, fields: {order: text, n: integer}, check: warn}
  changed: {webhook: shop, fields: {order: text, n: integer}, match: {order: placed.order}, check: warn}
"""


def test_4_a_warned_request_that_is_parked_is_reported() -> None:
    """Section 4: given `check: warn`, when a broken request comes before its hold, then the incident is recorded."""
    story = Story(WARNED)
    assert isinstance(story.hit("changed", {"order": "A1", "n": "many"}), Parked)
    assert story.incidents() == ["contract_broken"]
    story.hit("placed", {"order": "A1", "n": 1})
    assert (story.status(), story.incidents()) == (["completed"], ["contract_broken"])


def test_4_a_warned_request_of_a_stopped_cycle_is_reported() -> None:
    """Section 4: given a stopped cycle that collects, when a broken request comes, then the incident is recorded."""
    story = Story(WARNED)
    story.stop()
    assert isinstance(story.hit("placed", {"order": "A1", "n": "many"}), Parked)
    assert story.incidents() == ["contract_broken"]
