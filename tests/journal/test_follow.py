"""A reader that looks again and again, as `journal tail --follow` does: it goes on where it was."""

import random

import pytest

from journal import LOCAL_PARTITION, JournalDamaged, JournalOptions, LocalReader
from tests.journal.disk import FOLDER, Disk
from tests.journal.stories import SMALL, group, held, open_on, owned

LARGE = JournalOptions(segment_bytes=8 << 20)


class Counted(Disk):
    """A disk that counts the bytes that are read, and the syncs."""

    read_bytes = 0
    syncs = 0

    def read(self, handle: int, into: memoryview, offset: int) -> int:
        got = super().read(handle, into, offset)
        self.read_bytes += got
        return got

    def sync(self, handle: int) -> None:
        self.syncs += 1
        super().sync(handle)


def test_given_a_large_segment_when_followed_then_a_look_reads_what_is_new_and_no_more() -> None:
    """The first look walks it; after that one of them costs a buffer or two, however much lies before."""
    disk = Counted()
    with owned(disk, LARGE) as owner:
        for at in range(40):
            owner.append([group("x" * 60_000)], at=at)
        reader = LocalReader(FOLDER, disk)
        last = reader.next_seq - 1
        for at in range(40, 45):
            owner.append([group(at)], at=at)
            disk.read_bytes = disk.syncs = 0
            assert held(reader, last) == [at]
            last = reader.next_seq - 1
            assert disk.read_bytes < 5 << 20
            assert disk.syncs == 1
        disk.read_bytes = disk.syncs = 0
        assert reader.next_seq == last + 1
        assert (disk.read_bytes < 2 << 20, disk.syncs) == (True, 0), "nothing is new, so nothing needs the disk"


@pytest.mark.parametrize("seed", range(20))
def test_given_a_writer_that_commits_confirms_rotates_and_restarts_when_followed_then_every_record_is_seen_once(
    seed: int,
) -> None:
    """In order, across segments; a look now and then, as it comes."""
    chance = random.Random(seed)
    disk = Disk()
    log = open_on(disk, SMALL)
    owner = log.own(LOCAL_PARTITION)
    reader = LocalReader(FOLDER, disk)
    seen: list[object] = []
    for number in range(120):
        match chance.randrange(8):
            case 0:
                owner.confirm()
            case 1:
                owner.close()
                log.close()
                log = open_on(disk, SMALL)
                owner = log.own(LOCAL_PARTITION)
            case _:
                pass
        owner.append([group(number, "x" * chance.randrange(600))], at=number)
        if chance.randrange(3) == 0:
            seen += held(reader, len(seen) - 1)
    seen += held(reader, len(seen) - 1)
    assert seen[::2] == list(range(120))
    assert seen == held(LocalReader(FOLDER, disk))
    log.close()


def test_given_damage_behind_what_was_seen_when_looked_again_then_it_is_told() -> None:
    """A look that finds anything but zeros examines the segment as the first one did."""
    disk = Disk()
    with owned(disk, SMALL) as owner:
        owner.append([group("a")], at=1)
        reader = LocalReader(FOLDER, disk)
        owner.append([group("b")], at=2)
        owner.append([group("c")], at=3)
        (name,) = (path for path in disk.list_folder(FOLDER) if path.endswith(".seg"))
        handle = disk.open_write(FOLDER / name)
        content = bytearray(disk.size(handle))
        disk.read(handle, memoryview(content), 0)
        disk.write(handle, [b"\xff"], content.index(b"\xa1b"))
        with pytest.raises(JournalDamaged):
            held(reader, 0)
