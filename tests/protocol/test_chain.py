"""Chains (sections 7 and 8): one id for all that one request set off, and a depth that every way back carries."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chain import CHAIN_HEADER, TRACE_HEADER, Chain, chain_header, chain_of, new_chain, read_chain, traceparent
from protocol.inputs import Accepted, Refused, Resumed
from protocol.state import TransactionRow
from tests.protocol.story import Story, cycle

KEY = b"of this server"
ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{ID}-00f067aa0ba902b7-01"


# ---------------------------------------------------------------- headers


@given(st.binary(min_size=16, max_size=16).filter(any), st.integers(0, 999_999), st.binary(min_size=1))
def test_7_what_was_signed_is_read_as_it_was_said(chain: bytes, depth: int, key: bytes) -> None:
    """Section 7: the id and the depth, as our own word."""
    header = {CHAIN_HEADER: chain_header(chain.hex(), depth, key)}
    assert read_chain(header, key) == (Chain(chain.hex(), signed=True), depth)


@pytest.mark.parametrize(("depth", "key"), [(4, KEY), (5, b"of another server")])
def test_8_what_another_signed_is_heard_but_is_not_our_word(depth: int, key: bytes) -> None:
    """Section 8: a depth that was changed on the way, or that another server signed, still counts."""
    said = chain_header(ID, 5, key).replace("-5-", f"-{depth}-")
    assert read_chain({CHAIN_HEADER: said}, KEY) == (Chain(ID, signed=False), depth)


@pytest.mark.parametrize(
    "said",
    [
        *("", "1", f"1-{ID}-5", f"2-{ID}-5-{ID}", f"1-{ID.upper()}-5-{ID}", f"1-{ID}--5-{ID}", f"1-{ID}-1234567-{ID}"),
        *(f"1-{'0' * 32}-5-{ID}", f"1-{ID}-5-{ID}-", f"1-{ID}-\u0665-{ID}", f" 1-{ID}-5-{ID}\n"),
    ],
)
def test_8_what_is_no_chain_header_is_not_there(said: str) -> None:
    """Section 8: whatever a caller writes, it is read or it is not."""
    assert read_chain({CHAIN_HEADER: said}, KEY) == (Chain(), 0)


@pytest.mark.parametrize(
    ("said", "chain"),
    [
        (TRACE, Chain(ID)),
        (TRACE[:-1] + "0", Chain(ID, sampled=False)),
        (TRACE[:-2] + "ff", Chain(ID)),
        (f"cc{TRACE[2:]}-more", Chain(ID)),
        (f"{TRACE}-more", Chain()),
        (f"ff{TRACE[2:]}", Chain()),
        (TRACE.upper(), Chain()),
        (TRACE.replace(ID, "0" * 32), Chain()),
        (TRACE.replace("00f067aa0ba902b7", "0" * 16), Chain()),
        ("", Chain()),
    ],
)
def test_7_an_incoming_trace_is_gone_on_with(said: str, chain: Chain) -> None:
    """Section 7: as W3C Trace Context has it, versions that are not written yet included."""
    assert read_chain({TRACE_HEADER: said}, KEY) == (chain, 0)


def test_7_both_headers_together_say_the_chain_and_whether_it_is_sampled() -> None:
    """Section 7: our own header goes over the trace of something that stood between."""
    headers = {CHAIN_HEADER: chain_header("a" * 32, 3, KEY), TRACE_HEADER: TRACE[:-1] + "0"}
    assert read_chain(headers, KEY) == (Chain("a" * 32, signed=True, sampled=False), 3)


def test_7_the_trace_of_a_call_is_made_from_its_chain_and_its_key() -> None:
    """Section 7: the same on every attempt, another one for another call."""
    one = traceparent(ID, "orders-7.work.1", sampled=True)
    assert one == traceparent(ID, "orders-7.work.1", sampled=True)
    assert one.startswith(f"00-{ID}-")
    assert one.endswith("-01")
    assert one != traceparent(ID, "orders-7.work.2", sampled=True)
    assert traceparent(ID, "x", sampled=False).endswith("-00")
    assert len({new_chain("orders", 7, 1), new_chain("orders", 7, 2), new_chain("orders", 8, 1)}) == 3


# ---------------------------------------------------------------- transactions

HOLDING = cycle(
    "  t: {webhook: shop, fields: {job: integer}}\n"
    "  back: {webhook: shop, fields: {job: integer}, match: {job: t.job}}\n"
    "  call: {post: remote, path: /x}\n"
)


def began(verdict: object, story: Story) -> TransactionRow:
    """The transaction of a hit."""
    assert isinstance(verdict, Accepted | Resumed), verdict
    return story.state.transaction(verdict.transaction)


def test_7_a_request_that_names_no_chain_begins_one() -> None:
    """Section 7: each its own, and replay gives the same."""
    story = Story(HOLDING)
    first, second = (began(story.hit("t", {"job": job}), story) for job in (1, 2))
    assert chain_of(first) != chain_of(second)
    assert chain_of(story.replayed().transaction(first.id)) == chain_of(first)


def test_7_a_callback_goes_on_with_the_chain_of_its_transaction() -> None:
    """Section 7: unless it brings one; then the pass belongs to that, and is never less deep than it was."""
    story = Story(HOLDING)
    row = began(story.hit("t", {"job": 1}, depth=3, chain=Chain(ID)), story)
    story.hit("back", {"job": 1})
    assert (row.chain, row.depth) == (ID, 3)
    story.answer({})
    other = Chain("a" * 32, signed=True, sampled=False)
    for depth, deepest in ((5, 5), (2, 5)):
        story.hit("back", {"job": 1}, depth=depth, chain=other)
        assert (row.chain, row.depth, row.sampled) == ("a" * 32, deepest, False)
        story.answer({})


def test_8_a_loop_by_way_of_a_mid_cycle_webhook_ends() -> None:
    """Section 8: whoever is called calls back, the pass calls again, and so on: each way back is one deeper."""
    story = Story(HOLDING)
    row = began(story.hit("t", {"job": 1}), story)
    verdict: Any = None
    turns = 0
    while not isinstance(verdict, Refused):
        assert turns < 40
        verdict = story.hit("back", {"job": 1}, depth=row.depth + 1, chain=Chain(chain_of(row), signed=True))
        if row.call is not None:
            story.answer({})
            turns += 1
    assert turns == 16
    assert (verdict.status, verdict.title) == (508, "Loop Detected")


@pytest.mark.parametrize(("signed", "level"), [(True, "error"), (False, "warning")])
def test_8_too_deep_is_508_and_one_incident_that_names_the_chain(signed: bool, level: str) -> None:
    """Section 8: nothing is accepted; what an unknown caller says of depth is a warning, since anybody can say so."""
    story = Story(HOLDING)
    assert isinstance(story.hit("t", {"job": 1}, depth=16, chain=Chain(ID, signed=signed)), Accepted)
    before = len(story.state.hits)
    for _ in range(3):
        refused = story.hit("t", {"job": 1}, depth=17, chain=Chain(ID, signed=signed))
        assert isinstance(refused, Refused)
        assert refused.status == 508
        assert ID in refused.detail
    assert len(story.state.hits) == before
    (incident,) = story.state.incidents.values()
    assert (incident.kind, incident.level, incident.transaction) == ("loop_detected", level, 0)
    assert ID in incident.message
    assert incident.detail == {"chain": ID, "depth": 17, "signed": signed}
    assert isinstance(story.hit("t", {"job": 1}, depth=17, chain=Chain("b" * 32)), Refused)
    assert len(story.state.incidents) == 2


def test_8_a_stopped_cycle_refuses_a_loop_as_well() -> None:
    """Section 8: what can not run is not collected either."""
    story = Story(HOLDING.replace("settings: {}", "settings: {while_stopped: collect}"), started=False)
    assert isinstance(story.hit("t", {"job": 1}, depth=17, chain=Chain(ID)), Refused)


def test_8_items_of_a_list_belong_to_the_chain_of_what_was_split() -> None:
    """Section 8: with its depth."""
    text = cycle(
        "  t: {webhook: shop, fields: {list: list}}\n  one: {split: t.list}\n  call: {post: remote, path: /x}\n"
    )
    story = Story(text)
    story.hit("t", {"list": [1, 2]}, depth=3, chain=Chain(ID, sampled=False))
    rows = story.state.transactions.values()
    assert [(row.chain, row.depth, row.sampled) for row in rows] == [(ID, 3, False)] * 3


def test_8_what_goes_on_after_a_wait_all_is_as_deep_as_the_deepest_that_came() -> None:
    """Section 8: a loop that gathers would else never end."""
    text = cycle(
        "  t: {webhook: shop, fields: {list: list}}\n  call: {post: remote, path: /x}\n  all: {wait_all: true}\n"
        "  after: {post: remote, path: /after}\n"
    )
    story = Story(text)
    for depth, chain in ((2, "a" * 32), (4, ID), (3, "b" * 32)):
        story.hit("t", {}, depth=depth, chain=Chain(chain))
    for row in list(story.state.transactions.values()):
        story.answer({}, transaction=row.id)
    last = list(story.state.transactions.values())[-1]
    assert (last.phase, last.depth, last.chain) == ("all", 4, ID)
    assert not story.state.cycle("c").deepest
