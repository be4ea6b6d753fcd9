"""A whole state as bytes and back: what a snapshot in the journal holds, whatever tables a build keeps it in.

Blocks, each a 32-bit length (little-endian) and a msgpack array: first `[format, applied]`, then arrays of rows and
entries as the digest takes them, and last `[digest]`. Names of tables and indexes are literals of `rows.py`. Rows are
read as events are: fields are only ever added, at the end and with a default, so that a later build reads them.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Raw

from protocol.memory import MemoryState
from protocol.state import CycleRow, DefinitionRow, Row
from runtime.store.database import Database
from runtime.store.digest import DIGEST_BYTES, contents, digest, packed
from runtime.store.look import Entry, Look, StoreError
from runtime.store.rows import TABLES, encode

FORMAT = 1
BLOCK_BYTES = 256 << 10  # Of rows; long enough to hash and write in one go, short enough to make way after each.
BLOCK_BYTES_MAX = 64 << 20  # A row is at most a few frames of the journal; more is no block of ours.
SCHEMA_NAME = repr([(table.name, kind.__struct_fields__) for kind, table in TABLES.items()])
"""What the rows of this build are made of. With another name a dump is read all the same, but digests differ."""

_LENGTH = struct.Struct("<I")
_ROW = 0x92  # An array of two; an entry is one of three.
_items = msgspec.msgpack.Decoder(list[Raw]).decode
_row = msgspec.msgpack.Decoder(tuple[str, Raw]).decode
_entry = msgspec.msgpack.Decoder(Entry).decode
_head = msgspec.msgpack.Decoder(tuple[int, int]).decode
_foot = msgspec.msgpack.Decoder(tuple[str]).decode
_key = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_decoders = {table.name: table.decode for table in TABLES.values()}


def dump(store: Look) -> Iterator[bytes]:
    """The state of a store, in blocks."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    yield _block(encode((FORMAT, store.meta("applied"))))
    waiting: list[bytes] = []
    size = 0
    for item in contents(store):
        record = packed(item)
        total.update(record)
        waiting.append(record)
        size += len(record)
        if size >= BLOCK_BYTES:
            yield _block(_array(waiting))
            waiting, size = [], 0
    if waiting:
        yield _block(_array(waiting))
    yield _block(encode((total.hexdigest(),)))


def fill(database: Database, pieces: Iterable[bytes], *, same_schema: bool) -> None:
    """Fill an empty store with a dump, all or nothing, and see that it gives the dump's digest.

    Args:
        database: a fresh one.
        pieces: the bytes of a dump, cut anyhow.
        same_schema: whether rows of this very build were dumped; others have no digest that could be compared.

    Raises:
        StoreError: it is no dump, or the digest differs.
    """
    dumped = _Dump(pieces)

    def check(look: Look) -> None:
        if same_schema and digest(look) != dumped.digest:
            raise StoreError("the state in the snapshot does not give the digest it had")

    database.fill(dumped.contents(), dumped.applied, check)


def load(pieces: Iterable[bytes]) -> tuple[MemoryState, int]:
    """A dump in memory, and the sequence number it reaches.

    Raises:
        StoreError: it is no dump.
    """
    dumped, state = _Dump(pieces), MemoryState()
    for item in dumped.contents():
        if isinstance(item, tuple):
            name, key, row_id = item
            state.file(name, _key(key), row_id)  # type: ignore[arg-type]  # Names of indexes come from a state.
        else:
            state.save(item)
    return state, dumped.applied


def versions(pieces: Iterable[bytes]) -> tuple[list[CycleRow], list[DefinitionRow]]:
    """The cycles and their definitions in a dump, which come first in it."""
    cycles: list[CycleRow] = []
    definitions: list[DefinitionRow] = []
    for item in _Dump(pieces).contents():
        match item:
            case CycleRow():
                cycles.append(item)
            case DefinitionRow():
                definitions.append(item)
            case _:
                break
    return cycles, definitions


class _Dump:
    """A dump as it is read; `digest` is known at its end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._blocks = _blocks(pieces)
        self.digest = ""
        try:
            version, self.applied = _head(next(self._blocks))
        except (StopIteration, msgspec.MsgspecError) as fault:
            raise StoreError(f"a snapshot of a state begins with its format: {fault}") from None
        if version != FORMAT:
            raise StoreError(f"the snapshot has format {version}, this build reads format {FORMAT}")

    def contents(self) -> Iterator[Row | Entry]:
        """Its rows and entries, in the order of the digest."""
        last = b""
        try:
            for block in self._blocks:
                if last:
                    yield from map(_item, _items(last))
                last = block
            (self.digest,) = _foot(last)
        except (KeyError, msgspec.MsgspecError) as fault:
            raise StoreError(f"a snapshot holds rows, entries and at its end their digest: {fault!r}") from None


def _item(record: Raw) -> Row | Entry:
    if memoryview(record)[0] != _ROW:
        entry: Entry = _entry(record)
        return entry
    name, row = _row(record)
    found: Row = _decoders[name](row)
    return found


def _array(records: list[bytes]) -> bytes:
    return b"\xdd" + len(records).to_bytes(4, "big") + b"".join(records)


def _block(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks in bytes that come cut anyhow; raises `StoreError` when the last one is not whole."""
    have = bytearray()
    for piece in pieces:
        have += piece
        at = 0
        while len(have) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(have, at)
            if size > BLOCK_BYTES_MAX:
                raise StoreError(f"a block of a snapshot has at most {BLOCK_BYTES_MAX} bytes, not {size}")
            end = at + _LENGTH.size + size
            if end > len(have):
                break
            yield bytes(have[at + _LENGTH.size : end])
            at = end
        del have[:at]
    if have:
        raise StoreError("a snapshot of a state ends within a block")
