"""The largest commit, torn: it reaches as far as any commit can, and is still a tear and not damage."""

import random

import pytest

from journal import LOCAL_PARTITION
from tests.journal.disk import Disk, PowerLossError
from tests.journal.stories import SMALL, group, held, open_on

LARGEST = [b"\xc5\x1f\xb8" + b"x" * 0x1FB8]  # With both headers exactly the half of a segment a commit may take.


def torn_after_a_confirm() -> Disk:
    """The power goes while the largest commit is written over a confirm frame nobody waited for."""
    disk = Disk()
    owner = open_on(disk, SMALL).own(LOCAL_PARTITION)
    owner.append([group("a")], at=1)
    assert owner.confirm()
    disk.plan[len(disk.log)] = "power"
    with pytest.raises(PowerLossError):
        owner.append([LARGEST], at=2)
    return disk


def test_given_the_largest_commit_when_any_sectors_of_it_survive_then_the_journal_opens() -> None:
    """Sectors 0 and 1 are the confirm frame and the head of the commit: all their fates, with chance for the rest."""
    disk = torn_after_a_confirm()
    chance = random.Random(1)
    for first in (False, True):
        for second in (False, True):
            for _ in range(40):
                fates = iter([first, second, *(chance.random() < 0.7 for _ in range(14)), True])
                with open_on(disk.power_loss(fates.__next__)) as log:
                    assert held(log) == ["a"] or log.next_seq == 2
                    assert log.recovery.torn_bytes <= 8192 + 512


def test_given_only_the_far_end_of_the_largest_commit_when_opened_then_it_is_cut_off() -> None:
    fates = iter([False] * 16 + [True])
    with open_on(torn_after_a_confirm().power_loss(fates.__next__)) as log:
        assert held(log) == ["a"]
        assert log.recovery.torn_bytes == 8192 + 512
