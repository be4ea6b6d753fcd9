"""The snapshot: a state beside the log, so that replay may start in the middle.

File `<seq:020d>.snap`, little-endian: magic 8, version 2, header bytes 2, zeros 4, journal id 16, seq 8,
created 8 (ns), state bytes 8, BLAKE2b-256 of the schema's name 32, BLAKE2b-256 of the state 32, CRC-32 of all
before 4; then the state, opaque bytes. The two newest are kept, so that one damaged file costs replay time
and nothing else.

A state may be larger than memory, so it is written and read in pieces. A file gets its name only after what the disk
gives back was found to be what was written: segments are dropped on its word.
"""

import errno
import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from journal.errors import BadAppend, JournalDamaged, JournalNewer, JournalUnreadable
from journal.frame import crc32
from journal.storage import Storage, read_fully, write_fully

MAGIC: Final = b"WCJSNP\0\1"
VERSION: Final = 1
KEPT: Final = 2
_DIGEST_BYTES: Final = 32
_HEAD: Final = struct.Struct("<8sHHI16sQQQ32s32s")
_CRC: Final = struct.Struct("<I")
HEADER_SIZE: Final = _HEAD.size + _CRC.size
PIECE_BYTES: Final = 1024 * 1024  # Read at once.
_NAME: Final = re.compile(r"(\d{20})\.snap")


class Snapshot(Struct, frozen=True):
    """A state as of one sequence number.

    Attributes:
        seq: the last sequence number folded into the state.
        state: the bytes given to `save_snapshot`.
        schema: digest of the schema's name; compare with `schema_digest(name)` before decoding the state.
        created: when it was saved, in ns.
        skipped: newer snapshot files that were damaged, with the reason.
    """

    seq: int
    state: bytes
    schema: bytes
    created: int
    skipped: tuple[str, ...] = ()


class SnapshotInfo(Struct, frozen=True):
    """A snapshot file that is whole; what its fields are, see `Snapshot`."""

    seq: int
    schema: bytes
    created: int
    state_bytes: int
    digest: bytes


def schema_digest(schema: str) -> bytes:
    """What a snapshot keeps of its schema's name."""
    return hashlib.blake2b(schema.encode(), digest_size=_DIGEST_BYTES).digest()


def snapshot_name(seq: int) -> str:
    """The file name of a snapshot."""
    return f"{seq:020d}.snap"


def snapshot_seqs(names: Iterable[str]) -> list[int]:
    """The sequence numbers of the snapshots among the names, newest first."""
    return sorted((int(match[1]) for match in map(_NAME.fullmatch, names) if match), reverse=True)


class SnapshotShelf:
    """The snapshots of one journal folder."""

    def __init__(self, storage: Storage, folder: Path, journal_id: bytes) -> None:
        self._storage = storage
        self._folder = folder
        self._journal_id = journal_id

    def seqs(self) -> list[int]:
        """Sequence numbers of the snapshots there, newest first."""
        return snapshot_seqs(self._storage.list_folder(self._folder))

    def save(self, seq: int, state: bytes | Iterable[bytes], schema: str) -> None:
        """Write one, see that it can be read, and drop all but the two newest.

        Raises:
            BadAppend: a newer one exists.
            OSError: whatever the storage raised; the older snapshots are untouched.
        """
        newest = next(iter(self.seqs()), -1)
        if seq < newest:
            raise BadAppend(f"a snapshot must not be older than the newest one at {newest}, this one is at {seq}")
        path = self._folder / snapshot_name(seq)
        temporary = path.with_name(path.name + ".tmp")
        try:
            self._write(temporary, seq, [state] if isinstance(state, bytes) else state, schema)
        except BaseException:
            with suppress(OSError):
                self._storage.unlink(temporary)
            raise
        self._storage.rename(temporary, path)
        self._storage.sync_folder(self._folder)
        self._drop_old()

    def _write(self, path: Path, seq: int, pieces: Iterable[bytes], schema: str) -> None:
        storage = self._storage
        handle = storage.create(path)
        try:
            hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            size = 0
            for piece in pieces:
                write_fully(storage, handle, [piece], HEADER_SIZE + size, durable=False)
                hasher.update(piece)
                size += len(piece)
            names = self._journal_id, seq, storage.now_ns(), size, schema_digest(schema), hasher.digest()
            head = _HEAD.pack(MAGIC, VERSION, HEADER_SIZE, 0, *names)
            write_fully(storage, handle, [head + _CRC.pack(crc32(head))], 0, durable=False)
            storage.sync(handle)
            storage.forget_cache(handle)
            try:
                self._check(path.name, seq, handle)
            except JournalDamaged as damage:
                raise OSError(errno.EIO, f"the disk gives back other bytes than were written ({damage})") from damage
        finally:
            storage.close(handle)

    def load(self) -> Snapshot | None:
        """The newest whole one, or None if there is none.

        Raises:
            JournalNewer: it was written by a newer build.
            OSError: it cannot be read; that is no damage, and no reason to take an older one.
        """
        skipped: list[str] = []
        for seq in self.seqs():
            try:
                found = self.read(seq)
            except JournalNewer:
                raise
            except JournalDamaged as error:
                skipped.append(str(error))
                continue
            return Snapshot(found.seq, found.state, found.schema, found.created, tuple(skipped))
        return None

    def floor(self) -> int:
        """Retention may drop records up to this sequence number: that of the oldest snapshot kept, or -1.

        Raises:
            JournalDamaged: one that is kept is not whole, so that nothing may rely on it.
        """
        kept = self.seqs()[:KEPT]
        for seq in kept:
            self.check(seq)
        return min(kept, default=-1)

    def open(self, seq: int) -> tuple[SnapshotInfo, Iterator[bytes]]:
        """One that was read to see that it is whole, and its state in pieces; see `LogReader.read_snapshot`."""
        try:
            info = self.check(seq)
        except OSError as error:
            raise JournalUnreadable(snapshot_name(seq), error) from error
        return info, self.pieces(info)

    def read(self, seq: int) -> Snapshot:
        """Read and check one, all of it; JournalDamaged if it is not whole."""
        info = self.check(seq)
        return Snapshot(seq, b"".join(self.pieces(info)), info.schema, info.created)

    def check(self, seq: int) -> SnapshotInfo:
        """Read one to see that it is whole; JournalDamaged if it is not."""
        name = snapshot_name(seq)
        handle = self._storage.open_read(self._folder / name)
        try:
            return self._check(name, seq, handle)
        finally:
            self._storage.close(handle)

    def pieces(self, info: SnapshotInfo) -> Iterator[bytes]:
        """The state of one that was found whole, in pieces of `PIECE_BYTES`; JournalDamaged if it is so no more."""
        name = snapshot_name(info.seq)
        handle = self._storage.open_read(self._folder / name)
        try:
            hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for piece in self._pieces(handle, HEADER_SIZE):
                hasher.update(piece)
                yield piece
            if hasher.digest() != info.digest:
                raise JournalDamaged(name, HEADER_SIZE, "the digest must match the state")
        finally:
            self._storage.close(handle)

    def _pieces(self, handle: int, offset: int) -> Iterator[bytes]:
        while piece := read_fully(self._storage, handle, PIECE_BYTES, offset):
            yield piece
            offset += len(piece)

    def _check(self, name: str, seq: int, handle: int) -> SnapshotInfo:
        size = self._storage.size(handle)
        head = read_fully(self._storage, handle, HEADER_SIZE)
        if len(head) < HEADER_SIZE or head[:8] != MAGIC:
            raise JournalDamaged(name, 0, "a snapshot starts with its magic bytes", f"{size} bytes")
        if _CRC.unpack_from(head, _HEAD.size)[0] != crc32(head[: _HEAD.size]):
            raise JournalDamaged(name, 0, "the header's checksum must match its bytes")
        _, version, header_size, zero, journal_id, said, created, state_bytes, schema, digest = _HEAD.unpack_from(head)
        if (version, header_size, zero) != (VERSION, HEADER_SIZE, 0):
            raise JournalNewer(name, 8, f"this build reads snapshot version {VERSION}", f"found version {version}")
        if (journal_id, said, state_bytes) != (self._journal_id, seq, size - HEADER_SIZE):
            raise JournalDamaged(name, 16, "a snapshot must be of this journal, as named and whole")
        hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for piece in self._pieces(handle, HEADER_SIZE):
            hasher.update(piece)
        if hasher.digest() != digest:
            raise JournalDamaged(name, HEADER_SIZE, "the digest must match the state")
        return SnapshotInfo(seq, schema, created, state_bytes, digest)

    def _drop_old(self) -> None:
        for seq in self.seqs()[KEPT:]:
            self._storage.unlink(self._folder / snapshot_name(seq))
