"""The manifest, the footer and the snapshot as bytes: frozen, since every later build must read them."""

import msgspec
import pytest

from journal import LOCAL_PARTITION, JournalDamaged, schema_digest
from journal.manifest import Manifest, decode_manifest, encode_manifest
from journal.segment import Footer, Seal, SegmentRecord, decode_footer, encode_footer
from tests.journal.disk import Disk
from tests.journal.stories import group, open_on

RECORD = SegmentRecord(3, 42, 16384, 9)

GOLDEN_MANIFEST = (
    "57434a4d414e0001010000001f00000095c410000102030405060708090a0b0c0d0e0f069195032acd400009c0032aba587448"
)
GOLDEN_FOOTER = (
    "970904090102929200cd10009205ce00011170c4200000000000000000000000000000000000000000000000000000000000000000"
)
GOLDEN_SNAPSHOT = (
    "57434a534e50000101007c000000000038b4e652e44da7f2370d9e260e271365000000000000000080844836fe9c9717"
    "0500000000000000ae11692325525e82337167fcfab34d45d1904ff786e2d4bf4be2d1c4878cd34c0ced162a56b08dff"
    "b00f664b30b788b95dc961e36f5edc6ae67ba2d5261282f1fd3648b77374617465"
)


def test_given_a_manifest_when_encoded_then_its_bytes_are_frozen() -> None:
    manifest = Manifest(bytes(range(16)), 6, (RECORD,), 3, 42)
    assert encode_manifest(manifest).hex() == GOLDEN_MANIFEST
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_given_a_footer_when_encoded_then_its_bytes_are_frozen() -> None:
    footer = Footer(9, 4, 9, 1, 2, [(0, 4096), (5, 70000)], bytes(32))
    assert encode_footer(footer).hex() == GOLDEN_FOOTER
    assert decode_footer(encode_footer(footer), "x", 0) == footer


def test_given_a_snapshot_when_saved_then_its_bytes_are_frozen() -> None:
    """The simulated disk brings a fixed clock and fixed chance."""
    disk = Disk()
    with open_on(disk) as log:
        log.own(LOCAL_PARTITION).append([group("a")], at=1)
        log.save_snapshot(LOCAL_PARTITION, 0, b"state", schema="v1")
    assert disk.content("00000000000000000000.snap").hex() == GOLDEN_SNAPSHOT
    assert schema_digest("v1").hex() in GOLDEN_SNAPSHOT


def test_given_a_manifest_with_a_gap_when_decoded_then_it_is_refused() -> None:
    seal = Seal(50, 8192, 8704, 77, 8, 1, 2)
    sealed = msgspec.structs.replace(RECORD, seal=seal)
    good = SegmentRecord(4, 50, 16384, 77)
    for wrong in (
        msgspec.structs.replace(good, ordinal=5),
        msgspec.structs.replace(good, base_seq=51),
        msgspec.structs.replace(good, chain=78),
    ):
        content = encode_manifest(Manifest(bytes(16), 1, (sealed, wrong), 3, 42))
        with pytest.raises(JournalDamaged, match="every segment must follow the one before it"):
            decode_manifest(content)
    content = encode_manifest(Manifest(bytes(16), 1, (RECORD, good), 3, 42))
    with pytest.raises(JournalDamaged, match="must follow"):
        decode_manifest(content)
