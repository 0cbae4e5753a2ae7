"""Tidying: dead objects do not hold memory for long, though nobody waits for room."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.filesystem.device import Device
from fuseswap.store.geometry import Geometry
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import Tiered


async def test_an_idle_pool_gives_back_what_is_dead(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    page = tierless.fill()
    for number in range(0, page, 2):
        tierless.discard(number)
    dead, held = tierless.log.dead_bytes()
    assert dead > held // 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tierless.writeback.run)
        for _ in range(40):  # while stores had gone on, a look does a bounded part of it
            await wait_all_tasks_blocked()
            mock_clock.jump(1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    dead, held = tierless.log.dead_bytes()
    assert dead < MIB  # what is left is in a segment that is still open
    check_invariants(tierless.cache)
    await tierless.check()


async def test_a_pool_that_is_dense_is_left_alone(tierless: Tiered, mock_clock: MockClock) -> None:
    tierless.fill()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tierless.writeback.run)
        for _ in range(3):
            await wait_all_tasks_blocked()
            mock_clock.jump(1)
        nursery.cancel_scope.cancel()
    assert tierless.writeback.cleaner.statistics().objects_copied == 0


@pytest.mark.parametrize("dear", [True, False])
async def test_less_is_left_dead_under_load_where_memory_is_dear(dear: bool) -> None:
    state = SharedMemory(Geometry.for_size(32 * MIB, 32 * MIB)).attach()
    device = Device(state)
    for number in range(5000):
        device.swapfile.write(number * PAGE_SIZE, memoryview(pages.incompressible(number)))
    for number in range(0, 5000, 6):
        device.swapfile.punch(number * PAGE_SIZE, PAGE_SIZE)
    log = device.cache.log
    dead, held = log.dead_bytes()
    assert max(2 * MIB, held // 10) < dead < held // 5
    log.frames._feeder.is_tight = dear
    cleaning = device.writeback._cleaning
    await cleaning.tidy()
    assert cleaning.stores_go_on
    assert (device.writeback.cleaner.statistics().objects_copied > 0) is dear
