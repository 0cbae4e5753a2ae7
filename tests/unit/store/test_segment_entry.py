"""Word 0 of a segment's entry: one bit is put right, two are found."""

from __future__ import annotations

import itertools

import pytest

from fuseswap.store.segment_entry import (
    SegmentState,
    Stream,
    entry_word,
    is_sound,
    location_bits,
    location_in,
    repaired,
)
from fuseswap.units import MAX_EXTENTS, MAX_TIERS, Location

LOST = entry_word(SegmentState.LOST, Stream.STORE, 0)
WORDS = [
    0,
    entry_word(SegmentState.OPEN, Stream.STORE, 0),
    entry_word(SegmentState.SEALED, Stream.INCOMPRESSIBLE, 1),
    entry_word(SegmentState.ON_TIER, Stream.EVICTED, 2**32 - 1),
    LOST,
]


def test_a_free_entry_is_0() -> None:
    assert entry_word(SegmentState.FREE, Stream.STORE, 0) == 0


@pytest.mark.parametrize("word", WORDS)
def test_a_sound_word_stays(word: int) -> None:
    assert is_sound(word)
    assert repaired(word) == word
    assert not word.bit_count() & 1


@pytest.mark.parametrize("word", WORDS)
def test_any_bit_is_put_right(word: int) -> None:
    assert {repaired(word ^ 1 << bit) for bit in range(64)} == {word}


@pytest.mark.parametrize("word", WORDS)
def test_any_two_bits_are_found(word: int) -> None:
    pairs = itertools.combinations(range(64), 2)
    assert {repaired(word ^ 1 << one ^ 1 << other) for one, other in pairs} == {LOST}


@pytest.mark.parametrize("word", [0xFF, 5, 0x700, 9 << 8])
def test_states_and_streams_that_nobody_knows_are_not_sound(word: int) -> None:
    assert not is_sound(word)


@pytest.mark.parametrize("tier", [0, 1, MAX_TIERS - 1])
@pytest.mark.parametrize("extent", [0, 1, 12345, MAX_EXTENTS - 1])
def test_a_place_on_a_tier_comes_back(tier: int, extent: int) -> None:
    place = Location(tier, extent)
    word = entry_word(SegmentState.ON_TIER, Stream.EVICTED, location_bits(place))
    assert is_sound(word)
    assert word >> 32 == tier << 24 | extent
    assert location_in(word) == place


def test_the_location_of_what_is_in_memory_is_its_frame() -> None:
    for state in (SegmentState.OPEN, SegmentState.SEALED):
        assert location_in(entry_word(state, Stream.STORE, location_bits(1 << 25))) == 1 << 25
    assert location_in(entry_word(SegmentState.LOST, Stream.STORE, 7)) is None
    assert location_in(0) is None
