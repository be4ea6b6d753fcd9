"""The snapshot: a state beside the log, so that replay may start in the middle.

File `<seq:020d>.snap`, little-endian: magic 8, version 2, header bytes 2, zeros 4, journal id 16, seq 8,
created 8 (ns), state bytes 8, BLAKE2b-256 of the schema's name 32, BLAKE2b-256 of the state 32, CRC-32 of all
before 4; then the state, opaque bytes. The two newest are kept, so that one damaged file costs replay time
and nothing else.
"""

import hashlib
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from journal.errors import BadAppend, JournalDamaged, JournalNewer
from journal.frame import crc32
from journal.storage import Storage, read_fully, replace_file

MAGIC: Final = b"WCJSNP\0\1"
VERSION: Final = 1
KEPT: Final = 2
_DIGEST_BYTES: Final = 32
_HEAD: Final = struct.Struct("<8sHHI16sQQQ32s32s")
_CRC: Final = struct.Struct("<I")
HEADER_SIZE: Final = _HEAD.size + _CRC.size
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

    def save(self, seq: int, state: bytes, schema: str) -> None:
        """Write one and drop all but the two newest.

        Raises:
            BadAppend: a newer one exists.
            OSError: whatever the storage raised; the older snapshots are untouched.
        """
        newest = next(iter(self.seqs()), -1)
        if seq < newest:
            raise BadAppend(f"a snapshot must not be older than the newest one at {newest}, this one is at {seq}")
        head = _HEAD.pack(
            MAGIC,
            VERSION,
            HEADER_SIZE,
            0,
            self._journal_id,
            seq,
            self._storage.now_ns(),
            len(state),
            schema_digest(schema),
            hashlib.blake2b(state, digest_size=_DIGEST_BYTES).digest(),
        )
        content = b"".join((head, _CRC.pack(crc32(head)), state))
        replace_file(self._storage, self._folder / snapshot_name(seq), content)
        self._drop_old()

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
        """Retention may drop records up to this sequence number: that of the oldest snapshot kept, or -1."""
        return min(self.seqs()[:KEPT], default=-1)

    def read(self, seq: int) -> Snapshot:
        """Read and check one; JournalDamaged if it is not whole."""
        name = snapshot_name(seq)
        handle = self._storage.open_read(self._folder / name)
        try:
            content = read_fully(self._storage, handle, self._storage.size(handle))
        finally:
            self._storage.close(handle)
        return self._decode(name, seq, content)

    def _decode(self, name: str, seq: int, content: bytes) -> Snapshot:
        if len(content) < HEADER_SIZE or content[:8] != MAGIC:
            raise JournalDamaged(name, 0, "a snapshot starts with its magic bytes", f"{len(content)} bytes")
        if _CRC.unpack_from(content, _HEAD.size)[0] != crc32(content[: _HEAD.size]):
            raise JournalDamaged(name, 0, "the header's checksum must match its bytes")
        _, version, size, zero, journal_id, said, created, state_bytes, schema, digest = _HEAD.unpack_from(content)
        if (version, size, zero) != (VERSION, HEADER_SIZE, 0):
            raise JournalNewer(name, 8, f"this build reads snapshot version {VERSION}", f"found version {version}")
        state = content[HEADER_SIZE:]
        if (journal_id, said, state_bytes) != (self._journal_id, seq, len(state)):
            raise JournalDamaged(name, 16, "a snapshot must be of this journal, as named and whole")
        if hashlib.blake2b(state, digest_size=_DIGEST_BYTES).digest() != digest:
            raise JournalDamaged(name, HEADER_SIZE, "the digest must match the state")
        return Snapshot(seq, state, schema, created)

    def _drop_old(self) -> None:
        for seq in self.seqs()[KEPT:]:
            self._storage.unlink(self._folder / snapshot_name(seq))
