"""The segment: a file of frames, zero-filled before use, closed by a footer.

A segment is named `<ordinal>-<base_seq>.seg`. Its first 4096 bytes are a header; frames follow. It is filled
with written zeros before its first frame, because a commit into written blocks changes no file metadata and
is up to twice as fast, and because zeros make a torn write recognisable. Sealing writes a footer frame (a
sparse index of one entry per 64 KiB, the totals, a digest) and cuts the file behind it.

Header, little-endian: magic 8, version 2, header bytes 2, checksum kind 1 (1: CRC-32), codec 1 (1: msgpack
array of records), log2 of the alignment 1, flags 1 (1: zero-filled), journal id 16, ordinal 8, base_seq 8,
created 8 (ns), salt 8, chain 8 (of the previous segment's last frame), allotted size 8, zeros, CRC-32 of the
first 4092 bytes 4.

The digest is BLAKE2b-256 of the file up to the footer: the widest fast hash of the standard library.
"""

import re
import struct
from typing import Final

import msgspec
from msgspec import Struct

from journal.errors import JournalDamaged, JournalNewer
from journal.frame import HEADER_BYTES, FrameHeader, align_up, crc32

MAGIC: Final = b"WCJSEG\0\1"
VERSION: Final = 1
HEADER_SIZE: Final = 4096
ZERO_FILLED: Final = 1
JOURNAL_ID_BYTES: Final = 16
DIGEST_BYTES: Final = 32
INDEX_STEP_BYTES: Final = 64 * 1024  # One index entry per this much file.
COMMIT_BYTES_MAX: Final = 32 * 1024 * 1024  # Damage that reaches further was not one torn commit.

_CRC32: Final = 1
_MSGPACK: Final = 1
_ALIGN_LOG2: Final = frozenset({9, 12})
_LAYOUT: Final = struct.Struct("<8sHHBBBB16sQQQQQQ")
_CRC: Final = struct.Struct("<I")
_NAME: Final = re.compile(r"(\d{10})-(\d{20})\.seg")

SPARE_NAME: Final = "spare.seg"


class SegmentHeader(Struct, frozen=True):
    """The first block of a segment. Sizes and offsets in bytes, times in ns."""

    journal_id: bytes
    ordinal: int
    base_seq: int
    created: int
    salt: int
    chain: int
    allotted: int
    align_log2: int = 9

    @property
    def name(self) -> str:
        """The file name this header belongs in."""
        return segment_name(self.ordinal, self.base_seq)

    @property
    def align(self) -> int:
        """Frames start at multiples of this many bytes."""
        return 1 << self.align_log2


class Seal(Struct, frozen=True, array_like=True):
    """What a sealed segment holds, as the manifest remembers it.

    Attributes:
        next_seq: the sequence number after its last record.
        footer_offset: where the footer frame starts.
        end: length of the file.
        chain: chain value of the footer, which the next segment's header carries.
        records: number of records.
        first_at: commit time of the first record in ns, 0 when there are none.
        last_at: commit time of the last record in ns, 0 when there are none.
    """

    next_seq: int
    footer_offset: int
    end: int
    chain: int
    records: int
    first_at: int
    last_at: int


class SegmentRecord(Struct, frozen=True, array_like=True):
    """One segment as the manifest names it; `seal` is None for the active one."""

    ordinal: int
    base_seq: int
    allotted: int
    chain: int
    seal: Seal | None = None

    @property
    def name(self) -> str:
        """The file name."""
        return segment_name(self.ordinal, self.base_seq)


class Footer(Struct, frozen=True, array_like=True):
    """The payload of the footer frame: totals, sparse index of (sequence number, offset), digest."""

    next_seq: int
    frames: int
    records: int
    first_at: int
    last_at: int
    index: list[tuple[int, int]]
    digest: bytes


class Tally:
    """What one pass over the frames of a segment adds up, whether it writes or reads them."""

    def __init__(self, header: SegmentHeader) -> None:
        self.offset = HEADER_SIZE  # Where the next frame starts.
        self.next_seq = header.base_seq
        self.chain = header.chain
        self.frames = 0
        self.records = 0
        self.first_at = 0
        self.last_at = 0
        self.index: list[tuple[int, int]] = []  # Only ever appended to: readers in other threads use it.
        self._indexed = 0
        self._align = header.align

    def add(self, offset: int, payload_bytes: int, count: int, at: int, chain: int) -> None:
        """Count one frame that was written at, or read from, `offset`."""
        if count:
            if not self.records:
                self.first_at = at
            if offset >= self._indexed:
                self.index.append((self.next_seq, offset))
                self._indexed = offset + INDEX_STEP_BYTES
            self.last_at = at
        self.frames += 1
        self.records += count
        self.next_seq += count
        self.chain = chain
        self.offset = offset + align_up(HEADER_BYTES + payload_bytes, self._align)

    def add_header(self, offset: int, header: FrameHeader) -> None:
        """Count one frame by its header."""
        self.add(offset, header.payload_bytes, header.records, header.at, header.own_chain)


def segment_name(ordinal: int, base_seq: int) -> str:
    """The file name of a segment."""
    return f"{ordinal:010d}-{base_seq:020d}.seg"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Ordinal and base_seq from a file name, or None if it is not a segment's."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def footer_reserve(allotted: int, align: int) -> int:
    """Bytes kept free for the footer, so that sealing never asks the disk for space."""
    entries = allotted // INDEX_STEP_BYTES + 2
    return align_up(HEADER_BYTES + 256 + 20 * entries, align)


def commit_limit(allotted: int) -> int:
    """The most bytes one commit may take in a segment of this size."""
    return min(COMMIT_BYTES_MAX, allotted // 2)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The first block of the file."""
    fields = _LAYOUT.pack(
        MAGIC,
        VERSION,
        HEADER_SIZE,
        _CRC32,
        _MSGPACK,
        header.align_log2,
        ZERO_FILLED,
        header.journal_id,
        header.ordinal,
        header.base_seq,
        header.created,
        header.salt,
        header.chain,
        header.allotted,
    )
    block = fields.ljust(HEADER_SIZE - 4, b"\0")
    return block + _CRC.pack(crc32(block))


def decode_segment_header(block: bytes, name: str) -> SegmentHeader:
    """Read the first block of the file called `name`.

    Raises:
        JournalNewer: a version or a setting this build does not know.
        JournalDamaged: anything else that is not a header of that file.
    """
    if len(block) < HEADER_SIZE:
        raise JournalDamaged(name, len(block), "a segment starts with a 4096-byte header, the file is shorter")
    (magic, version, size, checksum, codec, align_log2, flags, *rest) = _LAYOUT.unpack_from(block)
    if magic != MAGIC:
        raise JournalDamaged(name, 0, "a segment starts with its magic bytes", f"found {magic.hex()}")
    if _CRC.unpack_from(block, HEADER_SIZE - 4)[0] != crc32(block[: HEADER_SIZE - 4]):
        raise JournalDamaged(name, 0, "the header's checksum must match its bytes", f"it says version {version}")
    if version != VERSION:
        raise JournalNewer(name, 8, f"this build reads segment version {VERSION}", f"found version {version}")
    settings = (size, checksum, codec, flags & ~ZERO_FILLED)
    if settings != (HEADER_SIZE, _CRC32, _MSGPACK, 0) or align_log2 not in _ALIGN_LOG2:
        raise JournalNewer(name, 10, "this build does not know these segment settings", repr((*settings, align_log2)))
    journal_id, ordinal, base_seq, created, salt, chain, allotted = rest
    header = SegmentHeader(journal_id, ordinal, base_seq, created, salt, chain, allotted, align_log2)
    if header.name != name:
        raise JournalDamaged(name, 32, "the file name must say what the header says", f"header: {header.name}")
    return header


def encode_footer(footer: Footer) -> bytes:
    """The payload of the footer frame."""
    return msgspec.msgpack.encode(footer)


def decode_footer(payload: bytes, name: str, offset: int) -> Footer:
    """Read the payload of a footer frame; JournalDamaged if it is not one."""
    try:
        return _decode_footer(payload)
    except msgspec.MsgspecError as error:
        raise JournalDamaged(name, offset, "a footer must hold its totals, index and digest", str(error)) from error


_decode_footer = msgspec.msgpack.Decoder(Footer).decode
