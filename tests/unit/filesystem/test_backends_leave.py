"""Backends that go, or get smaller, while the swap is on: their pages go to the others."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.filesystem.explain import explain
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.chained_backends import SLOTS, Chained, carry_out, ended, running
from tests.support.memory_stores import SharedMemory
from tests.support.raw_memories import RawSlots

# -- remove ------------------------------------------------------------------------------


def test_pages_go_to_the_others_then_it_goes(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots]
) -> None:
    worker.set("add=raw0")
    worker.fill(60)
    assert carry_out(worker, "remove=raw0") == "remove=raw0: 40 of 40 pages"
    assert worker.held() == {"cache": 60}
    worker.check(60)
    assert raws["raw0"].allocated_bytes() == 0
    assert "raw0 kind=raw" in worker.device.backends.describe(), "it may be added again"
    again = Chained(memory, raws)
    assert again.names() == ["cache"]
    again.check(60)


def test_it_may_come_again(worker: Chained) -> None:
    for _ in range(3):
        worker.set("add=raw0")
        worker.fill(50)
        assert worker.held() == {"raw0": 40, "cache": 10}
        carry_out(worker, "remove=raw0")
        worker.check(50)


def test_where_pages_do_not_fit_it_stays_and_says_how_many(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.fill(40)
    worker.device.cache.encoder.non_same_filled_pages_enabled = False
    progress = carry_out(worker, "remove=raw0")
    assert progress.startswith("remove=raw0: failed: 40 pages find no room elsewhere")
    assert worker.held() == {"raw0": 40, "cache": 0}
    worker.check(40)
    worker.frontswap.invalidate_page(PageNumber(0))
    worker.frontswap.store(PageNumber(50), pages.filled(3))
    assert worker.held() == {"raw0": 40, "cache": 0}, "it takes pages again"


async def test_the_last_that_would_take_a_page_does_not_go(worker: Chained) -> None:
    """Stores go on meanwhile: what is refused is refused, nothing else."""
    worker.set("add=raw0")
    worker.fill(20)
    worker.device.cache.encoder.non_same_filled_pages_enabled = False
    async with running(worker):
        worker.set("remove=raw0")
        await wait_all_tasks_blocked()
    worker.check(20)
    worker.frontswap.store(PageNumber(21), pages.incompressible(21))
    assert worker.held() == {"raw0": 21, "cache": 0}


async def test_one_order_at_a_time(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.set("add=raw1")
    worker.fill(80)
    async with running(worker):
        worker.set("remove=raw0")
        with pytest.raises(InvalidArgument, match="is under way"):
            worker.set("remove=raw1")
        await wait_all_tasks_blocked()
        worker.set("remove=raw1")
        await wait_all_tasks_blocked()
    assert worker.held() == {"cache": 80}
    worker.check(80)


async def test_serving_goes_on_while_it_is_drained(worker: Chained) -> None:
    """Others get their turn between a few pages; what they store goes elsewhere."""
    worker.set("add=raw0")
    worker.fill(40)
    turns = 0
    async with running(worker):
        worker.set("remove=raw0")
        while not ended(worker):
            await trio.lowlevel.checkpoint()
            worker.frontswap.store(PageNumber(turns), pages.incompressible(turns))
            turns += 1
    assert turns >= 3
    worker.check(40)
    assert worker.held() == {"cache": 40}


def test_a_removal_is_forgotten_with_its_worker(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots]
) -> None:
    worker.set("add=raw0")
    worker.fill(40)

    async def main() -> None:
        async with running(worker):
            worker.set("remove=raw0")
            while worker.held()["raw0"] == 40:
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert 0 < worker.held()["raw0"] < 40
    again = Chained(memory, raws)
    assert again.held() == worker.held()
    again.check(40)
    assert "remove" not in again.progress()


def test_a_corrupt_page_does_not_keep_it(worker: Chained, raws: dict[str, RawSlots]) -> None:
    worker.set("add=raw0")
    worker.fill(40)
    slot = explain(worker.device, PageNumber(5)).slot
    assert slot is not None
    raws["raw0"].map().buffer[PAGE_SIZE + slot * PAGE_SIZE] ^= 1
    assert explain(worker.device, PageNumber(5)).checksum == "corrupt"
    assert carry_out(worker, "remove=raw0") == "remove=raw0: 40 of 40 pages"
    with pytest.raises(CorruptData):
        worker.frontswap.load(PageNumber(5))
    worker.frontswap.store(PageNumber(5), pages.incompressible(5))
    worker.check(40)


# -- shrink ------------------------------------------------------------------------------


def test_pages_leave_for_those_behind_it(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.set("add=raw1")
    worker.fill(40)
    assert worker.held() == {"raw1": 40, "raw0": 0, "cache": 0}
    assert carry_out(worker, f"shrink=raw1 to={10 * PAGE_SIZE}") == "shrink=raw1: 30 of 30 pages"
    assert worker.held() == {"raw1": 10, "raw0": 30, "cache": 0}
    worker.check(40)
    worker.frontswap.store(PageNumber(50), pages.filled(3))
    assert worker.held()["raw1"] == 11


def test_nobody_behind_it_is_an_error(worker: Chained) -> None:
    worker.set("add=raw0 order=last")
    with pytest.raises(InvalidArgument, match="no backend can have"):
        worker.set("shrink=raw0 to=0")


async def test_a_page_that_moves_leaves_nothing_behind(worker: Chained) -> None:
    """The collector is off in a worker: a cycle would stay for each page."""
    worker.set("add=raw0")
    async with running(worker):
        await wait_all_tasks_blocked()
        for refuses in (True, False):
            worker.device.cache.encoder.non_same_filled_pages_enabled = True
            worker.fill(SLOTS)
            worker.device.cache.encoder.non_same_filled_pages_enabled = not refuses
            gc.collect()
            gc.disable()
            try:
                worker.set("remove=raw0")
                await wait_all_tasks_blocked()
                assert gc.collect() < SLOTS // 2
            finally:
                gc.enable()
            assert worker.held()["cache"] == (0 if refuses else SLOTS)
