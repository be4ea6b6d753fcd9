"""The walk goes two ways: a quick one for frames of records, a careful one for all. They must not differ."""

import struct
from collections.abc import Iterator

import pytest

from journal.frame import HEADER_BYTES, FrameHeader, crc32
from journal.segment import HEADER_SIZE, decode_segment_header
from journal.walk import Walk, Window
from tests.journal.disk import FOLDER, Disk
from tests.journal.stories import group, owned

FIELDS = {
    "magic": (0, "<I"), "kind": (4, "<B"), "flags": (5, "<B"), "header bytes": (6, "<H"), "payload bytes": (8, "<I"),
    "records": (12, "<I"), "base_seq": (16, "<Q"), "durable": (24, "<Q"), "at": (32, "<Q"), "payload crc": (40, "<Q"),
    "chain": (48, "<Q"), "salt": (56, "<I"),
}  # fmt: skip


class CarefulWalk(Walk):
    """A walk that takes every frame the careful way."""

    def _plain_frames(self) -> Iterator[tuple[int, FrameHeader, memoryview]]:
        yield from ()


def image() -> Disk:
    """A journal of frames of one, two and many records, a confirm frame among them."""
    disk = Disk()
    with owned(disk) as owner:
        owner.append([group("a")], at=1)
        owner.append([group("b", "c")], at=2)
        owner.confirm()
        owner.append([group(*range(300))], at=3)
        owner.append([group("x" * 900)], at=3)
    return disk


def walked(disk: Disk, kind: type[Walk], start: tuple[int, int] | None = None) -> tuple[object, ...]:
    """All that a walk over the first segment tells."""
    name = disk.segments()[0]
    handle = disk.open_read(FOLDER / name)
    header = decode_segment_header(bytes(disk.content(name)[:HEADER_SIZE]), name)
    walk = kind(Window(disk, handle, disk.size(handle)), header, start)
    frames = [(offset, frame, bytes(payload)) for offset, frame, payload in walk.frames()]
    disk.close(handle)
    return frames, walk.offset, walk.seq, walk.chain, walk.at, walk.kind, walk.closed, walk.stop, walk.detail


def both(disk: Disk, start: tuple[int, int] | None = None) -> tuple[object, ...]:
    """What both ways tell alike."""
    quick = walked(disk, Walk, start)
    assert quick == walked(disk, CarefulWalk, start)
    return quick


def test_given_a_good_segment_then_both_ways_give_the_same_frames_from_any_start() -> None:
    disk = image()
    frames = both(disk)[0]
    assert isinstance(frames, list)
    assert len(frames) == 6
    for offset, frame, _ in frames:
        both(disk, (frame.base_seq, offset))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("change", [-1, 1, 5, None])
def test_given_a_header_that_lies_under_a_good_checksum_then_both_ways_end_alike(
    field: str, change: int | None
) -> None:
    """Every field of every frame, a little and very wrong; a rule that only one way holds would show here."""
    place, form = FIELDS[field]
    for frame in range(6):
        disk = image()
        frames = both(disk)[0]
        assert isinstance(frames, list)
        content = disk.content(disk.segments()[0])
        offset = frames[frame][0]
        (value,) = struct.unpack_from(form, content, offset + place)
        largest = 256 ** struct.calcsize(form) - 1
        struct.pack_into(form, content, offset + place, largest if change is None else (value + change) & largest)
        struct.pack_into("<I", content, offset + 60, crc32(bytes(content[offset : offset + HEADER_BYTES - 4])))
        both(disk)


def test_given_any_byte_flipped_then_both_ways_end_alike() -> None:
    disk = image()
    content = disk.content(disk.segments()[0])
    for place in range(HEADER_SIZE, HEADER_SIZE + 6 * 512):
        content[place] ^= 0x10
        both(disk)
        content[place] ^= 0x10


def test_given_a_payload_that_is_no_array_under_good_checksums_then_both_ways_refuse_it() -> None:
    disk = image()
    content = disk.content(disk.segments()[0])
    frames = both(disk)[0]
    assert isinstance(frames, list)
    offset, header, payload = frames[0]
    content[offset + HEADER_BYTES] = 0xDC
    changed = b"\xdc" + payload[1:]
    struct.pack_into("<Q", content, offset + 40, crc32(changed))
    struct.pack_into("<I", content, offset + 60, crc32(bytes(content[offset : offset + HEADER_BYTES - 4])))
    assert both(disk)[-1] == f"the payload is not an array of {header.records} records"
