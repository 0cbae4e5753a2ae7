"""Writeback: when it starts and stops, and what leaves first."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.tiered_devices import POOL_FRAMES, Tiered

UNITS = SEGMENT_BYTES // PAGE_SIZE


# -- when ------------------------------------------------------------------------------


async def test_nothing_is_written_while_there_is_room(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    for page in range(700):
        tiered.store(page)
    await wait_all_tasks_blocked()
    assert tiered.writeback.statistics().writeback_attempted == 0


async def test_a_full_pool_makes_room_and_the_store_goes_on(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill()
    await tiered.write(page)
    await wait_all_tasks_blocked()
    now = tiered.writeback.statistics()
    moved = now.writeback_attempted
    assert moved >= 1
    assert now.bd_writes == now.bd_count == moved * UNITS
    assert now.written_back_pages == len(tiered.on_tier()) > 0
    assert (now.writeback_failed, now.outstanding_writebacks) == (0, 0)
    assert now.saved_by_writeback == 1
    assert tiered.entry.extents.in_use == moved
    await tiered.check()


@pytest.mark.parametrize("threshold", [90, 50, 34])
async def test_it_stops_at_the_threshold(
    tiered: Tiered, nursery: trio.Nursery, threshold: int
) -> None:
    nursery.start_soon(tiered.writeback.run)
    tiered.writeback.accept_threshold_percent = threshold
    tiered.device.in_flight.batch_size = 1
    page = tiered.fill()
    await tiered.write(page)
    await wait_all_tasks_blocked()
    goal = max(1, POOL_FRAMES * (100 - threshold) // 100)
    attempted = tiered.writeback.statistics().writeback_attempted
    assert goal <= attempted <= goal + 1  # the store takes a frame at once
    assert tiered.log.frames.available >= goal - 1
    tiered.store(page + 1)
    await wait_all_tasks_blocked()
    assert tiered.writeback.statistics().writeback_attempted == attempted


async def test_no_more_leaves_than_the_threshold_asks_for(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    nursery.start_soon(tiered.write, tiered.fill())
    await wait_all_tasks_blocked()
    assert len(tier.writes) == 1


async def test_the_batch_size_is_a_bound(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    tier.hold_writes = True
    tiered.device.in_flight.batch_size = 2
    tiered.writeback.accept_threshold_percent = 1
    nursery.start_soon(tiered.writeback.run)
    nursery.start_soon(tiered.write, tiered.fill())
    for _ in range(10):
        await wait_all_tasks_blocked()
        assert tiered.writeback.statistics().outstanding_writebacks == len(tier.writes)
        if tier.writes:
            tier.writes[-1].finish()
    assert tier.most_writes == 2
    await wait_all_tasks_blocked()
    await tiered.check()


# -- what ------------------------------------------------------------------------------


async def test_the_oldest_leaves_first(tiered: Tiered, nursery: trio.Nursery) -> None:
    tiered.device.in_flight.batch_size = 1
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill()
    oldest = tiered.pages_of(tiered.segment_of(0))
    await tiered.write(page)
    await wait_all_tasks_blocked()
    assert tiered.on_tier()[: len(oldest)] == oldest
    assert page not in tiered.on_tier()


async def test_incompressible_pages_leave_before_older_ones(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    tiered.device.in_flight.batch_size = 1
    for page in range(270):
        tiered.store(page)
    for page in range(1000, 1260):
        tiered.store(page, pages.incompressible(page))
    nursery.start_soon(tiered.writeback.run)
    await tiered.write(tiered.fill(270))
    await wait_all_tasks_blocked()
    assert set(range(1000, 1255)) <= set(tiered.on_tier())
    assert 0 not in tiered.on_tier()
    await tiered.check()


async def test_what_was_loaded_stays_in_memory(tiered: Tiered, nursery: trio.Nursery) -> None:
    page = tiered.fill()
    oldest = tiered.segment_of(0)
    found = tiered.pages_of(oldest)
    loaded = found[::4]
    for number in loaded:
        assert await tiered.read(number) == tiered.expected[number]
    tiered.device.in_flight.batch_size = 1
    nursery.start_soon(tiered.writeback.run)
    await tiered.write(page)
    await wait_all_tasks_blocked()
    on_tier = set(tiered.on_tier())
    assert not on_tier & set(loaded)
    assert on_tier
    await tiered.check()


async def test_a_pool_that_is_loaded_all_over_is_written_back_all_the_same(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill()
    for number in range(page):
        tiered.cache.load(number)
    for more in range(page, page + 400):
        await tiered.write(more)
    await wait_all_tasks_blocked()
    assert tiered.on_tier()
    await tiered.check()


async def test_dead_space_is_cleaned_before_anything_is_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    page = tiered.fill()
    for number in range(page - 1):
        if number % 4:
            tiered.discard(number)
    nursery.start_soon(tiered.writeback.run)
    await tiered.write(page)
    await wait_all_tasks_blocked()
    assert (tier.written, tiered.on_tier()) == ([], [])
    assert tiered.writeback.cleaner.statistics().segments_cleaned > 0
    await tiered.check()


async def test_without_a_tier_the_cleaner_makes_room(
    tierless: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tierless.writeback.run)
    page = tierless.fill()
    for number in range(page):
        if number % 2:
            tierless.discard(number)
    await tierless.write(page)
    await tierless.check()


async def test_stores_go_on_for_long_in_a_pool_that_is_mostly_dead(
    tierless: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tierless.writeback.run)
    for number in range(5000):
        await tierless.write(number * 7 % 600)
    await tierless.check()
