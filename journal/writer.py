"""Writing the active segment: commits, confirm frames, the footer.

Rules:

1. A commit is one write at the durable end, and counts only once that write returned.
2. A confirm frame is written without waiting. Until the next durable write it may vanish in a power loss, so
   that write starts at the confirm frame and repeats its bytes, and says `durable` = the confirm frame's
   offset: whatever subset of those sectors survives, it reads as one torn, unacknowledged commit.
3. Room for the footer and for the closing confirm frame is never given to commits.
4. After any exception the state of the file is unknown; the owner of this object must not call it again.
"""

import hashlib
import threading
from collections.abc import Sequence
from typing import Final

from journal.frame import CLEAN_CLOSE, CONFIRM, DATA, FOOTER, HEADER_BYTES, Stamp, align_up, encode_frame
from journal.segment import (
    DIGEST_BYTES,
    HEADER_SIZE,
    Footer,
    Seal,
    SegmentHeader,
    Tally,
    commit_limit,
    encode_footer,
    footer_reserve,
)
from journal.storage import Storage, write_fully
from journal.walk import WINDOW_BYTES

_DRAIN_FRACTION: Final = 8  # The last eighth of a segment is held back while no spare follows it.


class Digest:
    """The digest of a growing file, taken piece by piece; its pieces may be taken in another thread."""

    def __init__(self, storage: Storage, handle: int) -> None:
        self._storage = storage
        self._handle = handle
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._done = 0
        self._lock = threading.Lock()

    def advance(self, upto: int) -> None:
        """Take in the bytes below `upto`, which must never change again."""
        with self._lock:
            buffer = memoryview(bytearray(min(WINDOW_BYTES, max(0, upto - self._done))))
            while self._done < upto:
                got = self._storage.read(self._handle, buffer[: upto - self._done], self._done)
                if got == 0:
                    raise OSError(f"the active segment ends at {self._done}, but {upto} bytes were written")
                self._hash.update(buffer[:got])
                self._done += got

    def finish(self, upto: int) -> bytes:
        """The digest of the bytes below `upto`."""
        self.advance(upto)
        return self._hash.digest()


class Writer:
    """The active segment. Not thread-safe, but for `hash_ahead`.

    Attributes:
        header: of the segment.
        tally: what it holds; `tally.offset` is where the next frame goes.
        durable_end: everything below this offset survives a power loss.
        at: time of the last commit of the log, in ns.
    """

    def __init__(self, storage: Storage, handle: int, header: SegmentHeader, tally: Tally, at: int) -> None:
        self.header = header
        self.tally = tally
        self.durable_end = tally.offset
        self.at = at
        self._storage = storage
        self._handle = handle
        self._unsynced: list[bytes] = []
        self._proven = tally.frames == 0  # Whether a frame says that the last commit is durable.
        self._digest = Digest(storage, handle)
        align = header.align
        self._commit_end = header.allotted - footer_reserve(header.allotted, align) - 2 * align
        self._drain_bytes = (self._commit_end - HEADER_SIZE) // _DRAIN_FRACTION
        self._commit_limit = commit_limit(header.allotted)

    def size_of(self, frames: Sequence[tuple[int, bytes]]) -> int:
        """Bytes these frames take in the file."""
        align = self.header.align
        return sum(align_up(HEADER_BYTES + len(payload), align) for _, payload in frames)

    def has_room(self, size: int, *, held_back: bool) -> bool:
        """Whether a commit of this size fits, with or without the part held back for draining."""
        limit = self._commit_end - (self._drain_bytes if held_back else 0)
        return size <= self._commit_limit and self.tally.offset + size <= limit

    def commit(self, frames: Sequence[tuple[int, bytes]], at: int) -> None:
        """Write frames (record count, payload) as one commit; durable on return.

        Raises:
            OSError: the outcome is unknown.
        """
        header, tally = self.header, self.tally
        self.at = at = max(at, self.at)
        buffers = self._unsynced
        places: list[tuple[int, int, int, int]] = []
        offset, seq, chain, durable = tally.offset, tally.next_seq, tally.chain, self.durable_end
        for count, payload in frames:
            stamp = Stamp(seq, durable, at, chain, header.salt)
            built, chain = encode_frame(DATA, stamp, payload, count=count, align=header.align)
            buffers.extend(built)
            places.append((offset, len(payload), count, chain))
            offset += align_up(HEADER_BYTES + len(payload), header.align)
            seq += count
        write_fully(self._storage, self._handle, buffers, durable, durable=True)
        for place, size, count, own_chain in places:
            tally.add(place, size, count, at, own_chain)
        self._written()
        self._proven = False

    def confirm(self) -> bool:
        """Note that the last commit was acknowledged, without waiting; False if that is known or room is short.

        Raises:
            OSError: the outcome is unknown.
        """
        if self._proven or self.tally.offset + self.header.align > self._commit_end:
            return False
        frame, chain = self._confirm_frame(0)
        write_fully(self._storage, self._handle, [frame], self.tally.offset, durable=False)
        self.tally.add(self.tally.offset, 0, 0, self.at, chain)
        self._unsynced.append(frame)
        self._proven = True
        return True

    def confirm_durably(self, *, clean: bool) -> bool:
        """Write a confirm frame and wait for it; `clean` also says that nothing follows before the next open.

        Returns:
            False, and nothing is written, if there is no room left for it.

        Raises:
            OSError: the outcome is unknown.
        """
        room_end = self._commit_end + (2 if clean else 1) * self.header.align
        if self.tally.offset + self.header.align > room_end:
            return False
        frame, chain = self._confirm_frame(CLEAN_CLOSE if clean else 0)
        write_fully(self._storage, self._handle, [*self._unsynced, frame], self.durable_end, durable=True)
        self.tally.add(self.tally.offset, 0, 0, self.at, chain)
        self._written()
        self._proven = True
        return True

    def seal(self) -> Seal:
        """Write the footer and cut the file behind it; durable on return.

        Raises:
            OSError: the outcome is unknown.
        """
        tally = self.tally
        digest = self._digest.finish(tally.offset)
        footer = Footer(tally.next_seq, tally.frames, tally.records, tally.first_at, tally.last_at, tally.index, digest)
        payload = encode_footer(footer)
        stamp = Stamp(tally.next_seq, self.durable_end, self.at, tally.chain, self.header.salt)
        frame, chain = encode_frame(FOOTER, stamp, payload, align=self.header.align)
        write_fully(self._storage, self._handle, [*self._unsynced, *frame], self.durable_end, durable=True)
        end = tally.offset + sum(map(len, frame))
        self._storage.truncate(self._handle, end)
        self._storage.sync(self._handle)
        return Seal(tally.next_seq, tally.offset, end, chain, tally.records, tally.first_at, tally.last_at)

    def hash_ahead(self) -> None:
        """Take the durable bytes into the digest now, so that sealing need not; any thread may call it."""
        self._digest.advance(self.durable_end)

    def close(self) -> None:
        """Give the file back."""
        self._storage.close(self._handle)

    def _confirm_frame(self, flags: int) -> tuple[bytes, int]:
        tally = self.tally
        stamp = Stamp(tally.next_seq, self.durable_end, self.at, tally.chain, self.header.salt)
        built, chain = encode_frame(CONFIRM, stamp, b"", flags=flags, align=self.header.align)
        return b"".join(built), chain

    def _written(self) -> None:
        self._unsynced = []
        self.durable_end = self.tally.offset
