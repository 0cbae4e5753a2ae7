"""A segment becomes blocks and comes back; whatever was changed does not verify."""

from __future__ import annotations

import errno
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseswap.tiers.segment_cipher import (
    BLOCK_AT,
    CHUNK_BYTES,
    CHUNKS,
    TAG_BYTES,
    SegmentCipher,
    chunks_of,
    plain_at,
)
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, PAGE_SIZE, SEGMENT_BYTES
from tests.support.effort import scaled

KEY = bytes(range(32))
SEGMENT = random.Random(1).randbytes(SEGMENT_BYTES)
EXTENT, GENERATION = 5, 77
LAST = CHUNKS - 1


def sealed(cipher: SegmentCipher, extent: int = EXTENT, generation: int = GENERATION) -> bytes:
    blocks = bytearray(ENCRYPTED_SEGMENT_BYTES)
    cipher.seal(extent, generation, memoryview(SEGMENT), memoryview(blocks), 0, CHUNKS)
    return bytes(blocks)


CIPHER = SegmentCipher(KEY, b"swap0", 3)
BLOCKS = sealed(CIPHER)


def block(chunk: int) -> bytes:
    return BLOCKS[BLOCK_AT[chunk] : BLOCK_AT[chunk + 1]]


def is_refused(cipher: SegmentCipher, extent: int, generation: int, data: bytes, at: int) -> bool:
    with pytest.raises(OSError, match=f"chunk {at} of extent {extent} does not verify") as caught:
        cipher.open(extent, generation, data, at, at + 1)
    return caught.value.errno == errno.EBADMSG


def test_the_blocks_have_room_for_all_and_nothing_is_left() -> None:
    for chunk in range(CHUNKS):
        blocks = BLOCK_AT[chunk + 1] - BLOCK_AT[chunk]
        assert plain_at(chunk + 1) - plain_at(chunk) + TAG_BYTES == blocks
        assert BLOCK_AT[chunk] % PAGE_SIZE == 0
        assert blocks == PAGE_SIZE * (2 if chunk == LAST else 1)
    assert plain_at(0) == BLOCK_AT[0] == 0
    assert plain_at(CHUNKS) == SEGMENT_BYTES
    assert BLOCK_AT[CHUNKS] == ENCRYPTED_SEGMENT_BYTES


@settings(max_examples=scaled(100), deadline=None)
@given(st.data())
def test_any_range_lies_in_its_chunks_and_no_others(data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, SEGMENT_BYTES - 1))
    length = data.draw(st.integers(1, SEGMENT_BYTES - offset))
    first, end = chunks_of(offset, length)
    assert plain_at(first) <= offset < plain_at(first + 1)
    assert plain_at(end - 1) < offset + length <= plain_at(end)
    found = CIPHER.open(EXTENT, GENERATION, BLOCKS[BLOCK_AT[first] : BLOCK_AT[end]], first, end)
    start = offset - plain_at(first)
    assert found[start : start + length] == SEGMENT[offset : offset + length]


def test_slices_make_the_same_as_the_whole() -> None:
    blocks = memoryview(bytearray(ENCRYPTED_SEGMENT_BYTES))
    for first in range(0, CHUNKS, 48):
        end = min(first + 48, CHUNKS)
        CIPHER.seal(EXTENT, GENERATION, memoryview(SEGMENT), blocks, first, end)
    assert blocks == BLOCKS


@settings(max_examples=scaled(100), deadline=None)
@given(st.integers(0, 8 * ENCRYPTED_SEGMENT_BYTES - 1))
def test_any_bit_that_was_flipped_is_found(bit: int) -> None:
    chunk = min(bit // 8 // PAGE_SIZE, LAST)
    changed = bytearray(block(chunk))
    changed[bit // 8 - BLOCK_AT[chunk]] ^= 1 << bit % 8
    assert is_refused(CIPHER, EXTENT, GENERATION, bytes(changed), chunk)


def test_of_several_chunks_the_wrong_one_is_named() -> None:
    changed = bytearray(BLOCKS[: 4 * PAGE_SIZE])
    changed[2 * PAGE_SIZE] ^= 1
    with pytest.raises(OSError, match="chunk 2 of extent 5"):
        CIPHER.open(EXTENT, GENERATION, bytes(changed), 0, 4)


@settings(max_examples=scaled(100), deadline=None)
@given(st.integers(0, LAST - 1), st.integers(0, LAST - 1))
def test_a_chunk_is_not_another_one(here: int, there: int) -> None:
    if here == there:
        assert CIPHER.open(EXTENT, GENERATION, block(there), here, here + 1)
    else:
        assert is_refused(CIPHER, EXTENT, GENERATION, block(there), here)


@pytest.mark.parametrize(
    ("cipher", "extent", "generation"),
    [
        (CIPHER, EXTENT + 1, GENERATION),
        (CIPHER, EXTENT + (1 << 16), GENERATION),
        (CIPHER, EXTENT, GENERATION - 1),
        (CIPHER, EXTENT, GENERATION + (1 << 56)),
        (SegmentCipher(KEY, b"swap0", 4), EXTENT, GENERATION),
        (SegmentCipher(KEY, b"swap0", 3 + 256), EXTENT, GENERATION),
        (SegmentCipher(KEY, b"swap1", 3), EXTENT, GENERATION),
        (SegmentCipher(KEY[::-1], b"swap0", 3), EXTENT, GENERATION),
    ],
)
def test_nothing_verifies_elsewhere(cipher: SegmentCipher, extent: int, generation: int) -> None:
    for chunk in (0, 100, LAST):
        assert is_refused(cipher, extent, generation, block(chunk), chunk)


def test_the_same_segment_at_the_same_place_has_the_same_bytes() -> None:
    """So that a write that is tried again uses no nonce for anything else."""
    assert sealed(SegmentCipher(KEY, b"swap0", 3)) == BLOCKS


@pytest.mark.parametrize(
    ("place", "extent", "generation"),
    [(4, EXTENT, GENERATION), (3, EXTENT + 1, GENERATION), (3, EXTENT, GENERATION + 1)],
)
def test_anywhere_else_it_has_others(place: int, extent: int, generation: int) -> None:
    others = sealed(SegmentCipher(KEY, b"swap0", place), extent, generation)
    for chunk in range(CHUNKS):
        at = BLOCK_AT[chunk]
        assert others[at : at + 16] != BLOCKS[at : at + 16]


@pytest.mark.parametrize("generation", [0, (1 << 64) - 1])
def test_any_generation_and_any_extent_that_a_table_may_name(generation: int) -> None:
    for extent in (0, (1 << 24) - 1):
        blocks = sealed(CIPHER, extent, generation)[:PAGE_SIZE]
        assert CIPHER.open(extent, generation, blocks, 0, 1) == SEGMENT[:CHUNK_BYTES]


def test_the_library_is_not_imported_without_an_encrypted_tier() -> None:
    script = (
        "import sys, fuseswap.daemon.worker, fuseswap.tiers.mirrored_tier;"
        "sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
