"""The in-place layout: what may happen to a page while a write of it is in flight."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.errors import CorruptData
from fuseswap.frontswap.place_writes import RUN_PAGES
from fuseswap.store.slot_word import offset_of
from fuseswap.units import PAGE_SIZE, PageNumber, SegmentId
from tests.support import pages
from tests.support.fake_tier import FakePlaceFile
from tests.support.log_invariants import check_invariants
from tests.support.page_actions import Action, each_action, each_blind_action, load
from tests.support.raw_file_writes import Outcome, ask_page, evict, place_of, refuse_dense
from tests.support.tiered_devices import Tiered, dense

# -- eviction --------------------------------------------------------------------------


async def test_neighbours_are_written_together(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    for page in [*range(2 * RUN_PAGES + 3), 100, 102]:
        placed.store(page)
    segment = evict(placed, nursery)
    await wait_all_tasks_blocked()
    lengths = [len(run) for run in places.written]
    assert lengths == [RUN_PAGES, RUN_PAGES, 3, 1, 1]
    assert placed.in_place() == sorted(placed.expected)
    assert all(places.page(page) == data for page, data in placed.expected.items())
    assert segment not in placed.log.table.segments()
    now = placed.writeback.statistics()
    assert now.written_back_pages == now.bd_writes == now.bd_count == len(placed.expected)
    await placed.check()


@each_action
@pytest.mark.parametrize("fails", [False, True])
async def test_while_it_is_written(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, action: Action, fails: bool
) -> None:
    for page in range(200):
        placed.store(page)
    places.hold_writes = True
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    acted_on = range(0, 100, 7)
    for page in acted_on:
        action(placed, page)
    check_invariants(placed.cache)
    for write in list(places.writes):
        (write.fail if fails else write.finish)()
    await wait_all_tasks_blocked()
    places.let_go()
    await wait_all_tasks_blocked()
    gone = set(placed.in_place())
    assert bool(gone) != fails
    assert action is load or not gone & set(acted_on)
    await placed.check()


@each_blind_action
async def test_after_it_was_written(placed: Tiered, nursery: trio.Nursery, action: Action) -> None:
    for page in range(100):
        placed.store(page)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert placed.in_place() == list(range(100))
    for page in range(0, 100, 7):
        action(placed, page)
    await placed.check()


async def test_a_part_of_a_page_in_its_place_is_changed(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    placed.store(0)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    refuse_dense(placed)  # memory takes it all the same: nobody else could
    await placed.pending_io.write(5, memoryview(b"part"))
    placed.expected[0] = dense(0)[:5] + b"part" + dense(0)[9:]
    assert placed.in_place() == []
    await placed.check()


async def test_a_page_that_is_loaded_is_spared_once(placed: Tiered, nursery: trio.Nursery) -> None:
    for page in range(10):
        placed.store(page)
    placed.cache.load(3)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert 3 not in placed.in_place()
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert placed.in_place() == list(range(10))


async def test_without_a_second_chance_nothing_is_spared(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    placed.store(0)
    placed.cache.load(0)
    evict(placed, nursery, second_chance=False)
    await wait_all_tasks_blocked()
    assert placed.in_place() == [0]


async def test_what_fails_stays_and_is_first_in_line(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    for page in range(600):
        placed.store(page)
    segment = evict(placed, nursery)
    places.fail_writes = True
    await wait_all_tasks_blocked()
    assert placed.in_place() == []
    assert placed.writeback.statistics().writeback_failed > 0
    assert not placed.device.evictor.can_write
    assert placed.log.eviction_queue.pop() == segment
    await placed.check()


async def test_a_segment_that_dies_or_is_reborn_while_it_is_written(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    for page in range(100):
        placed.store(page)
    places.hold_writes = True
    segment = evict(placed, nursery)
    await wait_all_tasks_blocked()
    placed.discard(0, 100)
    page = 200
    while segment not in placed.log.table.segments():
        placed.store(page)
        page += 1
    places.let_go()
    await wait_all_tasks_blocked()
    assert placed.in_place() == []
    assert not placed.log.eviction_queue.remove(SegmentId(segment))
    await placed.check()


async def test_a_segment_that_dies_before_the_first_look(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    placed.store(0)
    segment = evict(placed, nursery)
    placed.discard(0)
    placed.store(1)
    assert placed.segment_of(1) == segment
    await wait_all_tasks_blocked()
    assert places.written == []
    await placed.check()


async def test_a_corrupt_page_stays_alone_and_is_not_tried_for_ever(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    for page in range(10):
        placed.store(page)
    segment = placed.segment_of(4)
    found = placed.cache.slots.get(PageNumber(4))
    at = placed.log.table.bases[segment] + offset_of(found) + 100
    placed.device.state.arena.map[at] ^= 1
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert placed.in_place() == [page for page in range(10) if page != 4]
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert placed.log.table.is_pinned(segment)
    with pytest.raises(CorruptData):
        await placed.read(4)
    assert await placed.read(5) == placed.expected[5]


async def test_eviction_waits_for_a_page_whose_copy_is_in_flight(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    place_of(placed).writethrough = True
    places.hold_writes = True
    outcome = ask_page(placed, nursery, 0, dense(0))
    placed.expected[0] = dense(0)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert not outcome.ended
    assert placed.in_place() == []
    assert placed.writeback.statistics().outstanding_writebacks == 1
    places.let_go()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)
    assert placed.in_place() == [0]
    assert len(places.written) == 1
    await placed.check()


# -- writethrough ----------------------------------------------------------------------


async def write_through(worker: Tiered, nursery: trio.Nursery, page: int, data: bytes) -> None:
    place_of(worker).writethrough = True
    assert not ask_page(worker, nursery, page, data).ended
    await wait_all_tasks_blocked()
    worker.expected[page] = data


async def test_a_page_with_a_copy_leaves_without_a_write(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    await write_through(placed, nursery, 7, dense(7))
    assert placed.in_place() == []
    assert places.page(7) == dense(7)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert placed.in_place() == [7]
    assert len(places.written) == 1
    await placed.check()


@pytest.mark.parametrize("last", [7, 70, 71])
async def test_what_a_failed_write_left_is_not_taken_for_a_copy(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, last: int
) -> None:
    await write_through(placed, nursery, 7, dense(7))
    places.hold_writes = True
    outcome = ask_page(placed, nursery, 7, dense(70))
    placed.expected[7] = dense(70)
    places.writes[0].fail()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)  # it is in memory, as safe as without a copy
    places.hold_writes = False
    ask_page(placed, nursery, 7, dense(last))  # the file rests: no copy of it
    placed.expected[7] = dense(last)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert places.page(7) == dense(last)
    await placed.check()


@each_action
@pytest.mark.parametrize("fails", [False, True])
async def test_while_a_copy_is_in_flight(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, action: Action, fails: bool
) -> None:
    place_of(placed).writethrough = True
    places.hold_writes = True
    outcome = ask_page(placed, nursery, 7, dense(7))
    placed.expected[7] = dense(7)
    place_of(placed).writethrough = False  # for the action, which must not wait
    action(placed, 7)
    (places.writes[0].fail if fails else places.writes[0].finish)()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)
    places.let_go()
    placed.store(8)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    await placed.check()


async def test_a_fill_has_no_copy(placed: Tiered, nursery: trio.Nursery) -> None:
    place_of(placed).writethrough = True
    assert ask_page(placed, nursery, 7, pages.filled(5)).ended


async def test_while_the_file_rests_a_store_is_answered_without_a_copy(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    place_of(placed).writethrough = True
    places.fail_writes = True
    first = ask_page(placed, nursery, 7, dense(7))
    await wait_all_tasks_blocked()
    second = ask_page(placed, nursery, 8, dense(8))
    await wait_all_tasks_blocked()
    assert first == second == Outcome(ended=True)
    assert placed.pending_io.waiting_bytes == 0
    placed.expected = {7: dense(7), 8: dense(8)}
    await placed.check()


async def test_a_discard_with_edges_ends(placed: Tiered, nursery: trio.Nursery) -> None:
    await write_through(placed, nursery, 7, dense(7))
    placed.device.swapfile.punch(7 * PAGE_SIZE + 100, 50)
    placed.expected[7] = dense(7)[:100] + bytes(50) + dense(7)[150:]
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    await placed.check()
