"""Reading a segment: frame by frame, through one reused buffer.

A walk trusts nothing: it checks each header and payload checksum, the chain, the sequence numbers and the
bounds, and stops at the first frame that fails, saying where and why. What that means (the end of the log, a
torn write, or damage) is for the caller to decide.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from journal.frame import (
    CLEAN_CLOSE,
    CONFIRM,
    DATA,
    FOOTER,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    FrameHeader,
    align_up,
    array_head,
    crc32,
    parse_header,
)
from journal.segment import HEADER_SIZE, SegmentHeader
from journal.storage import Storage

WINDOW_BYTES: Final = 1024 * 1024  # One reused buffer reads as fast as a memory map, and cannot SIGBUS.
_ARRAY_HEAD_BYTES: Final = 5


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
    """

    def __init__(self, storage: Storage, handle: int, end: int) -> None:
        self.end = end
        self._storage = storage
        self._handle = handle
        self._buffer = memoryview(bytearray(min(WINDOW_BYTES, max(end, 1))))
        self._start = 0
        self._filled = 0

    def at(self, offset: int, size: int) -> memoryview:
        """The bytes at `offset`, fewer than `size` only where the file or the window ends."""
        skip = offset - self._start
        if skip < 0 or skip + size > self._filled:
            self._fill(offset, size)
            skip = 0
        return self._buffer[skip : min(skip + size, self._filled)]

    def _fill(self, offset: int, size: int) -> None:
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        want = max(0, min(len(self._buffer), self.end - offset))
        self._start, self._filled = offset, 0
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
        self._salt = segment.salt
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
        window, salt, align = self._window, self._salt, self._align
        while self.offset < window.end:
            offset = self.offset
            header = parse_header(window.at(offset, HEADER_BYTES), 0, salt)
            if header is None:
                return self._end(Stop.HEADER)
            if wrong := self._contradiction(header):
                return self._end(Stop.PLACE, wrong)
            size = header.payload_bytes
            payload = window.at(offset + HEADER_BYTES, size)
            if len(payload) < size or crc32(payload) != header.payload_crc:
                return self._end(Stop.PAYLOAD)
            if header.kind == DATA and bytes(payload[:_ARRAY_HEAD_BYTES]) != array_head(header.records):
                return self._end(Stop.PLACE, f"the payload is not an array of {header.records} records")
            self.seq += header.records
            self.chain = header.own_chain
            self.at = header.at
            self.offset = offset + align_up(HEADER_BYTES + size, align)
            self.kind = header.kind
            self.closed = bool(header.flags & CLEAN_CLOSE)
            yield offset, header, payload
            if header.kind == FOOTER:
                return self._end(Stop.FOOTER)
        return self._end(Stop.END)

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
        return header.records == 0 or header.flags != 0 or header.payload_bytes < _ARRAY_HEAD_BYTES + header.records
    if header.kind == CONFIRM:
        return header.payload_bytes + header.records != 0 or header.flags & ~CLEAN_CLOSE != 0
    return header.kind != FOOTER or header.records != 0 or header.flags != 0
