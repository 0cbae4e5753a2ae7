"""The in-place layout: a budget, a file that fails, a full pool, the next worker."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData, StoreRefused
from fuseswap.frontswap.place_writer import PlaceWriter
from fuseswap.frontswap.place_writes import RUN_PAGES
from fuseswap.store.segment_entry import Stream
from fuseswap.store.slot_word import foreign_word, segment_of
from fuseswap.tiers.tier_health import TierHealth
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import MIB, PAGE_SIZE, PageNumber, SegmentId, SegmentRef
from tests.support import pages
from tests.support.fake_tier import FakePlaceFile
from tests.support.raw_file_writes import ask_page, evict, fly, place_of, refuse_dense, send
from tests.support.tiered_devices import Tiered, dense

pytestmark = pytest.mark.slow

# -- budget, failures, a full pool -------------------------------------------------------


async def test_a_budget_is_never_exceeded(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    """A segment of 266 pages, and a budget for 32 of them and a bit."""
    for page in range(200):
        placed.store(page)
    placed.device.budget.left_bytes = 2 * RUN_PAGES * PAGE_SIZE + PAGE_SIZE + 1
    segment = evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert len(placed.in_place()) == 2 * RUN_PAGES
    assert placed.device.budget.left_bytes == PAGE_SIZE + 1
    assert not placed.device.evictor.can_write
    assert placed.device.state.parameters["writeback_limit_bytes"] == str(PAGE_SIZE + 1)
    refuse_dense(placed)
    assert ask_page(placed, nursery, 1000, dense(1)).error is None
    placed.expected[1000] = dense(1)
    await wait_all_tasks_blocked()
    assert placed.device.budget.left_bytes == 1
    assert ask_page(placed, nursery, 1001, dense(1)).error is not None
    placed.device.budget.left_bytes = None
    assert placed.log.eviction_queue.remove(SegmentId(segment))
    send(placed, nursery, SegmentId(segment), second_chance=True)
    await wait_all_tasks_blocked()
    assert len(placed.in_place()) == 201
    await placed.check()


async def test_stores_that_wait_for_each_other_are_paid_for_when_they_are_taken(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    placed.store(7)
    places.hold_writes = True
    placed.device.budget.left_bytes = MIB
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    placed.device.budget.left_bytes = PAGE_SIZE
    refuse_dense(placed)
    assert ask_page(placed, nursery, 7, dense(70)).error is None
    assert ask_page(placed, nursery, 7, dense(71)).error is not None
    places.let_go()
    await wait_all_tasks_blocked()
    assert placed.device.budget.left_bytes == 0


async def test_what_fails_costs_no_budget(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    placed.store(0)
    placed.device.budget.left_bytes = MIB
    places.fail_writes = True
    evict(placed, nursery)
    refuse_dense(placed)
    assert ask_page(placed, nursery, 5, dense(5)).error is None
    await wait_all_tasks_blocked()
    assert placed.device.budget.left_bytes == MIB


async def test_a_file_that_fails_for_long_is_not_asked(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    refuse_dense(placed)
    places.fail_writes = True
    for _ in range(8):
        ask_page(placed, nursery, 5, dense(5))
        await trio.sleep(1)
    assert isinstance(ask_page(placed, nursery, 5, dense(5)).error, StoreRefused)
    await trio.sleep(30)
    places.fail_writes = False
    assert ask_page(placed, nursery, 5, dense(5)).error is None
    await wait_all_tasks_blocked()
    placed.expected[5] = dense(5)
    await placed.check()


async def test_with_a_file_that_works_no_store_is_refused(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    nursery.start_soon(placed.writeback.run)
    for page in range(0, 4096, 2):
        kind = pages.incompressible if page % 6 == 0 else dense
        await placed.write(page, kind(page))
    placed.cache.encoder.max_compression_ratio = 60
    for page in range(1, 4096, 2):
        await placed.write(page, pages.nearly_incompressible(page, 1500 + page % 2500))
    now = placed.device.statistics()
    assert now["failed_stores"] == 0
    assert now["succ_stores"] == 4096
    assert now["pool_total_size"] <= placed.cache.pool_limit_bytes
    await placed.check()


async def test_a_full_pool_in_which_nothing_can_be_evicted_is_passed_by(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    page = placed.fill()
    for head in placed.log.heads:
        placed.log.seal(head)
    for segment in placed.log.table.segments():
        placed.log.table.pin(segment)
    nursery.start_soon(placed.writeback.run)
    for number in range(page, page + 20):
        await placed.write(number)
    assert placed.in_place() == list(range(page, page + 20))
    await placed.check()


async def test_a_full_pool_and_a_failing_file_refuse_and_recover(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    places.fail_writes = True
    page = placed.fill()
    nursery.start_soon(placed.writeback.run)
    for number in range(page, page + 30):
        with trio.fail_after(5), pytest.raises(StoreRefused):
            await placed.write(number)
    places.fail_writes = False
    await trio.sleep(60)
    for number in range(page, page + 300):
        await placed.write(number)
    await placed.check()


# -- the next worker ---------------------------------------------------------------------


@pytest.mark.parametrize("through", [False, True])
async def test_the_next_worker_finds_all_of_it(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, through: bool
) -> None:
    """One page each: in its place, stored to it, on its way out, on its way in, copied."""
    placed.store(0)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    refuse_dense(placed)
    ask_page(placed, nursery, 1, dense(1))
    placed.expected[1] = dense(1)
    await wait_all_tasks_blocked()
    assert placed.in_place() == [0, 1]
    del placed.expected[0], placed.expected[1]
    placed.cache.encoder.max_compression_ratio = 100
    placed.store(2)
    places.hold_writes = True
    evict(placed, nursery)
    place_of(placed).writethrough = through
    if through:
        ask_page(placed, nursery, 4, dense(4))
        placed.expected[4] = dense(4)
    await wait_all_tasks_blocked()
    await fly(placed, places, nursery, 3, dense(3))
    places.forget()
    again = Tiered(placed.memory, places)
    again.expected = {**placed.expected, 0: dense(0), 1: dense(1)}
    assert again.in_place() == [0, 1]
    places.hold_writes = False
    await again.check()
    assert await again.read_hole(3)


async def test_a_worker_without_the_file_takes_no_place_for_a_page(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    placed.store(0)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    again = Tiered(placed.memory, None)
    with pytest.raises(CorruptData):
        again.cache.load(0)


def test_a_page_in_its_place_has_to_be_read(placed: Tiered) -> None:
    slots = placed.cache.slots
    slots.allocate(PageNumber(3))
    slots.commit(PageNumber(3), foreign_word(0, 0x12345678))
    with pytest.raises(TierLoad) as caught:
        placed.device.frontswap.load(PageNumber(3))
    assert (caught.value.offset, caught.value.length) == (3 * PAGE_SIZE, PAGE_SIZE)
    assert placed.log.heads[Stream.STORE].segment == 0


async def test_what_an_eviction_leaves_is_not_pinned_once_the_id_is_anothers(
    placed: Tiered,
) -> None:
    """It found no page to write, since the segment had died: the next one of that id is sound."""
    placed.store(0)
    table, writer = placed.log.table, placed.device.writer
    assert isinstance(writer, PlaceWriter)
    segment = segment_of(placed.cache.slots.get(PageNumber(0)))
    died = SegmentRef(segment, table.sequence_of(segment) + 7)
    placed.device.in_flight.begin(died, TierHealth())
    await writer._write(died, False)
    assert not table.is_pinned(segment)
