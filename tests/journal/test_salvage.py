"""Salvage: the good part is kept, the rest is set apart and accounted for, and nothing is deleted."""

from collections.abc import Callable

import pytest

from journal import LOCAL_PARTITION, JournalDamaged, JournalNewer, Loss, verify
from journal.segment import HEADER_SIZE
from tests.journal.disk import FOLDER, Disk, PowerLossError
from tests.journal.stories import group, held, open_on

QUARANTINE = FOLDER / "quarantine"


def build(segments: int = 4) -> tuple[Disk, list[object]]:
    """A cleanly closed journal."""
    disk = Disk()
    with open_on(disk) as log:
        owner = log.own(LOCAL_PARTITION)
        number = 0
        while len(log.segments()) < segments or number % 5:
            owner.append([group(number, "x" * (number % 5 * 150))], at=number)
            number += 1
        values = held(log)
    return disk.copy(), values


def salvage(disk: Disk, values: list[object]) -> Loss | None:
    """Salvage, and check what must hold after every salvage; returns what was lost."""
    before = {name: bytes(disk.content(name)) for name in disk.segments()}
    with open_on(disk, salvage=True) as log:
        loss = log.recovery.loss
        kept = held(log, log.first_seq - 1)
        assert kept == values[log.first_seq : log.next_seq]
        if loss is not None:
            assert loss.first_seq == log.next_seq
        assert log.own(LOCAL_PARTITION).append([group("after")], at=10_000) == log.next_seq
    assert verify(FOLDER, storage=disk).faults == ()
    with open_on(disk) as log:
        assert held(log, log.first_seq - 1) == [*kept, "after"]
    # Every byte that was there is still somewhere, but for the zeros at the end of files.
    there = [bytes(file.cache).rstrip(b"\0") for file in disk.names.values()]
    set_apart = [there_[:] for there_ in there]
    for name, content in before.items():
        good = content.rstrip(b"\0")
        assert any(good == left or good.endswith(left) or left.startswith(good[:HEADER_SIZE]) for left in set_apart), (
            name
        )
    return loss


def flip(name_at: int, offset: int) -> Callable[[Disk], None]:
    def damage(disk: Disk) -> None:
        disk.content(disk.segments()[name_at])[offset] ^= 1

    return damage


def remove(name_at: int) -> Callable[[Disk], None]:
    def damage(disk: Disk) -> None:
        del disk.names[str(FOLDER / disk.segments()[name_at])]

    return damage


def test_given_a_good_journal_when_salvaged_then_nothing_is_given_up() -> None:
    disk, values = build()
    assert salvage(disk, values) is None
    assert disk.list_folder(QUARANTINE) == []
    assert salvage(Disk(), []) is None


@pytest.mark.parametrize("name_at", range(4))
@pytest.mark.parametrize("offset", [10, 4096 + 66, 4096 + 512 * 9 + 70])
def test_given_damage_anywhere_when_salvaged_then_all_before_it_is_kept(name_at: int, offset: int) -> None:
    disk, values = build()
    name = disk.segments()[name_at]
    segments = disk.segments()
    flip(name_at, offset)(disk)
    loss = salvage(disk, values)
    assert loss is not None
    assert loss.segment == name
    assert loss.offset <= offset
    assert loss.bytes > 0
    assert loss.last_seq is not None or name_at == 3
    assert sorted(loss.files) == sorted(disk.list_folder(QUARANTINE))
    assert set(segments[name_at + 1 :]) <= set(loss.files)


def test_given_damage_in_the_last_segment_when_salvaged_then_what_is_known_of_the_loss_is_said() -> None:
    disk, values = build()
    with open_on(disk.copy()) as log:
        active = log.segments()[-1]
    flip(3, 4096 + 512 + 66)(disk)
    loss = salvage(disk, values)
    assert loss is not None
    assert active.base_seq < loss.first_seq < active.next_seq
    assert loss.last_seq == active.next_seq - 1
    [name] = loss.files
    assert name == f"{active.name}.{loss.offset}"


@pytest.mark.parametrize("name_at", range(4))
def test_given_a_missing_segment_when_salvaged_then_the_later_ones_are_set_apart(name_at: int) -> None:
    disk, values = build()
    segments = disk.segments()
    remove(name_at)(disk)
    loss = salvage(disk, values)
    assert loss is not None
    assert loss.segment == segments[name_at]
    assert sorted(loss.files) == segments[name_at + 1 :]


@pytest.mark.parametrize("how", ["missing", "damaged", "old"])
def test_given_no_good_manifest_when_salvaged_then_it_is_made_from_the_segments(how: str) -> None:
    disk, values = build()
    with open_on(disk.copy()) as log:
        epoch = log.stats().epoch
    if how == "missing":
        del disk.names[str(FOLDER / "MANIFEST")]
    elif how == "damaged":
        disk.content("MANIFEST")[20] ^= 1
    else:
        young = Disk()
        with open_on(young):
            pass
        disk.content("MANIFEST")[:] = young.content("MANIFEST")
    with pytest.raises(JournalDamaged):
        open_on(disk.copy())
    with open_on(disk, salvage=True) as log:
        assert held(log) == values
        assert how == "old" or log.stats().epoch > epoch
    assert verify(FOLDER, storage=disk).faults == ()


def test_given_a_foreign_file_when_salvaged_then_it_is_set_apart_and_no_record_is_lost() -> None:
    disk, values = build()
    disk.names[str(FOLDER / "notes.txt")] = disk.copy().names[str(FOLDER / "LOCK")]
    loss = salvage(disk, values)
    assert loss is not None
    assert loss.files == ("notes.txt",)
    assert loss.first_seq == len(values)


def test_given_a_trimmed_journal_when_its_first_segment_is_lost_then_numbers_go_on_where_it_began() -> None:
    disk, values = build()
    with open_on(disk) as log:
        log.save_snapshot(LOCAL_PARTITION, log.next_seq - 1, b"", schema="")
        log.trim(LOCAL_PARTITION, log.segments()[1].next_seq - 1)
        first = log.first_seq
    assert first > 0
    flip(0, 10)(disk)
    disk = disk.copy()
    with open_on(disk, salvage=True) as log:
        assert (log.first_seq, log.next_seq) == (first, first)
        assert log.own(LOCAL_PARTITION).append([group("after")], at=1) == first + 1
    with open_on(disk) as log:
        assert held(log, first - 1) == ["after"]
    (fault,) = verify(FOLDER, storage=disk).faults
    assert "a whole snapshot has what retention dropped" in fault.message, "it was ahead, and was set apart"
    assert values


def test_given_a_torn_commit_when_salvaged_then_it_is_recovery_that_cuts_it() -> None:
    disk = Disk()
    owner = open_on(disk).own(LOCAL_PARTITION)
    owner.append([group("a")], at=1)
    disk.plan[len(disk.log)] = "power"
    with pytest.raises(PowerLossError):
        owner.append([group("b" * 2000)], at=2)
    fates = iter([True, False, True, True, False])
    with open_on(disk.power_loss(fates.__next__), salvage=True) as log:
        assert log.recovery.loss is None
        assert log.recovery.torn_bytes > 0
        assert held(log) == ["a"]


def test_given_two_salvages_when_files_have_the_same_names_then_neither_is_overwritten() -> None:
    disk, _ = build()
    for _ in range(2):
        disk = disk.copy()
        flip(1, 10)(disk)
        with open_on(disk, salvage=True) as log:
            owner = log.own(LOCAL_PARTITION)
            while len(log.segments()) < 3:
                owner.append([group("x" * 900)], at=1)
    names = disk.list_folder(QUARANTINE)
    assert len(names) == len(set(names))
    assert any(name.endswith(".seg.1") for name in names)


def test_given_a_journal_of_a_newer_build_when_salvaged_then_nothing_is_touched() -> None:
    import struct
    import zlib

    disk, _ = build()
    content = disk.content(disk.segments()[1])
    content[8] = 9
    content[4092:4096] = struct.pack("<I", zlib.crc32(bytes(content[:4092])))
    before = disk.state()
    with pytest.raises(JournalNewer):
        open_on(disk, salvage=True)
    assert {name: content for name, content in disk.state().items() if not name.endswith("LOCK")} == {
        name: content for name, content in before.items() if not name.endswith("LOCK")
    }


def test_given_a_power_loss_during_salvage_when_salvaged_again_then_the_same_records_are_kept() -> None:
    broken, values = build()
    flip(2, 4096 + 512 * 3 + 66)(broken)
    finished = broken.copy()
    with open_on(finished, salvage=True) as log:
        kept = log.next_seq
    step = 0
    while True:
        disk = broken.copy()
        disk.plan[step] = "power"
        try:
            open_on(disk, salvage=True)
        except PowerLossError:
            if disk.log[-1] != "read":
                for fate in (False, True):
                    left = disk.power_loss(lambda fate=fate: fate)
                    with open_on(left, salvage=True) as log:
                        assert log.next_seq == kept
                        assert held(log) == values[:kept]
            step += 1
        else:
            break
    assert step > 10
