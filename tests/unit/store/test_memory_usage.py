"""Memory in use and its peak: between two looks, in the tables, and across workers."""

from __future__ import annotations

import pytest

from fuseswap.store.frame_pool import NO_FRAME
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted


def fill(cache: FrontedCache, count: int) -> None:
    cache.dedup.set_switch("off")  # no index
    for page in range(count):
        cache.store(page, pages.incompressible(page))


def test_nothing_is_used_by_nothing(cache: FrontedCache) -> None:
    assert cache.memory_usage.used_bytes() == cache.memory_usage.note_peak() == 0


def test_what_is_used_is_what_the_files_take(memory: SharedMemory, cache: FrontedCache) -> None:
    fill(cache, 600)
    tables = memory.allocated_bytes("slots") + memory.allocated_bytes("segments")
    assert cache.memory_usage.table_bytes == tables == 3 * PAGE_SIZE
    assert cache.memory_usage.used_bytes() == tables + memory.allocated_bytes("arena")


@pytest.mark.parametrize("name", ["dictionaries", "index"])
def test_dictionaries_and_index_count(memory: SharedMemory, name: str) -> None:
    state = memory.attach()
    cache = fronted(state)
    state.regions[name].populate(0, 2 * PAGE_SIZE)
    assert cache.memory_usage.used_bytes() == 2 * PAGE_SIZE
    now = cache.statistics()
    assert (now.mem_used_total, now.mem_used_max, now.metadata_bytes) == (2 * PAGE_SIZE,) * 3


def test_a_peak_between_two_looks_is_not_missed(cache: FrontedCache) -> None:
    fill(cache, 700)
    held = cache.log.frames.held
    cache.invalidate_area(0, cache.page_count)
    cache.log.frames.trim(0)
    assert cache.memory_usage.used_bytes() <= 2 * PAGE_SIZE
    assert held * MIB <= cache.memory_usage.note_peak() <= held * MIB + 4 * PAGE_SIZE


def test_frames_held_in_reserve_count(cache: FrontedCache) -> None:
    cache.log.frames.reserve(3)
    cache.log.frames.trim(0)
    assert cache.memory_usage.note_peak() == 3 * MIB


def test_a_frame_that_was_warm_is_not_counted_twice(cache: FrontedCache) -> None:
    frames = cache.log.frames
    frames.reserve(2)
    assert frames.take() != NO_FRAME
    assert frames.most_used == frames.held == 2
    frames.give_back(0)


def test_the_peak_does_not_fall_and_is_not_added_up(cache: FrontedCache) -> None:
    fill(cache, 700)
    peak = cache.memory_usage.note_peak()
    cache.invalidate_area(0, cache.page_count)
    cache.log.frames.trim(0)
    fill(cache, 1)
    assert cache.memory_usage.used_bytes() < peak
    assert cache.memory_usage.note_peak() == cache.statistics().mem_used_max == peak


def test_the_next_worker_knows_the_peak(memory: SharedMemory) -> None:
    first = memory.attach_cache()
    fill(first, 700)
    peak = first.memory_usage.note_peak()
    first.invalidate_area(0, first.page_count)
    second = memory.attach_cache()
    assert second.log.frames.held == 0
    assert second.statistics().mem_used_max == peak > 2 * MIB


def test_frames_kept_ready_whatever_is_stored_do_not_count(cache: FrontedCache) -> None:
    frames = cache.log.frames
    frames.ready = 2
    frames.reserve(2)
    assert (cache.memory_usage.used_bytes(), cache.memory_usage.ready_bytes) == (0, 2 * MIB)
    fill(cache, 1)
    now = cache.statistics()
    assert now.pool_total_size == cache.memory_usage.pool_bytes == MIB
    assert now.mem_used_total == MIB + 2 * PAGE_SIZE
    assert cache.memory_usage.ready_bytes == MIB
