"""The bits of a slot word: what is put in comes out, and the log writes the same ones.

Any one or two of them that turn over are found.
"""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.codecs.registry import LZ4
from fuseswap.store import slot_word as words
from fuseswap.store.segment_entry import Stream
from fuseswap.units import MAX_SEGMENTS, PageNumber, SegmentId
from tests.support.memory_stores import SharedMemory

SEGMENTS = st.integers(1, MAX_SEGMENTS - 1)


def test_a_word_can_name_each_segment_there_may_be() -> None:
    assert int(words.SEGMENT_ID_MASK) == MAX_SEGMENTS - 1


@given(SEGMENTS, st.integers(0, (1 << 17) - 1), st.integers(1, 4096), st.integers(0, 15))
def test_an_object_comes_out_as_it_went_in(
    segment: int, unit: int, length: int, codec: int
) -> None:
    offset = 8 * unit
    word = words.object_word(SegmentId(segment), offset, length, codec)
    assert word < 1 << 64
    assert not words.is_corrupt(word)
    assert words.is_object_of(word, SegmentId(segment))
    assert not words.is_object_of(word, SegmentId(segment ^ 1))
    found = words.segment_of(word), words.offset_of(word), words.length_of(word)
    assert (*found, words.codec_of(word)) == (segment, offset, length, codec)
    assert not words.is_loaded(word)


@given(SEGMENTS, st.integers(1, 4096))
def test_a_load_changes_nothing_but_that(segment: int, length: int) -> None:
    word = words.object_word(SegmentId(segment), 0, length, LZ4)
    loaded = words.as_loaded(word)
    assert words.is_loaded(loaded)
    assert not words.is_corrupt(loaded)
    assert words.is_same_object(word, loaded)
    assert words.object_key(word) == words.object_key(loaded)
    assert (words.as_loaded(loaded), words.as_stored(loaded)) == (loaded, word)
    assert not words.is_same_object(word, words.object_word(SegmentId(segment), 8, length, LZ4))
    assert words.is_corrupt(words.spoiled(word))


@given(st.integers(0, (1 << 32) - 1))
def test_a_page_in_its_place_has_its_checksum(check: int) -> None:
    word = words.foreign_word(0, check)
    assert words.is_foreign(word)
    assert not words.is_corrupt(word)
    assert (words.cookie_of(word), words.number_of(word)) == (check, 0)
    assert not words.is_object(word)
    assert words.segment_of(word) == 0


def test_the_log_writes_out_the_same_bits(memory: SharedMemory) -> None:
    """`append` has no call for it: that would cost 60 ns a store."""
    log = memory.attach_cache().log
    head = log.heads[Stream.STORE]
    for payload in (b"a", b"bc" * 300, b"d" * 4096):
        offset = head.tail
        word = log.append(head, PageNumber(7), payload, 0, LZ4)
        assert word == words.object_word(head.segment, offset, len(payload), LZ4)


FLIPS = [1 << bit for bit in range(64)]
FLIPS += [one | other for one, other in combinations(FLIPS, 2)]


def sound_words() -> list[int]:
    """Of every kind: bits all 0, all 1 and any; loaded objects too."""
    chance = random.Random(12)
    found = [0, words.fill_word(0), words.fill_word((1 << 36) - 1), words.fill_word((1 << 64) - 1)]
    found += [words.foreign_word(0, 0), words.foreign_word(255, (1 << 32) - 1)]
    found += [words.foreign_word(chance.randrange(256), chance.getrandbits(32)) for _ in range(5)]
    found += [words.fill_word(chance.getrandbits(36)) for _ in range(5)]
    found += [words.fill_word(chance.getrandbits(32) * (1 << 32 | 1)) for _ in range(5)]
    objects = [words.object_word(SegmentId(1), 0, 1, 0)]
    objects.append(words.object_word(SegmentId(MAX_SEGMENTS - 1), (1 << 20) - 8, 4096, 15))
    for codec in range(16):
        segment = SegmentId(chance.randrange(1, MAX_SEGMENTS))
        offset = 8 * chance.randrange(1 << 17)
        objects.append(words.object_word(segment, offset, chance.randint(1, 4096), codec))
    return [*found, *objects, *map(words.as_loaded, objects)]


def test_no_bit_and_no_two_bits_turn_over_unseen() -> None:
    for word in sound_words():
        assert not words.is_corrupt(word)
        unseen = [flip for flip in FLIPS if not words.is_corrupt(word ^ flip)]
        assert unseen == [], f"of {word:#x}"


def test_that_holds_for_any_word() -> None:
    """A bit that turns over adds or takes away its power of two."""
    powers = [1 << bit for bit in range(64)]
    assert all(power % words.MODULUS for power in powers)
    for one, other in combinations(powers, 2):
        assert (one + other) % words.MODULUS
        assert (one - other) % words.MODULUS


def test_a_mark_keeps_the_check_in_its_place() -> None:
    """Of every value of the check: what is added to it does not run over."""
    checks = set()
    for unit in range(1000):
        word = words.object_word(SegmentId(5), 8 * unit, 7, LZ4)
        loaded = words.as_loaded(word)
        assert (word ^ loaded) & ~(words.REFERENCED | words.CHECK_MASK) == 0
        checks.add(word & words.CHECK_MASK)
    assert checks == set(range(words.MODULUS))


@pytest.mark.parametrize("word", sound_words())
def test_a_check_can_be_made_again(word: int) -> None:
    assert words.with_check(word ^ 0xA5) == word
    assert words.is_corrupt(words.spoiled(word))
    assert words.spoiled(words.spoiled(word)) == word
