"""Recovery: a crash loses nothing that was acknowledged, and damage is never taken for a crash.

Damage is done to a small journal on a simulated disk: one sealed segment and an active one. The outcome must be
the same records, or a refusal that names the place; never a silent difference.
"""

from collections.abc import Callable, Iterable
from itertools import product

import pytest

from journal import LOCAL_PARTITION, JournalDamaged, JournalError, JournalNewer, JournalOptions, LocalLog, verify
from journal.frame import HEADER_BYTES, align_up
from journal.segment import HEADER_SIZE
from tests.journal.disk import FOLDER, SECTOR, Disk, PowerLossError
from tests.journal.stories import SMALL, group, held, open_on, owned

ZEROS = bytes(SECTOR)


def build(*, close: bool = True) -> tuple[Disk, list[object]]:
    """A journal of one sealed segment and an active one that ends with a confirm or a clean close."""
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    number = 0
    while len(log.segments()) == 1:
        owner.append([group(number, "x" * (number % 5 * 150))], at=number)
        number += 1
    for more in range(3):
        owner.append([group(more, "y" * 300), group("z" * 200 * more)], at=number + more)
    owner.confirm()
    values = held(log)
    if close:
        log.close()
    return disk.copy(), values


def outcome(disk: Disk) -> list[object] | JournalDamaged:
    """What opening and reading everything gives."""
    try:
        return held(open_on(disk))
    except JournalDamaged as damage:
        return damage


def frame_ends(disk: Disk, name: str) -> dict[int, tuple[int, int]]:
    """For each frame's offset, where its payload ends and where its padding ends."""
    content = disk.content(name)
    ends: dict[int, tuple[int, int]] = {}
    offset = HEADER_SIZE
    while content[offset : offset + 4].startswith(b"JFM1"):
        end = offset + HEADER_BYTES + int.from_bytes(content[offset + 8 : offset + 12], "little")
        ends[offset] = (end, align_up(end, SECTOR))
        offset = align_up(end, SECTOR)
    return ends


def padding(disk: Disk, name: str) -> set[int]:
    """Bytes behind a payload that no checksum covers: they carry nothing, so damage there changes nothing."""
    return {at for end, whole in frame_ends(disk, name).values() for at in range(end, whole)}


EACH_SEGMENT = pytest.mark.parametrize(
    ("which", "close"), [(0, True), (1, True), (1, False)], ids=["sealed", "active, closed", "active, confirmed"]
)


@EACH_SEGMENT
def test_given_a_journal_when_any_byte_flips_then_records_are_the_same_or_the_place_is_named(
    which: int, *, close: bool
) -> None:
    """Every byte up to the end of the log, and some behind; all bits of an active segment's frame headers."""
    disk, values = build(close=close)
    name = disk.segments()[which]
    starts = frame_ends(disk, name)
    harmless = padding(disk, name)
    end = max(whole for _, whole in starts.values())
    heads = (
        {at for start in starts for at in range(start, start + HEADER_BYTES)} if which == 1 and close else set[int]()
    )
    wrong: list[object] = []
    step = 1 if which == 0 else 37  # Behind the end every byte is a zero among zeros.
    for at in [*range(end), *range(end, len(disk.content(name)), step)]:
        for bit in range(8) if at in heads else [at % 8]:
            flipped = disk.copy()
            flipped.content(name)[at] ^= 1 << bit
            found = outcome(flipped)
            same = found == values
            named = isinstance(found, JournalDamaged) and found.segment == name and found.offset <= at
            # Without a clean close, what lies behind the end may be a torn commit: cut off, and no record lost.
            behind = which == 1 and not close and at >= end and same
            if not (same if at in harmless else named or behind):
                wrong.append((at, bit, found))
    assert wrong == []


def test_given_a_journal_when_any_bit_of_the_manifest_flips_then_it_is_refused() -> None:
    disk, _ = build()
    for bit in range(len(disk.content("MANIFEST")) * 8):
        flipped = disk.copy()
        flipped.content("MANIFEST")[bit // 8] ^= 1 << bit % 8
        found = outcome(flipped)
        assert isinstance(found, JournalDamaged)
        assert found.segment == "MANIFEST"


@pytest.mark.parametrize("which", [0, 1], ids=["sealed", "active"])
def test_given_a_journal_when_cut_at_any_byte_then_it_is_refused_by_name(which: int) -> None:
    disk, _ = build()
    name = disk.segments()[which]
    for size in range(len(disk.content(name))):
        cut = disk.copy()
        del cut.content(name)[size:]
        found = outcome(cut)
        assert isinstance(found, JournalDamaged)
        assert found.segment == name


def test_given_a_manifest_when_cut_at_any_byte_then_it_is_refused() -> None:
    disk, _ = build()
    for size in range(len(disk.content("MANIFEST"))):
        cut = disk.copy()
        del cut.content("MANIFEST")[size:]
        found = outcome(cut)
        assert isinstance(found, JournalDamaged)
        assert found.segment == "MANIFEST"


def sectors(disk: Disk, name: str) -> range:
    """Offsets of the sectors that hold frames."""
    return range(HEADER_SIZE, max(whole for _, whole in frame_ends(disk, name).values()), SECTOR)


def damages(disk: Disk, name: str) -> Iterable[tuple[str, Callable[[bytearray], None]]]:
    """What disks do to whole sectors."""
    places = sectors(disk, name)
    old = bytes(disk.content(name))

    def put(at: int, piece: bytes) -> Callable[[bytearray], None]:
        def write(content: bytearray) -> None:
            content[at : at + len(piece)] = piece

        return write

    def swap(one: int, other: int) -> Callable[[bytearray], None]:
        def write(content: bytearray) -> None:
            content[one : one + SECTOR], content[other : other + SECTOR] = (
                old[other : other + SECTOR],
                old[one : one + SECTOR],
            )

        return write

    for at in places:
        yield f"zeroed at {at}", put(at, ZEROS)
        yield f"random at {at}", put(at, bytes(range(1, 129)) * 4)
    for one, other in product(places, places):
        if one < other:
            yield f"swapped {one} and {other}", swap(one, other)
    for start, (_, end) in frame_ends(disk, name).items():
        for at in places:
            if at != start:
                yield f"frame of {start} written at {at}", put(at, old[start:end])


@EACH_SEGMENT
def test_given_a_journal_when_sectors_are_lost_swapped_or_misdirected_then_it_is_the_same_or_refused(
    which: int, *, close: bool
) -> None:
    disk, values = build(close=close)
    name = disk.segments()[which]
    last = sorted(frame_ends(disk, name))[-2 if close else -1 :] if which else list[int]()
    for what, damage in damages(disk, name):
        damaged = disk.copy()
        damage(damaged.content(name))
        found = outcome(damaged)
        if found != values:
            assert isinstance(found, JournalDamaged), what
            assert found.segment == name, what
        elif damaged.content(name) != disk.content(name):
            # Only the confirm and the closing frame at the end may vanish: they carry no record.
            assert what in {f"zeroed at {at}" for at in last}


def test_given_frames_of_another_segment_when_they_lie_in_this_one_then_they_are_not_taken() -> None:
    """A stale or recycled sector: the salt of a segment is in each of its frames."""
    disk, values = build()
    first, second = disk.segments()
    old = bytes(disk.content(first))
    for start, (_, end) in frame_ends(disk, first).items():
        for at in sectors(disk, second):
            damaged = disk.copy()
            damaged.content(second)[at : at + end - start] = old[start:end]
            found = outcome(damaged)
            assert isinstance(found, JournalDamaged) or found == values


def in_flight(prepare: Callable[[Disk], int], groups: list[list[bytes]]) -> tuple[Disk, int]:
    """A disk whose power goes while the groups are being written, and how many records were acknowledged."""
    disk = Disk()
    options = JournalOptions(segment_bytes=SMALL.segment_bytes, soft_frame_bytes=600)
    with owned(disk, options) as owner:
        owner.append([group("a", "b")], at=1)
        owner.append([group("c" * 700)], at=2)
    log = open_on(disk, options)
    owner = log.own(LOCAL_PARTITION)
    acked = owner.append([group("d")], at=3)
    if prepare(disk):
        owner.confirm()
    disk.plan[len(disk.log)] = "power"
    with pytest.raises(PowerLossError):
        owner.append(groups, at=4)
    return disk, acked


def subsets(disk: Disk) -> Iterable[Disk]:
    """The disk after every possible power loss."""
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return True

    disk.power_loss(count)
    for bits in product((False, True), repeat=asked):
        yield disk.power_loss(iter(bits).__next__)


COMMITS = {
    "one sector": [group("x")],
    "one frame of six sectors": [group("x" * 1000, "y" * 1000), group("z" * 900)],
    "two frames": [group("x" * 700, "xx"), group("y" * 500), group("z" * 800)],
    "five frames": [group(str(number) * 590) for number in range(3)],
    "with zeros inside": [[b"\xc5\x08\x00" + bytes(2048)]],
}


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("confirmed", [0, 1], ids=["unconfirmed", "after a confirm"])
def test_given_a_commit_in_flight_when_any_of_its_sectors_survive_then_only_whole_groups_do(
    commit: str, confirmed: int
) -> None:
    groups = COMMITS[commit]
    disk, acked = in_flight(lambda _: confirmed, groups)
    boundaries = [acked]
    for one in groups:
        boundaries.append(boundaries[-1] + len(one))
    count = 0
    for left in subsets(disk):
        count += 1
        with open_on(left) as log:
            next_seq, report = log.next_seq, log.recovery
            assert next_seq in boundaries
            values = held(log)
            assert values[:acked] == ["a", "b", "c" * 700, "d"]
            assert len(values) == next_seq
            if report.torn_bytes:
                assert report.torn_copy in left.list_folder(FOLDER)
            owner = log.own(LOCAL_PARTITION)
            owner.append([group("more")], at=9)
        assert verify(FOLDER, storage=left).faults == ()
        with open_on(left) as log:
            assert held(log) == [*values, "more"]
            assert log.recovery.torn_bytes == 0
    assert count >= 2


def test_given_a_torn_commit_when_recovered_twice_then_the_second_finds_nothing_to_do() -> None:
    disk, _ = in_flight(lambda _: 0, COMMITS["two frames"])
    bits = iter([True, False] * 10)
    left = disk.power_loss(bits.__next__)
    first = open_on(left)
    assert first.recovery.torn_bytes > 0
    torn = bytes(left.content(first.recovery.torn_copy))
    assert torn.startswith(b"JFM1")
    values = held(first)
    again = left.copy()
    second = open_on(again)
    assert second.recovery.torn_bytes == 0
    assert held(second) == values


def test_given_an_unconfirmed_last_commit_when_a_sector_of_it_is_lost_then_it_looks_torn() -> None:
    """The known limit: until the confirm frame, rot in the newest commit is taken for a crash, and said so."""
    disk = Disk()
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    owner.append([group("a")], at=1)
    owner.append([group("b" * 2000)], at=2)
    name = disk.segments()[0]
    lost = disk.copy()
    lost.content(name)[5120:5632] = ZEROS
    recovered = open_on(lost)
    assert held(recovered) == ["a"]
    assert recovered.recovery.torn_bytes == HEADER_BYTES + 5 + 3 + 2000
    owner.confirm()
    lost = disk.copy()
    lost.content(name)[5120:5632] = ZEROS
    found = outcome(lost)
    assert isinstance(found, JournalDamaged)
    assert found.offset == HEADER_SIZE + SECTOR
    assert "a later frame says that this place was durable" in str(found)


def test_given_garbage_behind_the_end_when_opened_then_it_is_refused() -> None:
    for close in (True, False):
        disk, _ = build(close=close)
        name = disk.segments()[1]
        end = max(whole for _, whole in frame_ends(disk, name).values())
        for at in (end, end + SECTOR, len(disk.content(name)) - 1):
            damaged = disk.copy()
            damaged.content(name)[at] = 1
            found = outcome(damaged)
            if close or at == end:
                assert isinstance(found, JournalDamaged)
                assert (found.segment, found.offset) == (name, end)


def test_given_damage_beyond_the_reach_of_a_commit_when_opened_then_it_is_refused() -> None:
    disk = Disk()
    open_on(disk).own(LOCAL_PARTITION).append([group("a")], at=1)
    disk = disk.copy()
    name = disk.segments()[0]
    disk.content(name)[HEADER_SIZE + SECTOR + SMALL.segment_bytes // 2 + SECTOR] = 1
    found = outcome(disk)
    assert isinstance(found, JournalDamaged)
    assert "reaches further" in str(found)


@pytest.mark.parametrize("which", [0, 1, "MANIFEST"], ids=["sealed", "active", "manifest"])
def test_given_a_missing_file_when_opened_then_it_is_refused_by_name(which: int | str) -> None:
    disk, _ = build()
    name = which if isinstance(which, str) else disk.segments()[which]
    del disk.names[str(FOLDER / name)]
    found = outcome(disk)
    assert isinstance(found, JournalDamaged)
    assert found.segment == name
    assert "it is missing" in str(found)


@pytest.mark.parametrize("name", ["0000000007-00000000000000000900.seg", "notes.txt", "old.seg", "1.snap"])
def test_given_an_extra_file_when_opened_then_it_is_refused_by_name(name: str) -> None:
    disk, _ = build()
    disk.names[str(FOLDER / name)] = disk.copy().names[str(FOLDER / disk.segments()[0])]
    found = outcome(disk)
    assert isinstance(found, JournalDamaged)
    assert found.segment == name


def test_given_a_renamed_segment_when_opened_then_it_is_refused() -> None:
    disk, _ = build()
    first, second = (str(FOLDER / name) for name in disk.segments())
    disk.names[first], disk.names[second] = disk.names[second], disk.names[first]
    found = outcome(disk)
    assert isinstance(found, JournalDamaged)
    assert "the file name must say what the header says" in str(found)


@pytest.mark.parametrize("which", [0, 1], ids=["sealed", "active"])
def test_given_a_segment_of_another_journal_when_opened_then_it_is_refused(which: int) -> None:
    disk, _ = build()
    other = Disk()
    other.random_bytes(99)
    with open_on(other) as log:
        owner = log.own(LOCAL_PARTITION)
        while len(log.segments()) == 1:
            owner.append([group("x" * 1000)], at=1)
    name, foreign = disk.segments()[which], other.segments()[which]
    disk.names[str(FOLDER / name)] = other.names[str(FOLDER / foreign)]
    found = outcome(disk)
    assert isinstance(found, JournalDamaged)
    assert found.segment == name


def test_given_an_older_manifest_when_segments_grew_since_then_it_is_refused() -> None:
    disk = Disk()
    manifests: list[bytes] = []
    log = open_on(disk)
    owner = log.own(LOCAL_PARTITION)
    for number in range(80):
        owner.append([group(number, "x" * 300)], at=number)
        manifests.append(bytes(disk.content("MANIFEST")))
    log.close()
    values = held(open_on(disk.copy()))
    for manifest in sorted(set(manifests)):
        older = disk.copy()
        older.content("MANIFEST")[:] = manifest
        found = outcome(older)
        assert found == values if manifest == manifests[-1] else isinstance(found, JournalDamaged)


@pytest.mark.parametrize(("name", "at"), [("segment", 8), ("MANIFEST", 8)])
def test_given_a_future_version_when_opened_then_the_newer_build_is_asked_for(name: str, at: int) -> None:
    import struct
    import zlib

    disk, _ = build()
    content = disk.content(disk.segments()[0] if name == "segment" else name)
    content[at] = 9
    end = HEADER_SIZE - 4 if name == "segment" else len(content) - 4
    content[end : end + 4] = struct.pack("<I", zlib.crc32(bytes(content[:end])))
    found = outcome(disk)
    assert isinstance(found, JournalNewer)
    assert "found version 9" in str(found)
    assert "This build is older than the journal" in str(found)
    assert "use the newer build" in str(found)
    assert "salvage" not in str(found), "salvage would set apart what is not damaged"


def test_given_leftovers_of_a_crash_when_opened_then_they_are_removed() -> None:
    disk, values = build()
    for name in ("spare.seg", "spare.seg.tmp", "MANIFEST.tmp", "00000000000000000003.snap.tmp"):
        disk.names[str(FOLDER / name)] = disk.copy().names[str(FOLDER / "LOCK")]
    assert outcome(disk) == values
    assert not [name for name in disk.list_folder(FOLDER) if name.endswith(".tmp") or name == "spare.seg"]


def test_given_a_snapshot_ahead_of_the_log_when_opened_then_records_are_missing_and_it_is_refused() -> None:
    disk, _ = build()
    disk.names[str(FOLDER / f"{999:020d}.snap")] = disk.copy().names[str(FOLDER / "LOCK")]
    found = outcome(disk)
    assert isinstance(found, JournalDamaged)
    assert "no snapshot is ahead of the log" in str(found)


def test_given_a_refusal_when_opened_again_then_it_is_the_same_and_no_record_changed() -> None:
    disk, _ = build()
    name = disk.segments()[1]
    disk.content(name)[HEADER_SIZE + 66] ^= 1
    before = bytes(disk.content(name))
    first, second = outcome(disk), outcome(disk.copy())
    assert str(first) == str(second)
    assert disk.content(name) == before


def test_given_damage_when_read_from_outside_then_it_is_refused_too() -> None:
    disk, values = build()
    reader = LocalLog.open_reader(FOLDER, storage=disk)
    assert held(reader) == values
    disk.content(disk.segments()[1])[HEADER_SIZE + 66] ^= 1
    with pytest.raises(JournalError, match=disk.segments()[1]):
        held(reader)


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("confirmed", [0, 1], ids=["unconfirmed", "after a confirm"])
def test_given_a_commit_that_was_cut_within_a_sector_then_it_is_torn_and_what_was_acknowledged_is_there(
    commit: str, confirmed: int
) -> None:
    """A system may copy part of a sector, write that back, and lose its power; only of a few bytes nobody can tell."""
    disk, acked = in_flight(lambda _: confirmed, COMMITS[commit])
    name = disk.segments()[-1]
    whole = bytes(disk.content(name))
    refused = 0
    before = disk.power_loss(lambda: False)
    start = len(bytes(before.content(name)).rstrip(b"\0"))
    end = len(whole.rstrip(b"\0"))
    for cut in range(start, end, 7):
        left = before.copy()
        left.content(name)[start:cut] = whole[start:cut]
        try:
            with open_on(left) as log:
                assert held(log)[:acked] == ["a", "b", "c" * 700, "d"]
        except JournalDamaged:
            refused += 1
    frames = 1 + len(COMMITS[commit])  # And a confirm frame, which goes along.
    assert refused <= 3 * frames  # Where the last bytes of a header or a payload are missing.
