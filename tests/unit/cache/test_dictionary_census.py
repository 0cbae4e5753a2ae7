"""The census of dictionaries: which segments have pages that need one, counted in pieces."""

from __future__ import annotations

from fuseswap.cache.codecs import FILL, FIRST_DICTIONARY, LZ4
from fuseswap.cache.dictionary_census import SLICE_PAGES, DictionaryCensus
from fuseswap.cache.slot_word import (
    CODEC_SHIFT,
    OBJECT,
    PARITY,
    REFERENCED,
    SEGMENT_ID_SHIFT,
    fill_word,
    foreign_word,
)
from fuseswap.cache.state import Geometry
from tests.stores import SharedMemory


def word(segment: int, codec: int, bits: int = 0) -> int:
    found = segment << SEGMENT_ID_SHIFT | codec << CODEC_SHIFT | bits | OBJECT
    return found | PARITY if found.bit_count() & 1 else found


def test_it_counts_by_codec_and_segment_and_nothing_else() -> None:
    memory = SharedMemory(Geometry(page_count=3 * SLICE_PAGES, segment_count=9, frame_count=8))
    slots = memory.attach_cache().slots
    first, last = FIRST_DICTIONARY, FIRST_DICTIONARY + 7
    words = {
        0: word(1, first),
        1: word(1, first, REFERENCED),
        2: word(1, last),
        3: word(2, first),
        511: word(1, LZ4),
        512: word(1, FILL),
        513: fill_word(0xFFFFFFFFF),  # all bits of a codec, and no object
        514: foreign_word(0, 0xFFFFFFFF),
        2 * SLICE_PAGES: word(3, last),
        3 * SLICE_PAGES - 1: word(1 << 23, first),
    }
    for page, its in words.items():
        if not slots.used[page >> 9]:
            slots.allocate(page)
        slots.commit(page, its)
    census = DictionaryCensus(slots)
    steps = 1
    while census.step():
        steps += 1
    assert steps == 3
    assert census.pages == {first: {1: 2, 2: 1, 1 << 23: 1}, last: {1: 1, 3: 1}}
    memory.close()


def test_of_an_empty_table_there_is_nothing(memory: SharedMemory) -> None:
    census = DictionaryCensus(memory.attach_cache().slots)
    assert not census.step()
    assert census.pages == {}
