"""Writeback: which stores wait, which are refused, and what the budget allows."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import StoreRefused
from fuseswap.reclaim.patience import NoRoom
from fuseswap.store.segment_entry import SegmentState
from fuseswap.units import MIB, PAGE_SIZE, SEGMENT_BYTES
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.tiered_devices import EXTENTS, STORE_FRAMES, Tiered, dense

pytestmark = pytest.mark.slow

UNITS = SEGMENT_BYTES // PAGE_SIZE


async def fill_until_refused(tiered: Tiered, first: int = 0) -> int:
    """Write dense pages, waiting as told, until one is refused; return which."""
    for page in range(first, tiered.cache.page_count):
        try:
            await tiered.write(page)
        except StoreRefused:
            return page
    raise AssertionError("never refused")


# -- who waits -------------------------------------------------------------------------


async def test_stores_wait_in_order_and_are_woken(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    tier.hold_writes = True
    tiered.device.in_flight.batch_size = 1
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill()
    order: list[tuple[int, Exception | None]] = []

    def note(number: int, error: Exception | None) -> None:
        order.append((number, error))

    for number in range(page, page + 5):
        data = memoryview(dense(number))
        done = partial(note, number)
        tiered.pending_io.begin_write(number * PAGE_SIZE, data, done)
    await wait_all_tasks_blocked()
    assert order == []
    queue = (tiered.pending_io.has_queue, tiered.pending_io.waiting_bytes)
    assert queue == (True, 5 * PAGE_SIZE)
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert order == [(number, None) for number in range(page, page + 5)]
    assert (tiered.pending_io.has_queue, tiered.pending_io.waiting_bytes) == (False, 0)


async def test_loads_and_discards_do_not_wait(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    nursery.start_soon(tiered.write, tiered.fill())
    await wait_all_tasks_blocked()
    assert tiered.cache.load(0) == tiered.expected[0]
    tiered.discard(1)
    assert tiered.cache.load(1) is None


async def test_a_long_write_waits_half_way_and_goes_on(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill() - 10
    data = b"".join(pages.incompressible(number) for number in range(40))
    await tiered.pending_io.write(page * PAGE_SIZE, memoryview(data))
    for number in range(40):
        tiered.expected[page + number] = pages.incompressible(number)
    await tiered.check()


async def test_a_store_waits_while_the_cleaner_has_the_last_frame(
    tierless: Tiered, nursery: trio.Nursery
) -> None:
    page = tierless.fill()
    for number in range(0, page, 2):
        tierless.discard(number)
    assert tierless.writeback.cleaner.step()
    assert not tierless.log.frames.has_spare
    with pytest.raises(NoRoom):
        tierless.store(page)
    nursery.start_soon(tierless.writeback.run)
    await tierless.write(page)
    await tierless.check()


# -- who is refused --------------------------------------------------------------------


async def test_without_a_tier_a_pool_full_of_live_pages_refuses(
    tierless: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tierless.writeback.run)
    page = await fill_until_refused(tierless)
    assert tierless.log.frames.in_use >= STORE_FRAMES
    assert await tierless.read_hole(page)
    await tierless.check()


async def test_a_full_tier_refuses_once_the_pool_is_full_too(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    page = await fill_until_refused(tiered)
    assert tiered.entry.extents.in_use == EXTENTS
    assert len(tier.written) == EXTENTS
    assert page > (EXTENTS + STORE_FRAMES - 1) * 266
    await tiered.check()
    first = tiered.log.table.state_of(tiered.segment_of(0))
    assert first is SegmentState.ON_TIER
    for number in tiered.pages_of(tiered.segment_of(0)):
        tiered.discard(number)
    assert tiered.entry.extents.available == 1
    await tiered.write(page)
    await tiered.check()


async def test_writeback_limit_bytes_is_a_budget(tiered: Tiered, nursery: trio.Nursery) -> None:
    nursery.start_soon(tiered.writeback.run)
    tiered.device.in_flight.batch_size = 1
    tiered.device.budget.left_bytes = 2 * MIB + 5
    page = await fill_until_refused(tiered)
    assert tiered.writeback.statistics().bd_writes == 2 * UNITS
    assert tiered.device.budget.left_bytes == 5
    tiered.device.budget.left_bytes = MIB
    await tiered.write(page)
    await tiered.check()


async def test_a_batch_does_not_exceed_the_budget(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    tiered.device.budget.left_bytes = MIB
    nursery.start_soon(tiered.write, tiered.fill())
    await wait_all_tasks_blocked()
    assert len(tier.writes) == 1


async def test_nothing_spins_where_nothing_helps(
    tierless: Tiered, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The clock jumps only once every task sleeps."""
    nursery.start_soon(tierless.writeback.run)
    await fill_until_refused(tierless)
    before = trio.current_time()
    await trio.sleep(10)
    assert trio.current_time() == before + 10
