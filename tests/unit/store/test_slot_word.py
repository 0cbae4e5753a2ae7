"""The bits of a slot word: what is put in comes out, and the log writes the same ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuseswap.codecs.registry import LZ4
from fuseswap.store import slot_word as words
from fuseswap.store.segment_entry import Stream
from fuseswap.units import PageNumber, SegmentId
from tests.support.memory_stores import SharedMemory

SEGMENTS = st.integers(1, words.MAX_SEGMENTS - 1)


@given(SEGMENTS, st.integers(0, (1 << 20) - 1), st.integers(1, 4096), st.integers(0, 15))
def test_an_object_comes_out_as_it_went_in(
    segment: int, offset: int, length: int, codec: int
) -> None:
    word = words.object_word(SegmentId(segment), offset, length, codec)
    assert word < 1 << 62
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
    assert not words.is_same_object(word, words.object_word(SegmentId(segment), 1, length, LZ4))
    assert words.is_corrupt(words.spoiled(word))


@given(st.integers(0, (1 << 32) - 1))
def test_a_page_in_its_place_has_its_checksum(check: int) -> None:
    word = words.foreign_word(0, check)
    assert words.is_foreign(word)
    assert not words.is_corrupt(word)
    assert (words.cookie_of(word), words.segment_of(word)) == (check, 0)


def test_the_log_writes_out_the_same_bits(memory: SharedMemory) -> None:
    """`append` has no call for it: that would cost 60 ns a store."""
    log = memory.attach_cache().log
    head = log.heads[Stream.STORE]
    for payload in (b"a", b"bc" * 300, b"d" * 4096):
        offset = head.tail
        word = log.append(head, PageNumber(7), payload, 0, LZ4)
        assert word == words.object_word(head.segment, offset, len(payload), LZ4)
