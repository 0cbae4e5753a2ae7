"""The task that sweeps: at once where nobody asks for anything, else a tenth of the time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.dedup.merger import Merger
from fuseswap.dedup.sweep import BUSY_SHARE, Sweep
from fuseswap.filesystem.device import Device
from fuseswap.units import PAGE_SIZE, PageNumber, page_range
from tests.support import pages
from tests.support.memory_stores import FrontedCache, fronted_of
from tests.support.recompressed_devices import pass_time

STEP_S = 0.0002


def store_pairs(cache: FrontedCache) -> None:
    cache.dedup.set_switch("off")
    for page in range(1200):
        cache.store(page, pages.compressible(page % 600))
    cache.dedup.set_switch("on")


async def test_it_waits_until_there_is_something_and_ends(
    device: Device, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    nursery.start_soon(device.sweep.run)
    await pass_time(5)
    for _ in range(2):
        store_pairs(fronted_of(device))
        await pass_time(2)
        assert device.statistics()["dedup_unswept_pages"] == 0
        assert device.cache.statistics().duplicate_pages == 600
    assert device.statistics()["dedup_merged_pages"] == 1200


async def test_stores_between_the_steps(
    device: Device, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    store_pairs(fronted_of(device))
    nursery.start_soon(device.sweep.run)
    await wait_all_tasks_blocked()
    mock_clock.jump(1.0)
    page = 0
    while device.cache.dedup.sweep_at != -1:
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(page + 5000)))
        page += 1
        await trio.lowlevel.checkpoint()
        mock_clock.jump(0.001)
    assert page > 20
    assert all(
        device.frontswap.load(n) == pages.compressible(n + 5000) for n in page_range(0, page)
    )
    assert device.frontswap.load(PageNumber(1100)) == pages.compressible(500)


@pytest.mark.parametrize("busy", [True, False])
async def test_its_share_of_the_thread(
    cache: FrontedCache, nursery: trio.Nursery, mock_clock: MockClock, busy: bool
) -> None:
    requests = 0
    merging = Sweep(Merger(cache.cache, cache.dedup), lambda: requests)
    store_pairs(cache)
    spent = 0.0
    step = merging.merger.step

    def step_that_takes_time() -> None:
        nonlocal spent
        step()
        mock_clock.jump(STEP_S)
        spent += STEP_S

    merging.merger.step = step_that_takes_time  # type: ignore[method-assign]
    nursery.start_soon(merging.run)
    await wait_all_tasks_blocked()
    mock_clock.jump(1.0)
    began = trio.current_time()
    while merging.merger.busy:
        await trio.lowlevel.checkpoint()
        requests += busy
        if busy:
            mock_clock.jump(STEP_S / 10)
    share = spent / (trio.current_time() - began)
    if busy:
        assert 0.7 * BUSY_SHARE < share <= BUSY_SHARE * 1.05
    else:
        assert share > 0.7  # the first steps do not know yet
