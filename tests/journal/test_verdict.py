"""The recovery table: every combination of facts, and the rules that the table must imply."""

from collections.abc import Iterator
from itertools import product

import pytest

from journal.verdict import TABLE, Facts, Found, Last, Verdict, Where, decide

FLAGS = (False, True)


def every_combination() -> Iterator[Facts]:
    """All facts there could be, observable or not."""
    for where, short, rest_zero, last, found, proof, far in product(Where, FLAGS, FLAGS, Last, Found, FLAGS, FLAGS):
        yield Facts(where, short, rest_zero, last, found, proof, far)


def test_given_any_facts_when_looked_up_then_exactly_one_row_matches() -> None:
    """No gap and no overlap: each combination has a verdict or is declared impossible."""
    for facts in every_combination():
        assert len([row for row in TABLE if row.matches(facts)]) == 1, facts


def test_given_the_table_when_walked_then_every_row_is_used() -> None:
    used = {row.rule for facts in every_combination() for row in TABLE if row.matches(facts)}
    assert used == {row.rule for row in TABLE}


def test_given_impossible_facts_when_decided_then_it_is_our_bug() -> None:
    impossible = Facts(
        Where.ACTIVE, short=False, rest_zero=True, last=Last.OPEN, found=Found.ALTERED, proof=False, far=False
    )
    with pytest.raises(AssertionError, match="match"):
        decide(impossible)


def decided() -> Iterator[tuple[Facts, Verdict]]:
    """Every observable combination with its verdict."""
    for facts in every_combination():
        row = next(row for row in TABLE if row.matches(facts))
        if row.verdict is not None:
            yield facts, decide(facts)[0]


def test_given_any_facts_when_cut_then_nothing_speaks_against_a_tear() -> None:
    """The only verdict that drops bytes demands an open, unproven, near, unwritten place in a whole active file."""
    for facts, verdict in decided():
        if verdict is Verdict.CUT:
            assert facts.where is Where.ACTIVE
            assert facts.last is Last.OPEN
            assert facts.found in {Found.ZERO, Found.GAPPED, Found.CUT_OFF}
            assert not any((facts.short, facts.rest_zero, facts.proof, facts.far))


def test_given_any_facts_when_going_on_then_only_zeros_follow() -> None:
    for facts, verdict in decided():
        if verdict in {Verdict.CONTINUE, Verdict.SEAL}:
            assert facts.rest_zero
            assert facts.where is Where.ACTIVE
            assert (verdict is Verdict.SEAL) == (facts.last is Last.FOOTER)


def test_given_a_sealed_or_short_segment_when_decided_then_it_is_always_refused() -> None:
    for facts, verdict in decided():
        if facts.where is Where.SEALED or facts.short:
            assert verdict is Verdict.REFUSE
