"""Damaged memory: an error for that page, counted, and never wrong data."""

from __future__ import annotations

import logging

import pytest

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.errors import CorruptData, PoolFull
from fuseswap.store.frame_pool import CLEANER_RESERVE
from fuseswap.store.slot_word import CODEC_SHIFT, SEGMENT_ID_SHIFT, with_check
from fuseswap.units import MIB, PageNumber
from tests.support import pages
from tests.support.log_invariants import StoredObject
from tests.support.memory_stores import FrontedCache, SharedMemory


@pytest.fixture
def cache(memory: SharedMemory) -> FrontedCache:
    """A cache to damage: not checked afterwards."""
    cache = memory.attach_cache()
    for page, data in enumerate(pages.CORPUS.values()):
        cache.store(page, data)
    return cache


OBJECTS = [
    (page, name)
    for page, name in enumerate(pages.CORPUS)
    if name not in ("zero", "fill_fits", "fill_repeats_32_bits")
]


def place(cache: FrontedCache, page: int) -> tuple[int, StoredObject]:
    """Arena offset of the object of ``page``, and the object."""
    found = StoredObject.of(page, cache.slots.get(PageNumber(page)))
    return cache.log.table.bases[found.segment] + found.offset, found


@pytest.mark.parametrize(("page", "name"), OBJECTS)
def test_a_flipped_bit_is_an_error_for_that_page_alone(
    memory: SharedMemory, cache: FrontedCache, page: int, name: str
) -> None:
    start, found = place(cache, page)
    arena = memory.attach().arena.buffer
    damaged = (0, CHECK_BYTES, CHECK_BYTES + found.length // 2, CHECK_BYTES + found.length - 1)
    for count, at in enumerate(damaged, 1):
        arena[start + at] ^= 1 << count
        with pytest.raises(CorruptData, match=f"page {page}: checksum mismatch"):
            cache.load(page)
        for other, data in enumerate(pages.CORPUS.values()):
            if other != page:
                assert cache.load(other) == data
        arena[start + at] ^= 1 << count
        assert cache.reader.counters.checksum_errors == count
    assert cache.load(page) == pages.CORPUS[name]


def test_the_codec_is_part_of_the_checksum(cache: FrontedCache) -> None:
    page = list(pages.CORPUS).index("compressible")
    word = cache.slots.words[page]
    cache.slots.words[page] = with_check(word ^ 1 << CODEC_SHIFT)  # lz4 says zstd
    with pytest.raises(CorruptData, match="checksum mismatch"):
        cache.load(page)


def test_a_corrupt_page_can_be_overwritten_or_discarded(
    memory: SharedMemory, cache: FrontedCache
) -> None:
    arena = memory.attach().arena.buffer
    for page, _ in OBJECTS[:2]:
        arena[place(cache, page)[0]] ^= 0xFF
    first, second = (page for page, _ in OBJECTS[:2])
    cache.store(first, pages.compressible(9))
    assert cache.load(first) == pages.compressible(9)
    assert cache.invalidate_page(second)
    assert cache.load(second) is None


def test_a_page_can_be_overwritten_after_its_word_lost_a_bit(cache: FrontedCache) -> None:
    page = OBJECTS[0][0]
    cache.slots.words[page] ^= 1 << 50
    cache.store(page, pages.compressible(9))
    assert cache.load(page) == pages.compressible(9)
    assert cache.invalidate_page(page)
    for other, data in enumerate(pages.CORPUS.values()):
        if other != page:
            assert cache.load(other) == data


def test_a_word_of_no_segment_is_corrupt(cache: FrontedCache) -> None:
    page = OBJECTS[0][0]
    word = cache.slots.words[page]
    for bit in (SEGMENT_ID_SHIFT + 7, SEGMENT_ID_SHIFT + 20):
        cache.slots.words[page] = with_check(word ^ 1 << bit)
        with pytest.raises(CorruptData, match="no such segment"):
            cache.load(page)


@pytest.mark.parametrize("reattach", [False, True])
@pytest.mark.parametrize("bit", [SEGMENT_ID_SHIFT + 7, SEGMENT_ID_SHIFT + 20])
def test_a_word_of_no_segment_can_be_overwritten(
    memory: SharedMemory, cache: FrontedCache, reattach: bool, bit: int
) -> None:
    page = OBJECTS[0][0]
    cache.slots.words[page] = with_check(cache.slots.words[page] ^ 1 << bit)
    if reattach:  # recovery keeps such words, so that loads say EIO
        cache = memory.attach_cache()
    cache.store(page, pages.compressible(9))
    assert cache.load(page) == pages.compressible(9)


@pytest.mark.parametrize("is_found", [True, False])
def test_a_word_of_no_segment_is_overwritten_in_a_full_pool_as_any_other(
    memory: SharedMemory, is_found: bool
) -> None:
    cache = memory.attach_cache()
    cache.pool_limit_bytes = (1 + CLEANER_RESERVE) * MIB
    for page in range(255):
        cache.store(page, pages.incompressible(page))
    word = cache.slots.words[3] ^ 1 << SEGMENT_ID_SHIFT + 20
    cache.slots.words[3] = word if is_found else with_check(word)
    with pytest.raises(PoolFull):
        cache.store(3, pages.incompressible(9000))
    assert cache.load(3) is None
    assert cache.load(4) == pages.incompressible(4)


def test_a_fill_that_does_not_fit_is_corrupt(cache: FrontedCache) -> None:
    page = list(pages.CORPUS).index("fill_repeats_32_bits")
    word = cache.slots.words[page]
    cache.slots.words[page] = with_check(word ^ 1 << 16)  # a 32-bit word twice has 32 bits
    with pytest.raises(CorruptData, match="impossible slot word"):
        cache.load(page)


def test_corruption_is_logged_but_not_without_end(
    cache: FrontedCache, caplog: pytest.LogCaptureFixture
) -> None:
    page = OBJECTS[0][0]
    cache.slots.words[page] ^= 1 << 50
    with caplog.at_level(logging.ERROR):
        for _ in range(100):
            with pytest.raises(CorruptData):
                cache.load(page)
    assert 1 <= len(caplog.records) < 100
    assert f"page {page} is corrupt" in caplog.text
    assert cache.reader.counters.checksum_errors == 100
