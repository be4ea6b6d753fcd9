"""The frame codec: golden bytes, round trips, and what is refused."""

import hashlib
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import BadAppend, TooLarge
from journal.frame import (
    CLEAN_CLOSE,
    CONFIRM,
    DATA,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    Stamp,
    align_up,
    array_head,
    crc32,
    encode_frame,
    pack_groups,
    parse_header,
)

STAMP = Stamp(base_seq=7, durable=4096, at=1_700_000_000_000_000_001, chain=0x1122334455667788, salt=0xAABBCCDDEEFF0011)


def test_given_fixed_inputs_when_encoded_then_the_bytes_are_those_on_disk_for_ever() -> None:
    """Golden: a journal written by any earlier build must stay readable."""
    payload = array_head(2) + b"\x01\xa1b"
    buffers, chain = encode_frame(DATA, STAMP, payload, count=2)
    frame = b"".join(buffers)
    assert frame[:HEADER_BYTES].hex() == (
        "4a464d31"
        "01"
        "00"
        "4000"
        "08000000"
        "02000000"
        "0700000000000000"
        "0010000000000000"
        "01002a36fe9c9717"
        "c493514700000000"
        "8877665544332211"
        "1100ffee"
        "e6d256f8"
    )
    assert frame[HEADER_BYTES : HEADER_BYTES + 8].hex() == "dd0000000201a162"
    assert len(frame) == 512
    assert not frame[HEADER_BYTES + 8 :].strip(b"\0")
    assert hashlib.sha256(frame).hexdigest() == "d85e264122856f734da8c3956a41c656d041bb6188d9d71fbdde6025bb40cb21"
    assert chain == 0xF856D2E6475193C4


def test_given_either_crc_when_computed_then_it_is_the_same_polynomial() -> None:
    data = bytes(range(256)) * 17
    assert crc32(data) == zlib.crc32(data)


@settings(deadline=None)
@given(
    payload=st.binary(max_size=3000),
    kind=st.sampled_from([DATA, CONFIRM]),
    align=st.sampled_from([512, 4096]),
    salt=st.integers(0, 2**64 - 1),
)
def test_given_any_payload_when_encoded_then_the_header_reads_back(
    payload: bytes, kind: int, align: int, salt: int
) -> None:
    stamp = STAMP._replace(salt=salt)
    buffers, chain = encode_frame(kind, stamp, payload, count=3, flags=CLEAN_CLOSE, align=align)
    frame = b"".join(buffers)
    assert len(frame) == align_up(HEADER_BYTES + len(payload), align)
    header = parse_header(frame, 0, salt)
    assert header is not None
    assert header.own_chain == chain
    assert (header.kind, header.flags, header.payload_bytes, header.records) == (kind, CLEAN_CLOSE, len(payload), 3)
    assert (header.base_seq, header.durable, header.at, header.chain) == stamp[:4]
    assert header.payload_crc == zlib.crc32(payload)


def test_given_a_header_when_any_bit_of_it_flips_then_it_is_no_header() -> None:
    frame = bytearray(b"".join(encode_frame(DATA, STAMP, array_head(1) + b"\x01", count=1)[0]))
    for bit in range(HEADER_BYTES * 8):
        frame[bit // 8] ^= 1 << bit % 8
        assert parse_header(bytes(frame), 0, STAMP.salt) is None
        frame[bit // 8] ^= 1 << bit % 8
    assert parse_header(bytes(frame), 0, STAMP.salt) is not None
    assert parse_header(bytes(frame), 0, STAMP.salt + 1) is None
    assert parse_header(bytes(frame[: HEADER_BYTES - 1]), 0, STAMP.salt) is None


GROUPS = st.lists(st.lists(st.integers(0, 2**32).map(msgspec.msgpack.encode), max_size=6), max_size=12)


@settings(deadline=None)
@given(groups=GROUPS, soft=st.integers(1, 60))
def test_given_any_groups_when_packed_then_order_is_kept_and_no_group_is_split(
    groups: list[list[bytes]], soft: int
) -> None:
    frames = pack_groups(groups, soft)
    records = [record for count, payload in frames for record in _split(count, payload)]
    assert records == [record for group in groups for record in group]
    ends = set[int]()
    total = 0
    for count, _ in frames:
        total += count
        ends.add(total)
    inside = set[int]()
    total = 0
    for group in groups:
        inside.update(range(total + 1, total + len(group)))
        total += len(group)
    assert not ends & inside


@settings(deadline=None)
@given(groups=GROUPS, soft=st.integers(1, 60))
def test_given_any_groups_when_packed_then_only_a_single_group_may_be_above_the_soft_size(
    groups: list[list[bytes]], soft: int
) -> None:
    sizes = {sum(map(len, group)) for group in groups}
    for _, payload in pack_groups(groups, soft):
        size = len(payload) - 5
        assert size <= soft or size in sizes


def test_given_what_cannot_be_written_when_packed_then_it_is_refused() -> None:
    with pytest.raises(TooLarge, match=f"must fit one frame of {PAYLOAD_BYTES_MAX} bytes"):
        pack_groups([[bytes(PAYLOAD_BYTES_MAX)]], 1)
    with pytest.raises(BadAppend, match="no bytes"):
        pack_groups([[b"\x01"], [b""]], 1)


def test_given_the_largest_group_when_packed_then_it_is_one_frame() -> None:
    [(count, payload)] = pack_groups([[bytes(PAYLOAD_BYTES_MAX - 5)]], 1)
    assert (count, len(payload)) == (1, PAYLOAD_BYTES_MAX)


def _split(count: int, payload: bytes) -> list[bytes]:
    found = [bytes(raw) for raw in msgspec.msgpack.decode(payload, type=list[msgspec.Raw])]
    assert len(found) == count
    return found
