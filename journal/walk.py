"""Reading a segment: frame by frame, through one reused buffer.

A walk trusts nothing: it checks each header and payload checksum, the chain, the sequence numbers and the
bounds, and stops at the first frame that fails, saying where and why. What that means (the end of the log, a
torn write, or damage) is for the caller to decide.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from journal.frame import (
    ARRAY_32,
    ARRAY_HEAD_BYTES,
    CLEAN_CLOSE,
    CONFIRM,
    DATA,
    FOOTER,
    HEADER_BYTES,
    MAGIC,
    PAYLOAD_BYTES_MAX,
    SALT_MASK,
    FrameHeader,
    align_up,
    array_head,
    crc32,
    parse_header,
    unpack_array_head,
    unpack_header,
)
from journal.segment import HEADER_SIZE, SegmentHeader
from journal.storage import Storage

new_header: Final = tuple.__new__  # What `FrameHeader._make` calls, without the call.
WINDOW_BYTES: Final = 1024 * 1024  # One reused buffer reads as fast as a memory map, and cannot SIGBUS.


class Stop(Enum):
    """Why a walk ended."""

    END = "the readable part ends here"
    FOOTER = "the footer was read"
    HEADER = "no header of this segment"
    PLACE = "a good header that contradicts its place"
    PAYLOAD = "a good header, but the payload does not match its checksum"


class Window:
    """A view of the bytes `[0, end)` of a file through one buffer.

    What `at` returns is valid until the next call: the buffer is used again.

    Attributes:
        end: of what may be read.
        start: offset of the first byte in the buffer.
    """

    def __init__(self, storage: Storage, handle: int, end: int) -> None:
        self.end = end
        self._storage = storage
        self._handle = handle
        self._buffer = memoryview(bytearray(min(WINDOW_BYTES, max(end, 1))))
        self.start = 0
        self._filled = 0

    def filled(self) -> tuple[memoryview, int, int]:
        """The buffer, and the offsets in the file at which what it holds begins and ends."""
        return self._buffer, self.start, self.start + self._filled

    def at(self, offset: int, size: int) -> memoryview:
        """The bytes at `offset`, fewer than `size` only where the file or the window ends."""
        skip = offset - self.start
        if skip < 0 or skip + size > self._filled:
            self._fill(offset, size)
            skip = 0
        return self._buffer[skip : min(skip + size, self._filled)]

    def _fill(self, offset: int, size: int) -> None:
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        want = max(0, min(len(self._buffer), self.end - offset))
        self.start, self._filled = offset, 0
        while self._filled < want:
            got = self._storage.read(self._handle, self._buffer[self._filled : want], offset + self._filled)
            if got == 0:
                break
            self._filled += got


class Walk:
    """One pass over the frames of a segment.

    Attributes:
        offset: where the next frame starts, or where the first bad one does.
        seq: the sequence number it must have.
        chain: the chain value it must carry; None when the walk began in the middle of the segment.
        at: the commit time it must not be below, in ns.
        kind: of the last good frame, 0 before the first.
        closed: whether the last good frame says that the writer closed behind it.
        stop: why the walk ended, once it has.
        detail: what was found there, in words.
    """

    def __init__(self, window: Window, segment: SegmentHeader, start: tuple[int, int] | None = None) -> None:
        self._window = window
        self._salt = segment.salt & SALT_MASK
        self._align = segment.align
        self._allotted = segment.allotted
        self.seq, self.offset = start or (segment.base_seq, HEADER_SIZE)
        self.chain: int | None = None if start else segment.chain
        self.at = 0
        self.kind = 0
        self.closed = False
        self.stop = Stop.END
        self.detail = ""

    def frames(self) -> Iterator[tuple[int, FrameHeader, memoryview]]:
        """Good frames as (offset, header, payload); a payload is valid until the next step."""
        end = self._window.end
        while self.offset < end:
            yield from self._plain_frames()
            if self.offset >= end:
                break
            found = self._step()
            if found is None:
                return
            yield found
            if self.kind == FOOTER:
                return self._end(Stop.FOOTER)
        return self._end(Stop.END)

    def _plain_frames(self) -> Iterator[tuple[int, FrameHeader, memoryview]]:
        """Frames of records that lie whole in the buffer and pass every check, up to the first that is anything else.

        That is almost every frame, so this is written for speed: `_step` says the same, and for the others why.
        """
        buffer, start, ready = self._window.filled()
        salt, align, allotted, header_end = self._salt, self._align, self._allotted, ready - HEADER_BYTES
        while (offset := self.offset) <= header_end and self._window.start == start:
            place = offset - start
            fields = unpack_header(buffer, place)
            magic, kind, flags, header_bytes, size, records, seq, durable, at, payload_crc, chain, own, own_crc = fields
            body = place + HEADER_BYTES
            if (
                seq != self.seq
                or chain != self.chain
                or own != salt
                or magic != MAGIC
                or kind != DATA
                or flags
                or header_bytes != HEADER_BYTES
                or not 0 < records <= size - ARRAY_HEAD_BYTES
                or size > PAYLOAD_BYTES_MAX
                or durable > offset
                or at < self.at
                or offset + size > header_end
                or offset + HEADER_BYTES + size > allotted
                or crc32(buffer[place : body - 4]) != own_crc
            ):
                return
            payload = buffer[body : body + size]
            if crc32(payload) != payload_crc or unpack_array_head(payload) != (ARRAY_32, records):
                return
            self.seq = seq + records
            self.chain = own_crc << 32 | payload_crc
            self.at = at
            self.offset = offset + HEADER_BYTES + size + -(HEADER_BYTES + size) % align
            self.kind = DATA
            self.closed = False
            yield offset, new_header(FrameHeader, fields), payload

    def _step(self) -> tuple[int, FrameHeader, memoryview] | None:
        """The frame at `offset`, or None once the walk has ended there."""
        window, offset = self._window, self.offset
        header = parse_header(window.at(offset, HEADER_BYTES), 0, self._salt)
        if header is None:
            self._end(Stop.HEADER)
            return None
        if wrong := self._contradiction(header):
            self._end(Stop.PLACE, wrong)
            return None
        size = header.payload_bytes
        payload = window.at(offset + HEADER_BYTES, size)
        if len(payload) < size or crc32(payload) != header.payload_crc:
            self._end(Stop.PAYLOAD)
            return None
        if header.kind == DATA and bytes(payload[:ARRAY_HEAD_BYTES]) != array_head(header.records):
            self._end(Stop.PLACE, f"the payload is not an array of {header.records} records")
            return None
        self.seq += header.records
        self.chain = header.own_chain
        self.at = header.at
        self.offset = offset + align_up(HEADER_BYTES + size, self._align)
        self.kind = header.kind
        self.closed = bool(header.flags & CLEAN_CLOSE)
        return offset, header, payload

    def _end(self, stop: Stop, detail: str = "") -> None:
        self.stop, self.detail = stop, detail

    def _contradiction(self, header: FrameHeader) -> str:
        """What a header with a good checksum says that cannot be so at this place, or nothing."""
        found = ""
        if header.base_seq != self.seq:
            found = f"sequence number {header.base_seq} where {self.seq} is due"
        elif header.chain != self.chain and self.chain is not None:
            found = "it does not follow the frame before it"
        elif header.durable > self.offset or header.at < self.at:
            found = "it comes from the future, or from before the frame before it"
        elif _shape_is_wrong(header):
            found = f"kind {header.kind}, flags {header.flags}, {header.records} records: not known to this build"
        elif self.offset + HEADER_BYTES + header.payload_bytes > self._allotted:
            found = f"{header.payload_bytes} bytes do not fit the segment"
        return found


def _shape_is_wrong(header: FrameHeader) -> bool:
    """Whether kind, flags and sizes do not go together."""
    if header.header_bytes != HEADER_BYTES or header.payload_bytes > PAYLOAD_BYTES_MAX:
        return True
    if header.kind == DATA:
        return header.records == 0 or header.flags != 0 or header.payload_bytes < ARRAY_HEAD_BYTES + header.records
    if header.kind == CONFIRM:
        return header.payload_bytes + header.records != 0 or header.flags & ~CLEAN_CLOSE != 0
    return header.kind != FOOTER or header.records != 0 or header.flags != 0
