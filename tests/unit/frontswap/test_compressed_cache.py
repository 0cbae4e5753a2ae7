"""The compressed cache: each kind of page, its place and its counters."""

from __future__ import annotations

import pytest

from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.codecs.registry import FILL, LAST_RAW, LZ4, RAW, ZSTD
from fuseswap.frontswap.cache_statistics import CacheStatistics
from fuseswap.store.segment_entry import Stream
from fuseswap.store.slot_word import is_same_filled
from fuseswap.units import MIB, PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.log_invariants import StoredObject
from tests.support.memory_stores import FrontedCache, SharedMemory


def stored(cache: FrontedCache, page: int) -> StoredObject:
    return StoredObject.of(page, cache.slots.get(PageNumber(page)))


def gauges(now: CacheStatistics) -> tuple[int, int, int, int]:
    """What is stored: pages, same-filled, incompressible, compressed bytes."""
    return (
        now.stored_pages,
        now.same_filled_pages,
        now.incompressible_pages,
        now.compr_data_size,
    )


@pytest.mark.parametrize("compressor", ["lz4", "zstd:1", "zstd:19"])
def test_every_kind_of_page_comes_back(cache: FrontedCache, compressor: str) -> None:
    cache.encoder.set_compressor(compressor)
    for page, data in enumerate(pages.CORPUS.values()):
        cache.store(page, memoryview(data))
    for page, data in enumerate(pages.CORPUS.values()):
        assert cache.load(page) == data
        assert cache.load(page) == data  # it stays stored
    assert cache.load(len(pages.CORPUS)) is None


@pytest.mark.parametrize("fill", [0, 1, pages.FITS, pages.REPEATS_32, 2**64 - 1])
def test_a_fill_that_fits_takes_no_arena_page(
    memory: SharedMemory, cache: FrontedCache, fill: int
) -> None:
    cache.store(9, pages.filled(fill))
    assert is_same_filled(cache.slots.get(PageNumber(9)))
    assert cache.load(9) == pages.filled(fill)
    assert memory.allocated_bytes("arena") == 0
    assert gauges(cache.statistics()) == (1, 1, 0, 0)
    cache.invalidate_page(9)
    assert gauges(cache.statistics()) == (0, 0, 0, 0)


@pytest.mark.parametrize("fill", [pages.FITS_NOT, 2**36, 2**64 - 2])
def test_a_fill_that_does_not_fit_takes_eight_bytes(cache: FrontedCache, fill: int) -> None:
    cache.store(9, pages.filled(fill))
    assert (stored(cache, 9).codec, stored(cache, 9).length) == (FILL, 8)
    assert cache.load(9) == pages.filled(fill)
    assert gauges(cache.statistics()) == (1, 1, 0, 8)
    cache.invalidate_page(9)
    assert gauges(cache.statistics()) == (0, 0, 0, 0)


@pytest.mark.parametrize("at", [8, 2048, PAGE_SIZE - 9])
def test_one_other_byte_makes_a_page_not_same_filled(cache: FrontedCache, at: int) -> None:
    changed = bytearray(pages.filled(pages.FITS))
    changed[at] ^= 1
    page = bytes(changed)
    cache.store(0, page)
    assert stored(cache, 0).codec == LZ4
    assert cache.load(0) == page
    assert cache.statistics().same_filled_pages == 0


def test_a_page_that_does_not_compress_is_kept_raw(cache: FrontedCache) -> None:
    cache.store(0, pages.CORPUS["incompressible"])
    assert (stored(cache, 0).codec, stored(cache, 0).length) == (RAW, PAGE_SIZE)
    now = cache.statistics()
    assert gauges(now) == (1, 0, 1, PAGE_SIZE)
    counters = cache.encoder.counters
    assert counters.reject_compress_poor == 1
    for tries in range(1, LAST_RAW + 1):  # denied: compressing it is not tried again yet
        cache.store(0, pages.CORPUS["compressible"])
        assert stored(cache, 0).codec == tries
        assert cache.load(0) == pages.CORPUS["compressible"]
    now = cache.statistics()
    assert (now.incompressible_pages, counters.compress_skipped) == (1, LAST_RAW)
    cache.store(0, pages.CORPUS["compressible"])
    now = cache.statistics()
    assert (now.incompressible_pages, counters.reject_compress_poor) == (0, 1)
    assert stored(cache, 0).codec == LZ4


@pytest.mark.parametrize(("length", "codec"), [(0, LZ4), (1, RAW)])
def test_compressing_must_save_three_percent(cache: FrontedCache, length: int, codec: int) -> None:
    page = pages.compressing_to(MAX_COMPRESSED_BYTES + length)
    cache.store(0, page)
    assert stored(cache, 0).codec == codec
    assert cache.load(0) == page


def test_same_filled_pages_enabled_off_compresses_them(cache: FrontedCache) -> None:
    cache.store(0, pages.ZERO)
    cache.encoder.same_filled_pages_enabled = False
    cache.store(1, pages.ZERO)
    assert stored(cache, 1).codec == LZ4
    assert [cache.load(page) for page in (0, 1)] == [pages.ZERO, pages.ZERO]
    assert cache.statistics().same_filled_pages == 1


def test_the_newest_of_many_versions_is_loaded(cache: FrontedCache) -> None:
    for replace in (False, True):
        for data in pages.CORPUS.values():
            cache.store(5, data, replace=replace)
            assert cache.load(5) == data
            assert cache.statistics().stored_pages == 1
    assert cache.frontswap.statistics().duplicate_entry == 2 * len(pages.CORPUS) - 1


def test_overwriting_leaves_nothing_of_the_old_version(cache: FrontedCache) -> None:
    for replace in (False, True):
        for data in pages.CORPUS.values():
            cache.store(5, data, replace=replace)
    cache.store(5, pages.ZERO)
    assert gauges(cache.statistics()) == (1, 1, 0, 0)
    assert cache.log.table.segments() == []


def test_invalidate_says_whether_the_page_was_there(cache: FrontedCache) -> None:
    cache.store(5, pages.CORPUS["compressible"])
    assert cache.invalidate_page(5)
    assert not cache.invalidate_page(5)
    assert cache.load(5) is None
    assert gauges(cache.statistics()) == (0, 0, 0, 0)


@pytest.mark.parametrize(("first", "count"), [(0, 1280), (3, 1), (500, 30), (511, 2), (1023, 257)])
def test_invalidate_area_forgets_just_that_area(
    cache: FrontedCache, first: int, count: int
) -> None:
    data = list(pages.CORPUS.values())
    for page in range(0, 1280, 3):
        cache.store(page, data[page % len(data)])
    area = range(first, first + count)
    assert cache.invalidate_area(first, count) == sum(page % 3 == 0 for page in area)
    for page in range(1280):
        present = page % 3 == 0 and page not in area
        assert cache.load(page) == (data[page % len(data)] if present else None)


def test_memory_in_use_is_what_the_files_take(memory: SharedMemory, cache: FrontedCache) -> None:
    for page in range(0, 1280, 2):
        cache.store(page, pages.incompressible(page))
    now = cache.statistics()
    names = ("slots", "segments", "arena", "index")
    assert now.mem_used_total == sum(memory.allocated_bytes(name) for name in names)
    assert now.pool_total_size == memory.allocated_bytes("arena") == 3 * MIB
    assert now.orig_data_size == 640 * PAGE_SIZE


def test_metadata_is_at_most_24_bytes_a_page(cache: FrontedCache) -> None:
    cache.dedup.set_switch("off")
    for page in range(1024):
        cache.store(page, pages.compressible(page % 9))
    assert cache.statistics().metadata_bytes <= 24 * 1024


@pytest.mark.parametrize(
    ("page", "codec"),
    [
        (pages.hexadecimal(1, 3500), ZSTD),  # lz4 leaves 3500 bytes of it, zstd 1800
        (pages.nearly_incompressible(1, 3500), LZ4),  # zstd neither
        (pages.hexadecimal(1, 2500), LZ4),  # not poor enough for a second try
    ],
)
def test_what_lz4_does_poorly_zstd_may_do_at_once(
    cache: FrontedCache, page: bytes, codec: int
) -> None:
    cache.store(0, page)
    assert cache.log.codec_pages[codec] == 1
    assert cache.load(0) == page


def test_the_index_of_contents_is_at_most_24_bytes_a_page(cache: FrontedCache) -> None:
    for page in range(1280):
        cache.store(page, pages.compressible(page))
    assert 0 < cache.statistics().dedup_index_bytes <= 24 * 1280


def test_the_share_of_loaded_pages_is_asked_of_few(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = memory.attach_cache()
    for page in range(200):
        cache.store(page, pages.compressible(page))
    for page in range(0, 200, 2):
        cache.load(page)
    segment = cache.log.heads[Stream.STORE].segment
    asked: list[int] = []
    get = cache.slots.get

    def count(page: int) -> int:
        asked.append(page)
        return get(PageNumber(page))

    monkeypatch.setattr(cache.slots, "get", count)
    assert 0.4 < cache.loaded_share(segment) < 0.6
    assert 30 <= len(asked) <= 64
