"""The frame: one commit, or one part of it, as bytes.

Rules:

1. A frame is a 64-byte header, a payload, and zeros up to the next multiple of the segment's alignment, so
   sectors that hold acknowledged bytes are never written again with other bytes.
2. A payload of records is `0xdd`, their count as a big-endian u32, and the records: a valid msgpack array
   that one call decodes. Records are opaque here; each is one msgpack value, encoded once by the caller.
3. A group of records lies in one frame. A commit above the soft size is several frames in one write, all
   with the same `durable`, so that none of them counts as proof that an earlier one was acknowledged.
4. `durable` is the file offset below which everything was durable when the frame was built. A valid frame
   that says so proves, after a crash, that damage below that offset is rot and not a torn write.
5. `chain` is the previous frame's `header CRC << 32 | payload CRC`: a frame that is lost, swapped, stale or
   in the wrong place breaks it.

Header, little-endian: magic 4, kind 1, flags 1, header bytes 2, payload bytes 4, record count 4, base_seq 8,
durable 8, at 8 (ns), payload CRC-32 8 (zero-extended: room for a wider checksum), chain 8, salt 4,
CRC-32 of the 60 bytes before 4.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from journal.errors import BadAppend, TooLarge

try:  # The same polynomial and the same bytes on disk; ten times faster above a few hundred bytes.
    from isal.isal_zlib import crc32
except ImportError:  # pragma: no cover - the plain standard library is enough.
    from zlib import crc32

__all__ = [
    "ARRAY_32",
    "ARRAY_HEAD_BYTES",
    "CLEAN_CLOSE",
    "CONFIRM",
    "DATA",
    "FOOTER",
    "HEADER_BYTES",
    "MAGIC",
    "PAYLOAD_BYTES_MAX",
    "SALT_MASK",
    "Frame",
    "FrameHeader",
    "Stamp",
    "align_up",
    "array_head",
    "crc32",
    "encode_frame",
    "pack_groups",
    "parse_header",
    "unpack_array_head",
    "unpack_header",
]

MAGIC: Final = b"JFM1"
HEADER_BYTES: Final = 64
PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024  # Bounds what a reader allocates for one frame.

DATA: Final = 1
CONFIRM: Final = 2
FOOTER: Final = 3

CLEAN_CLOSE: Final = 2  # Flag: the writer closed after this frame; nothing can be in flight behind it.

_HEADER: Final = struct.Struct("<4sBBHIIQQQQQII")
_UNSUMMED_BYTES: Final = HEADER_BYTES - 4
_CRC: Final = struct.Struct("<I")
SALT_MASK: Final = 0xFFFF_FFFF
ARRAY_32: Final = 0xDD  # msgpack's array with a count of 32 bits.
ARRAY_HEAD_BYTES: Final = 5
_ZEROS: Final = bytes(4096)
unpack_header: Final = _HEADER.unpack_from
unpack_array_head: Final = struct.Struct(">BI").unpack_from


class Frame(Struct, frozen=True, gc=False):
    """One durable frame, as a reader gets it.

    Attributes:
        base_seq: sequence number of the first record; record `i` has `base_seq + i`.
        count: number of records, at least 1.
        at: commit time in ns since 1970, never decreasing along the log.
        payload: a msgpack array of the records; a copy, it stays valid.
        segment: the file the frame is in, for messages.
        offset: byte offset in that file, for messages.
    """

    base_seq: int
    count: int
    at: int
    payload: bytes
    segment: str
    offset: int


class FrameHeader(NamedTuple):
    """The 64 bytes before a payload, field by field."""

    magic: bytes
    kind: int
    flags: int
    header_bytes: int
    payload_bytes: int
    records: int
    base_seq: int
    durable: int
    at: int
    payload_crc: int
    chain: int
    salt: int
    header_crc: int

    @property
    def own_chain(self) -> int:
        """The value the next frame must carry in `chain`."""
        return self.header_crc << 32 | self.payload_crc


class Stamp(NamedTuple):
    """Where a frame stands in its log: everything in the header but what it carries."""

    base_seq: int
    durable: int
    at: int
    chain: int
    salt: int


def align_up(size: int, unit: int) -> int:
    """The first multiple of `unit` at or above `size`."""
    return size + -size % unit


def array_head(count: int) -> bytes:
    """The five bytes that make `count` concatenated msgpack values one msgpack array."""
    return b"\xdd" + count.to_bytes(4, "big")


def encode_frame(
    kind: int, stamp: Stamp, payload: bytes, *, count: int = 0, flags: int = 0, align: int = 512
) -> tuple[list[bytes], int]:
    """Build one frame.

    Returns:
        The buffers to write one after the other, padding included, and the chain value of the frame.
    """
    payload_crc = crc32(payload)
    head = _HEADER.pack(
        MAGIC,
        kind,
        flags,
        HEADER_BYTES,
        len(payload),
        count,
        stamp.base_seq,
        stamp.durable,
        stamp.at,
        payload_crc,
        stamp.chain,
        stamp.salt & SALT_MASK,
        0,
    )[:_UNSUMMED_BYTES]
    header_crc = crc32(head)
    padding = _ZEROS[: -(HEADER_BYTES + len(payload)) % align]
    return [head + _CRC.pack(header_crc), payload, padding], header_crc << 32 | payload_crc


def parse_header(view: memoryview | bytes, offset: int, salt: int) -> FrameHeader | None:
    """Read a header, or None unless it is whole, checksummed and of the segment with this salt."""
    if len(view) - offset < HEADER_BYTES or view[offset : offset + 4] != MAGIC:
        return None
    header = FrameHeader._make(_HEADER.unpack_from(view, offset))
    if header.header_crc != crc32(view[offset : offset + _UNSUMMED_BYTES]):
        return None
    return header if header.salt == salt & SALT_MASK else None


def pack_groups(groups: Iterable[Sequence[bytes]], soft_bytes: int) -> list[tuple[int, bytes]]:
    """Lay groups of records into payloads of about `soft_bytes`, in order, never splitting a group.

    Returns:
        For each frame to write, its record count and payload; empty groups vanish.

    Raises:
        TooLarge: one group alone is above the payload limit of a frame.
        BadAppend: a record has no bytes, so it cannot be a msgpack value.
    """
    frames: list[tuple[int, bytes]] = []
    records: list[bytes] = []
    size = 0
    for group in groups:
        group_bytes = sum(map(len, group))
        if group_bytes > PAYLOAD_BYTES_MAX - ARRAY_HEAD_BYTES:
            raise TooLarge(
                f"a group of records must fit one frame of {PAYLOAD_BYTES_MAX} bytes, this one has {group_bytes}: "
                "refuse such input before it reaches the journal"
            )
        if not all(group):
            raise BadAppend("every record must be one msgpack value, one of these has no bytes: a bug in the caller")
        if records and size + group_bytes > soft_bytes:
            frames.append((len(records), b"".join((array_head(len(records)), *records))))
            records, size = [], 0
        records.extend(group)
        size += group_bytes
    if records:
        frames.append((len(records), b"".join((array_head(len(records)), *records))))
    return frames
