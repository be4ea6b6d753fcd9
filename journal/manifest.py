"""The manifest: which files are the journal, and who may write to it.

One small file, replaced as a whole (temporary file, sync, rename, folder sync), so a crash leaves the old or
the new one. It names every segment, and so makes a missing or foreign file visible, and it carries the epoch
of the newest owner, which only ever rises.

Bytes: magic 8, version 2, zeros 2, payload bytes 4, payload (msgpack), CRC-32 of all before 4; little-endian.
"""

import struct
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from journal.errors import JournalDamaged, JournalNewer
from journal.frame import crc32
from journal.segment import SegmentRecord
from journal.storage import Identity, Storage, read_fully, replace_file

NAME: Final = "MANIFEST"
MAGIC: Final = b"WCJMAN\0\1"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sHHI")
_CRC: Final = struct.Struct("<I")


class Manifest(Struct, frozen=True, array_like=True):
    """The journal's table of contents.

    Attributes:
        journal_id: 16 random bytes, also in every segment header.
        epoch: of the newest owner.
        segments: oldest first; all sealed but the last. Empty only while the very first one is being made.
        floor: the lowest ordinal retention left; files below it are leftovers of a trim that was cut short.
        floor_seq: the sequence number the log begins with, as retention left it.
    """

    journal_id: bytes
    epoch: int = 0
    segments: tuple[SegmentRecord, ...] = ()
    floor: int = 0
    floor_seq: int = 0

    @property
    def next_ordinal(self) -> int:
        """The ordinal of the segment after the last."""
        return self.segments[-1].ordinal + 1 if self.segments else self.floor

    @property
    def active(self) -> SegmentRecord | None:
        """The segment being written, if the last one is not sealed."""
        return self.segments[-1] if self.segments and self.segments[-1].seal is None else None


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of the file."""
    payload = msgspec.msgpack.encode(manifest)
    body = _HEAD.pack(MAGIC, VERSION, 0, len(payload)) + payload
    return body + _CRC.pack(crc32(body))


def decode_manifest(content: bytes) -> Manifest:
    """Read the bytes of the file.

    Raises:
        JournalNewer: another version.
        JournalDamaged: anything else that is not a manifest.
    """
    if len(content) < _HEAD.size + _CRC.size or content[:8] != MAGIC:
        raise JournalDamaged(NAME, 0, "a manifest starts with its magic bytes", f"{len(content)} bytes")
    _, version, zero, payload_bytes = _HEAD.unpack_from(content)
    if len(content) != _HEAD.size + payload_bytes + _CRC.size:
        raise JournalDamaged(NAME, 12, "a manifest is as long as it says", f"{len(content)} bytes")
    if _CRC.unpack_from(content, len(content) - _CRC.size)[0] != crc32(content[: -_CRC.size]):
        raise JournalDamaged(NAME, 0, "the manifest's checksum must match its bytes")
    if version != VERSION or zero:
        raise JournalNewer(NAME, 8, f"this build reads manifest version {VERSION}", f"found version {version}")
    try:
        manifest = _decode(content[_HEAD.size : -_CRC.size])
    except msgspec.MsgspecError as error:
        raise JournalDamaged(NAME, _HEAD.size, "a manifest must list the segments", str(error)) from error
    _check_line(manifest)
    return manifest


def load_manifest(storage: Storage, folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        FileNotFoundError: there is none.
        JournalDamaged: it cannot be trusted.
    """
    handle = storage.open_read(folder / NAME)
    try:
        content = read_fully(storage, handle, storage.size(handle))
    finally:
        storage.close(handle)
    return decode_manifest(content)


def save_manifest(storage: Storage, folder: Path, manifest: Manifest) -> Identity | None:
    """Replace the manifest; returns what identifies the new file."""
    replace_file(storage, folder / NAME, encode_manifest(manifest))
    return storage.identity(folder / NAME)


def _check_line(manifest: Manifest) -> None:
    """Every segment must follow from the one before it."""
    if manifest.segments:
        first = manifest.segments[0]
        if (first.ordinal, first.base_seq) != (manifest.floor, manifest.floor_seq):
            raise JournalDamaged(NAME, _HEAD.size, "the first segment is where retention left the log", first.name)
    for before, after in zip(manifest.segments, manifest.segments[1:], strict=False):
        seal = before.seal
        if seal is None or _start(after) != (before.ordinal + 1, seal.next_seq, seal.chain):
            raise JournalDamaged(NAME, _HEAD.size, "every segment must follow the one before it", after.name)


def _start(record: SegmentRecord) -> tuple[int, int, int]:
    return record.ordinal, record.base_seq, record.chain


_decode = msgspec.msgpack.Decoder(Manifest).decode
