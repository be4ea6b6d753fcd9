"""Gathering the facts about the end of a segment, for the decision table."""

from typing import Final

from msgspec import Struct

from journal.frame import HEADER_BYTES, MAGIC, align_up, parse_header
from journal.segment import SegmentHeader, commit_limit
from journal.verdict import Facts, Found, Last, Where
from journal.walk import Stop, Walk, Window

_CHUNK_BYTES: Final = 1024 * 1024
UNWRITTEN_MIN: Final = 8  # Zeros at the end of a payload that say that a write stopped there; records end in fewer.
_CHECKSUM_BYTES: Final = 4  # At the end of a header.
_ZEROS: Final = bytes(_CHUNK_BYTES)


class Tail(Struct, frozen=True):
    """What lies behind the last good frame.

    Attributes:
        offset: where it starts.
        end: where its last non-zero byte ends, or `offset`.
        proof: offset of the first later header that proves it was durable, or None.
        headers: how many good headers lie in it.
        last_seq: the highest sequence number such a header speaks of, or None.
    """

    offset: int
    end: int
    proof: int | None
    headers: int
    last_seq: int | None


def scan_tail(window: Window, segment: SegmentHeader, offset: int) -> Tail:
    """Look through everything from `offset` to the end of the file."""
    end, proof, headers = offset, None, 0
    last_seq: int | None = None
    for start in range(offset, window.end, _CHUNK_BYTES):
        # No header lies across the border of two chunks: both start at multiples of the alignment.
        chunk = bytes(window.at(start, _CHUNK_BYTES))
        if chunk == _ZEROS[: len(chunk)]:
            continue
        end = start + len(chunk.rstrip(b"\0"))
        place = chunk.find(MAGIC)
        while place >= 0:
            header = parse_header(chunk, place, segment.salt) if (start + place) % segment.align == 0 else None
            if header is not None:
                headers += 1
                last_seq = max(last_seq or 0, header.base_seq + header.records - 1)
                if proof is None and header.durable > offset and start + place > offset:
                    proof = start + place
            place = chunk.find(MAGIC, place + 1)
    return Tail(offset, end, proof, headers, last_seq)


def find_header(window: Window, segment: SegmentHeader, offset: int) -> tuple[int, int] | None:
    """The (sequence number, offset) of the first good header behind `offset`, or None."""
    for place in range(offset + segment.align, window.end, segment.align):
        header = parse_header(window.at(place, HEADER_BYTES), 0, segment.salt)
        if header is not None:
            return header.base_seq, place
    return None


def gather(window: Window, segment: SegmentHeader, walk: Walk, *, where: Where, last: Last) -> tuple[Facts, Tail]:
    """The facts at the place where the walk ended."""
    tail = scan_tail(window, segment, walk.offset)
    rest_zero = tail.end == tail.offset
    # A commit's write begins with the confirm frame before it, where that one was not yet waited for.
    reach = commit_limit(segment.allotted) + segment.align
    facts = Facts(
        where=where,
        short=window.end < segment.allotted and not (last is Last.FOOTER and walk.offset == window.end),
        rest_zero=rest_zero,
        last=last,
        found=Found.ZERO if rest_zero else _found(window, segment, walk, tail.end),
        proof=tail.proof is not None,
        far=tail.end - tail.offset > reach,
    )
    return facts, tail


def _found(window: Window, segment: SegmentHeader, walk: Walk, end: int) -> Found:
    align = segment.align
    first = bytes(window.at(walk.offset, align))
    if not first.strip(b"\0"):
        return Found.ZERO
    header = parse_header(first, 0, segment.salt)
    if header is None and _is_begun(first, end - walk.offset):
        return Found.CUT_OFF
    if header is None or walk.stop in {Stop.HEADER, Stop.FOOTER}:
        return Found.GARBAGE
    if walk.stop is not Stop.PAYLOAD:
        return Found.MISPLACED
    size = align_up(HEADER_BYTES + header.payload_bytes, align)
    frame = bytes(window.at(walk.offset, size))
    gapped = len(frame) < size or any(not frame[at : at + align].strip(b"\0") for at in range(0, size, align))
    if gapped:
        return Found.GAPPED
    stopped = end <= walk.offset + HEADER_BYTES + header.payload_bytes - UNWRITTEN_MIN
    return Found.CUT_OFF if stopped else Found.ALTERED


def _is_begun(first: bytes, written: int) -> bool:
    """Whether a write stopped within a header: what is there begins as one does, and its checksum was not written.

    One that rotted has a checksum, and behind it a payload, whose first byte is no zero.
    """
    return written <= HEADER_BYTES - _CHECKSUM_BYTES and first[: len(MAGIC)] == MAGIC[:written].ljust(len(MAGIC), b"\0")
