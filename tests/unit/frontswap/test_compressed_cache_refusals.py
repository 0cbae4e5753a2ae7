"""Refused stores: counted, never stale, and harmless to everything else."""

from __future__ import annotations

import errno

import pytest

from fuseswap.errors import Deferred, PoolFull, StoreRefused
from fuseswap.store.frame_pool import CLEANER_RESERVE
from fuseswap.store.geometry import Geometry
from fuseswap.units import MIB, PageNumber
from tests.support import pages
from tests.support.memory_stores import FrontedCache, SharedMemory

PER_FRAME = 255  # raw pages in a segment


def fill_up(cache: FrontedCache, frames: int) -> int:
    """Have ``frames`` for stores, fill them with raw pages; return how many were taken."""
    cache.pool_limit_bytes = (frames + CLEANER_RESERVE) * MIB
    for page in range(1280):
        try:
            cache.store(page, pages.incompressible(page))
        except PoolFull:
            return page
    raise AssertionError("never full")


def no_memory(offset: int, length: int) -> None:
    raise OSError(errno.ENOMEM, "none")


def test_the_limit_is_the_limit(cache: FrontedCache) -> None:
    assert fill_up(cache, 2) == 2 * PER_FRAME
    now = cache.statistics()
    assert now.pool_total_size == 2 * MIB == now.pool_limit_bytes - CLEANER_RESERVE * MIB
    assert cache.full_pool.counters.pool_limit_hit == 1


def test_everything_stored_stays_readable(cache: FrontedCache) -> None:
    taken = fill_up(cache, 2)
    assert cache.load(taken) is None
    assert all(cache.load(page) == pages.incompressible(page) for page in range(taken))


@pytest.mark.parametrize("old", pages.CORPUS)
@pytest.mark.parametrize("replace", [False, True])
def test_a_refused_store_leaves_a_hole_whatever_was_there(
    cache: FrontedCache, old: str, replace: bool
) -> None:
    cache.store(1001, pages.ZERO)  # keeps the cluster: an absent one would hide a stale word
    cache.store(1000, pages.CORPUS[old])
    cache.encoder.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        cache.store(1000, pages.CORPUS["compressible"], replace=replace)
    assert cache.load(1000) is None
    after, overwritten = cache.statistics(), cache.frontswap.statistics().duplicate_entry
    assert cache.slots.get(PageNumber(1000)) == 0
    assert (after.stored_pages, after.compr_data_size, after.segments) == (1, 0, 0)
    cache.store(1000, pages.ZERO)
    assert cache.frontswap.statistics().duplicate_entry == overwritten


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_pool_loses_the_old_version_only_of_the_refused_page(
    cache: FrontedCache, replace: bool
) -> None:
    taken = fill_up(cache, 1)
    cache.store(1278, pages.ZERO)
    cache.store(1279, pages.ZERO)
    with pytest.raises(PoolFull):
        cache.store(1279, pages.incompressible(1279), replace=replace)
    assert cache.load(1279) is None
    assert all(cache.load(page) == pages.incompressible(page) for page in range(taken))
    assert cache.full_pool.counters.pool_limit_hit == 2


@pytest.mark.parametrize("replace", [False, True])
def test_a_store_into_an_empty_cluster_that_is_refused_leaves_it_absent(
    cache: FrontedCache, replace: bool
) -> None:
    cache.encoder.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        cache.store(600, pages.CORPUS["compressible"], replace=replace)
    assert cache.slots.allocated_bytes == 0


def test_a_full_pool_leaves_an_empty_cluster_absent(
    cache: FrontedCache, memory: SharedMemory
) -> None:
    cache.pool_limit_bytes = 0
    with pytest.raises(PoolFull):
        cache.store(600, pages.CORPUS["compressible"])
    assert memory.allocated_bytes("slots") == cache.slots.allocated_bytes == 0


@pytest.mark.parametrize("replace", [False, True])
def test_no_memory_for_a_segment_is_no_full_pool_that_could_be_waited_for(
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    """Tried again, a part of a page would find a hole, and the rest of the page be zeros."""
    cache.store(0, pages.CORPUS["compressible"])
    cache.store(1, pages.CORPUS["compressible"])
    cache.on_full = lambda: True
    monkeypatch.setattr(cache.log.frames._arena, "populate", no_memory)
    with pytest.raises(StoreRefused):
        cache.store(0, pages.incompressible(1), replace=replace)
    assert cache.load(0) is None
    now = cache.full_pool.counters
    assert (now.pool_limit_hit, now.reject_alloc_fail) == (0, 1)


def test_a_full_pool_still_takes_fills(cache: FrontedCache) -> None:
    taken = fill_up(cache, 1)
    cache.store(taken, pages.filled(pages.REPEATS_32))
    assert cache.load(taken) == pages.filled(pages.REPEATS_32)


def test_non_same_filled_pages_enabled_off_takes_any_fill_and_nothing_else(
    cache: FrontedCache,
) -> None:
    cache.encoder.non_same_filled_pages_enabled = False
    for fill in (0, pages.FITS, pages.REPEATS_32, pages.FITS_NOT):
        cache.store(0, pages.filled(fill))
        assert cache.load(0) == pages.filled(fill)
    with pytest.raises(StoreRefused):
        cache.store(1, pages.CORPUS["incompressible"])
    assert cache.full_pool.counters.pool_limit_hit == 0


def test_both_switches_off_take_nothing(cache: FrontedCache) -> None:
    cache.encoder.same_filled_pages_enabled = cache.encoder.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        cache.store(0, pages.ZERO)
    assert cache.load(0) is None


def test_stores_go_on_once_a_segment_is_free(cache: FrontedCache) -> None:
    taken = fill_up(cache, 2)
    cache.invalidate_area(0, PER_FRAME)
    cache.store(taken, pages.incompressible(taken))
    assert cache.load(taken) == pages.incompressible(taken)


def test_stores_go_on_once_the_limit_is_raised(cache: FrontedCache) -> None:
    taken = fill_up(cache, 1)
    cache.pool_limit_bytes += MIB
    cache.store(taken, pages.incompressible(taken))
    assert cache.load(taken) == pages.incompressible(taken)


def test_a_limit_below_what_is_used_keeps_it_and_refuses_more(cache: FrontedCache) -> None:
    taken = fill_up(cache, 3)
    cache.pool_limit_bytes = (1 + CLEANER_RESERVE) * MIB
    assert all(cache.load(page) == pages.incompressible(page) for page in range(taken))
    with pytest.raises(PoolFull):
        cache.store(taken, pages.incompressible(taken))
    cache.invalidate_area(0, 2 * PER_FRAME)  # now just at the limit: no frame is free
    with pytest.raises(PoolFull):
        cache.store(taken, pages.incompressible(taken))
    assert cache.statistics().pool_total_size == (1 + CLEANER_RESERVE) * MIB
    assert cache.log.frames.in_use == 1


def test_the_limit_never_exceeds_the_arena(cache: FrontedCache) -> None:
    cache.pool_limit_bytes = 1 << 50
    assert cache.pool_limit_bytes == 8 * MIB


def test_an_overwrite_finds_room_behind_the_old_version_of_a_full_pool(
    cache: FrontedCache,
) -> None:
    cache.store(1, pages.compressible(1))
    cache.pool_limit_bytes = 0
    cache.store(1, pages.compressible(2))
    assert cache.load(1) == pages.compressible(2)
    assert cache.full_pool.counters.pool_limit_hit == 0


def test_the_next_worker_knows_at_once_that_the_pool_is_full() -> None:
    memory = SharedMemory(Geometry(page_count=4096, segment_count=9, frame_count=3))
    former = memory.attach_cache()
    for page in range(2 * PER_FRAME):
        former.store(page, pages.incompressible(page))
    cache = memory.attach_cache()
    cache.on_full = lambda: True
    for replace in (True, False):
        with pytest.raises(Deferred):
            cache.store(5, pages.incompressible(9999), replace=replace)
        assert cache.load(5) == pages.incompressible(5), "nothing was changed"
