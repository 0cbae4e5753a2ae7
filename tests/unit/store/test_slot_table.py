"""The slot table: words, parity, clusters that come and go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.codecs.registry import FILL, LZ4, RAW
from fuseswap.errors import CorruptData
from fuseswap.store.geometry import Geometry
from fuseswap.store.slot_table import UNCOUNTED, SlotTable
from fuseswap.store.slot_word import (
    REFERENCED,
    fill_of,
    fill_word,
    is_corrupt,
    is_impossible_fill,
    is_loaded,
    is_object,
    is_same_filled,
)
from fuseswap.units import GIB, PAGE_SIZE, PageNumber, page_range
from tests.support import pages
from tests.support.log_invariants import StoredObject
from tests.support.memory_stores import FrontedCache, SharedMemory

CLUSTER = 512


@given(st.integers(0, 2**64 - 1) | st.integers(0, 2**36 + 1))
def test_fill_word_keeps_what_fits_and_nothing_else(fill: int) -> None:
    word = fill_word(fill)
    fits = fill < 2**36 or fill >> 32 == fill & 0xFFFF_FFFF
    assert bool(word) == fits
    if fits:
        assert fill_of(word) == fill
        assert is_same_filled(word)
        assert not is_corrupt(word)
        assert not is_impossible_fill(word)
        assert not is_object(word)


@given(st.integers(0, 2**32 - 1))
def test_a_32_bit_word_twice_always_fits(half: int) -> None:
    fill = half << 32 | half
    assert fill_of(fill_word(fill)) == fill


def test_an_object_word_says_where_and_how_long(cache: FrontedCache) -> None:
    for page, name in enumerate(("incompressible", "fill_fits_not", "compressible")):
        cache.store(page, pages.CORPUS[name])
    raw, fill, lz4 = (StoredObject.of(page, cache.slots.get(page)) for page in page_range(0, 3))
    assert (raw.codec, raw.length, raw.offset) == (RAW, PAGE_SIZE, 0)
    assert (fill.codec, fill.length, fill.offset) == (FILL, 8, 0)
    assert (lz4.codec, lz4.offset) == (LZ4, fill.end)
    assert (raw.segment, fill.segment, lz4.segment) == (1, 2, 2)


def test_a_load_marks_an_object_referenced_and_keeps_its_check(cache: FrontedCache) -> None:
    cache.store(7, pages.CORPUS["compressible"])
    assert not cache.slots.get(PageNumber(7)) & REFERENCED
    for _ in range(2):
        assert cache.load(7) == pages.CORPUS["compressible"]
        word = cache.slots.get(PageNumber(7))
        assert is_loaded(word)
        assert not is_corrupt(word)


@pytest.mark.parametrize("name", pages.CORPUS)
def test_any_flipped_bit_of_a_word_is_found_on_load(memory: SharedMemory, name: str) -> None:
    cache = memory.attach_cache()
    cache.store(3, pages.CORPUS[name])
    cache.store(4, pages.CORPUS["compressible"])
    word = cache.slots.words[3]
    for bit in range(64):
        cache.slots.words[3] = word ^ 1 << bit
        with pytest.raises(CorruptData, match="page 3"):
            cache.load(3)
        assert cache.load(4) == pages.CORPUS["compressible"]
    cache.slots.words[3] = word
    assert cache.load(3) == pages.CORPUS[name]
    assert cache.reader.counters.checksum_errors == 64


@pytest.mark.parametrize("bit", range(64))
def test_a_flipped_bit_in_a_hole_is_never_data(memory: SharedMemory, bit: int) -> None:
    cache = memory.attach_cache()
    cache.store(0, pages.CORPUS["compressible"])
    cache.slots.words[1] = 1 << bit  # a hole in a cluster that is present
    with pytest.raises(CorruptData):
        cache.load(1)
    cache.slots.words[CLUSTER] = 1 << bit  # in one that is not: nobody looks there
    assert cache.load(CLUSTER) is None
    again = memory.attach_cache()  # finds both, and still makes no data of them
    for page in (1, CLUSTER):
        with pytest.raises(CorruptData):
            again.load(page)
    assert again.load(0) == pages.CORPUS["compressible"]


@pytest.mark.parametrize("overwrite", [False, True], ids=["discarded", "overwritten"])
def test_a_flipped_bit_in_a_hole_costs_no_other_page(memory: SharedMemory, overwrite: bool) -> None:
    cache = memory.attach_cache()
    cache.store(0, pages.CORPUS["compressible"])
    cache.slots.words[1] = 1 << 20
    if overwrite:
        cache.store(1, pages.CORPUS["zero"])
    cache.invalidate_page(1)
    assert cache.load(0) == pages.CORPUS["compressible"]


def test_clusters_come_with_the_first_page_and_go_with_the_last(
    memory: SharedMemory, cache: FrontedCache
) -> None:
    assert memory.allocated_bytes("slots") == cache.slots.allocated_bytes == 0
    for page in (0, CLUSTER - 1, CLUSTER):
        cache.store(page, pages.ZERO)
    assert memory.allocated_bytes("slots") == cache.slots.allocated_bytes == 2 * PAGE_SIZE
    cache.invalidate_page(0)
    assert memory.allocated_bytes("slots") == 2 * PAGE_SIZE
    cache.invalidate_page(CLUSTER - 1)
    assert memory.allocated_bytes("slots") == cache.slots.allocated_bytes == PAGE_SIZE
    cache.invalidate_area(0, 1280)
    assert memory.allocated_bytes("slots") == cache.slots.allocated_bytes == 0


def test_looking_at_holes_takes_no_memory(memory: SharedMemory, cache: FrontedCache) -> None:
    assert cache.load(1000) is None
    assert cache.slots.next_stored(PageNumber(0)) is None
    assert cache.slots.next_hole(PageNumber(0)) == 0
    assert not cache.invalidate_page(5)
    assert cache.invalidate_area(0, 1280) == 0
    assert memory.allocated_bytes("slots") == 0


@given(st.sets(st.integers(0, 1279), max_size=40), st.sampled_from([0, 511, 512, 1024]))
def test_next_stored_and_next_hole_are_what_a_scan_finds(stored: set[int], run: int) -> None:
    memory = SharedMemory()
    slots = SlotTable(memory.attach().slots, 1280)
    stored |= set(range(run, run + 256))
    for page in stored:
        slots.allocate(PageNumber(page))
        slots.commit(PageNumber(page), fill_word(page))
    for start in sorted({0, 1, 511, 512, 1279, *stored, *(page + 1 for page in stored)} - {1280}):
        assert slots.next_stored(PageNumber(start)) == min(
            (p for p in stored if p >= start), default=None
        )
        assert slots.next_hole(PageNumber(start)) == next(
            p for p in range(start, 1281) if p not in stored
        )
    memory.close()


def test_commit_and_clear_twice_count_once(memory: SharedMemory) -> None:
    slots = SlotTable(memory.attach().slots, 1280)
    slots.allocate(PageNumber(600))
    slots.commit(PageNumber(600), fill_word(1))
    slots.commit(PageNumber(600), fill_word(2))
    slots.commit(PageNumber(601), fill_word(3))
    assert (slots.stored_pages, slots.get(PageNumber(600))) == (2, fill_word(2))
    slots.clear(PageNumber(600))
    slots.clear(PageNumber(600))
    assert (slots.stored_pages, slots.get(PageNumber(600))) == (1, 0)


def test_a_new_table_over_old_words_counts_them_and_returns_empty_clusters(
    memory: SharedMemory,
) -> None:
    slots = SlotTable(memory.attach().slots, 1280)
    slots.commit(PageNumber(513), fill_word(1))
    slots.words[0] = 0  # a crash between clearing the last word and returning the cluster
    assert memory.allocated_bytes("slots") == 2 * PAGE_SIZE
    again = SlotTable(memory.attach().slots, 1280)
    assert list(again.used) == [UNCOUNTED, UNCOUNTED, 0]
    assert not any(again.count(0))
    assert again.count(1)[1] == fill_word(1)
    assert list(again.used) == [0, 1, 0]
    assert memory.allocated_bytes("slots") == PAGE_SIZE


def test_a_tebibyte_costs_nothing_until_used(
    make_memory: Callable[[Geometry], SharedMemory],
) -> None:
    memory = make_memory(Geometry.for_size(1024 * GIB, 4 * GIB))
    cache = memory.attach_cache()
    assert all(memory.allocated_bytes(n) == 0 for n in ("slots", "segments", "arena"))
    last = cache.page_count - 1
    assert last == 2**28 - 1
    for page in (0, last):
        cache.store(page, pages.CORPUS["compressible"])
        assert cache.load(page) == pages.CORPUS["compressible"]
    assert memory.allocated_bytes("slots") == 2 * PAGE_SIZE
    assert cache.slots.next_stored(PageNumber(1)) == last
    assert memory.attach_cache().load(last) == pages.CORPUS["compressible"]
    assert cache.invalidate_area(0, cache.page_count) == 2
    assert memory.allocated_bytes("slots") == 0
