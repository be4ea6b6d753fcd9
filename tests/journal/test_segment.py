"""Segment headers, names and footers: golden bytes, and every refusal."""

import struct
import zlib

import pytest

from journal import JournalDamaged, JournalNewer
from journal.segment import (
    HEADER_SIZE,
    Footer,
    SegmentHeader,
    Tally,
    commit_limit,
    decode_footer,
    decode_segment_header,
    encode_footer,
    encode_segment_header,
    footer_reserve,
    parse_segment_name,
    segment_name,
)

HEADER = SegmentHeader(
    journal_id=bytes(range(16)),
    ordinal=3,
    base_seq=41,
    created=1_700_000_000_000_000_001,
    salt=0x1122334455667788,
    chain=0x99AABBCCDDEEFF00,
    allotted=16384,
)
NAME = "0000000003-00000000000000000041.seg"


def test_given_fixed_inputs_when_encoded_then_the_header_is_the_one_on_disk_for_ever() -> None:
    """Golden: a journal written by any earlier build must stay readable."""
    block = encode_segment_header(HEADER)
    assert len(block) == HEADER_SIZE
    assert block[:80].hex() == (
        "57434a5345470001"
        "0100"
        "0010"
        "01"
        "01"
        "09"
        "01"
        "000102030405060708090a0b0c0d0e0f"
        "0300000000000000"
        "2900000000000000"
        "01002a36fe9c9717"
        "8877665544332211"
        "00ffeeddccbbaa99"
        "0040000000000000"
    )
    assert not block[80:4092].strip(b"\0")
    assert block[4092:].hex() == "f0019202"


def test_given_a_header_when_decoded_then_it_is_the_one_encoded() -> None:
    assert decode_segment_header(encode_segment_header(HEADER), NAME) == HEADER
    assert HEADER.name == NAME


@pytest.mark.parametrize(
    ("at", "value", "error", "message"),
    [
        (8, b"\x02\x00", JournalNewer, "found version 2"),
        (10, b"\x00\x20", JournalNewer, "does not know these segment settings"),
        (12, b"\x02", JournalNewer, "settings"),
        (13, b"\x02", JournalNewer, "settings"),
        (14, b"\x0a", JournalNewer, "settings"),
        (15, b"\x03", JournalNewer, "settings"),
        (32, b"\x04", JournalDamaged, "the file name must say what the header says"),
        (40, b"\x04", JournalDamaged, "the file name must say what the header says"),
        (0, b"X", JournalDamaged, "magic"),
    ],
)
def test_given_a_header_of_another_kind_when_decoded_then_it_is_refused(
    at: int, value: bytes, error: type[JournalDamaged], message: str
) -> None:
    """The checksum is made good again, so each refusal is for the field itself."""
    block = bytearray(encode_segment_header(HEADER))
    block[at : at + len(value)] = value
    block[4092:] = struct.pack("<I", zlib.crc32(bytes(block[:4092])))
    with pytest.raises(error, match=message) as caught:
        decode_segment_header(bytes(block), NAME)
    assert caught.value.segment == NAME
    assert type(caught.value) is error


def test_given_a_short_or_flipped_header_when_decoded_then_it_is_refused() -> None:
    block = bytearray(encode_segment_header(HEADER))
    with pytest.raises(JournalDamaged, match="4096-byte header") as caught:
        decode_segment_header(bytes(block[:4000]), NAME)
    assert caught.value.offset == 4000
    block[2000] ^= 1
    with pytest.raises(JournalDamaged, match="checksum"):
        decode_segment_header(bytes(block), NAME)


def test_given_names_when_parsed_then_only_segments_are_known() -> None:
    assert parse_segment_name(segment_name(12, 345)) == (12, 345)
    for other in ("spare.seg", "1-2.seg", NAME + ".torn", "x" + NAME, NAME + "\n"):
        assert parse_segment_name(other) is None


def test_given_a_footer_when_decoded_then_it_is_the_one_encoded() -> None:
    footer = Footer(10, 3, 10, 1, 2, [(0, 4096), (5, 70000)], bytes(32))
    assert decode_footer(encode_footer(footer), NAME, 8192) == footer
    with pytest.raises(JournalDamaged, match="totals, index and digest") as caught:
        decode_footer(b"\x01", NAME, 8192)
    assert caught.value.offset == 8192


@pytest.mark.parametrize("allotted", [16 * 1024, 1 << 20, 64 << 20, 1 << 30])
def test_given_the_fullest_segment_when_sealed_then_its_footer_fits_the_room_kept_for_it(allotted: int) -> None:
    tally = Tally(SegmentHeader(bytes(16), 0, 2**62, 0, 0, 0, allotted))
    while tally.offset < allotted:
        tally.add(tally.offset, 448, 1, 2**62, 1)
    footer = Footer(2**63, 2**40, 2**40, 2**62, 2**62, tally.index, bytes(32))
    assert 64 + len(encode_footer(footer)) <= footer_reserve(allotted, 512)
    assert HEADER_SIZE + commit_limit(allotted) + footer_reserve(allotted, 512) + 1024 <= allotted
