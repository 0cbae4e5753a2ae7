"""The in-place layout: what may happen to a page while a write of it is in flight."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData, Deferred, StoreRefused
from fuseswap.frontswap.place_writer import PlaceWriter
from fuseswap.frontswap.raw_file import RUN_PAGES, InPlace
from fuseswap.store.segment_entry import Stream
from fuseswap.store.slot_word import foreign_word
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.fake_tier import FakePlaceFile
from tests.support.log_invariants import check_invariants
from tests.support.page_actions import Action, each_action, each_blind_action, load
from tests.support.tiered_devices import Tiered, dense

ZERO = pages.ZERO


def place_of(worker: Tiered) -> InPlace:
    assert worker.device.place is not None
    return worker.device.place


def send(worker: Tiered, nursery: trio.Nursery, segment: int, *, second_chance: bool) -> None:
    assert isinstance(worker.device.writer, PlaceWriter)
    worker.device.writer.send(nursery, segment, second_chance=second_chance)


def evict(worker: Tiered, nursery: trio.Nursery, *, second_chance: bool = True) -> int:
    """Begin to evict the segment of the first page in memory; which."""
    segment = next(filter(None, map(worker.segment_of, sorted(worker.expected))))
    for head in worker.log.heads:
        worker.log.seal(head)
    assert worker.log.eviction_queue.remove(segment)
    send(worker, nursery, segment, second_chance=second_chance)
    return segment


def refuse_dense(worker: Tiered) -> None:
    """From now on a dense page goes to its place."""
    worker.cache.encoder.max_compression_ratio = 50


@dataclass
class Outcome:
    """Of a write: what it ended with, once it has."""

    ended: bool = False
    error: Exception | None = None


def ask(worker: Tiered, nursery: trio.Nursery, offset: int, data: bytes) -> Outcome:
    """A write as the transport makes it: at once, or later where it must wait."""
    outcome = Outcome()

    async def end(waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except StoreRefused as exc:
            outcome.error = exc
        outcome.ended = True

    try:
        worker.device.swapfile.write(offset, memoryview(data))
    except Deferred as exc:
        nursery.start_soon(end, worker.slowpath.write(offset, memoryview(data), exc))
    except StoreRefused as exc:
        outcome.error = exc
        outcome.ended = True
    else:
        outcome.ended = True
    return outcome


def ask_page(worker: Tiered, nursery: trio.Nursery, page: int, data: bytes) -> Outcome:
    return ask(worker, nursery, page * PAGE_SIZE, data)


async def fly(
    worker: Tiered, places: FakePlaceFile, nursery: trio.Nursery, page: int, data: bytes
) -> Outcome:
    """A store that the cache refuses, on its way."""
    refuse_dense(worker)
    places.hold_writes = True
    outcome = ask_page(worker, nursery, page, data)
    await wait_all_tasks_blocked()
    assert not outcome.ended
    return outcome


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
    await placed.slowpath.write(5, memoryview(b"part"))
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
    assert not placed.log.eviction_queue.remove(segment)
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
    found = placed.cache.slots.get(4)
    at = placed.log.table.bases[segment] + (found >> 20 & 0xFFFFF) + 100
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


# -- stores that the cache refuses -----------------------------------------------------


async def test_a_store_is_answered_once_it_is_written_and_read_before(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    placed.store(7)
    outcome = await fly(placed, places, nursery, 7, dense(70))
    assert placed.cache.slots.get(7) == 0
    assert await placed.read(7) == dense(70)
    assert placed.device.frontswap.statistics().succ_stores == 1
    places.let_go()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)
    placed.expected[7] = dense(70)
    assert placed.in_place() == [7]
    assert placed.device.frontswap.statistics().succ_stores == 2
    await placed.check()


@pytest.mark.parametrize("was", ["hole", "object", "in place"])
async def test_a_store_that_fails_leaves_a_hole(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, was: str
) -> None:
    if was != "hole":
        placed.store(7)
    if was == "in place":
        evict(placed, nursery)
        await wait_all_tasks_blocked()
        assert placed.in_place() == [7]
    outcome = await fly(placed, places, nursery, 7, dense(70))
    places.writes[0].fail()
    await wait_all_tasks_blocked()
    assert outcome.ended
    assert outcome.error is not None
    placed.expected.pop(7, None)
    assert await placed.read_hole(7)
    now = placed.device.frontswap.statistics()
    assert (now.succ_stores, now.failed_stores) == (was != "hole", 1)
    await placed.check()


@each_blind_action
async def test_while_a_store_is_in_flight(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, action: Action
) -> None:
    outcome = await fly(placed, places, nursery, 7, dense(70))
    placed.cache.encoder.max_compression_ratio = 100
    action(placed, 7)
    places.let_go()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)
    assert placed.in_place() == []
    await placed.check()


async def test_a_part_of_a_page_in_flight_is_changed(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    await fly(placed, places, nursery, 7, dense(70))
    assert ask(placed, nursery, 7 * PAGE_SIZE + 5, b"part").ended
    placed.expected[7] = dense(70)[:5] + b"part" + dense(70)[9:]
    places.let_go()
    await wait_all_tasks_blocked()
    await placed.check()


async def test_writes_of_one_page_follow_each_other(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    """Four, each of which would take the place of the one before it."""
    placed.store(7)
    places.hold_writes = True
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    refuse_dense(placed)
    outcomes = [ask_page(placed, nursery, 7, dense(70 + seed)) for seed in range(4)]
    for number in range(5):
        await wait_all_tasks_blocked()
        assert [outcome.ended for outcome in outcomes] == [n < number - 1 for n in range(4)]
        assert len(places.writes) == 1
        assert placed.in_place() == []
        assert await placed.read(7) == dense(73)
        places.writes[0].finish()
    await wait_all_tasks_blocked()
    placed.expected[7] = dense(73)
    assert all(outcome == Outcome(ended=True) for outcome in outcomes)
    assert placed.in_place() == [7]
    await placed.check()


async def test_a_store_in_flight_is_not_brought_back_by_one_that_is_refused(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    first = await fly(placed, places, nursery, 7, dense(70))
    placed.device.budget.left_bytes = 0
    assert ask_page(placed, nursery, 7, dense(71)).error is not None
    places.let_go()
    await wait_all_tasks_blocked()
    assert first == Outcome(ended=True)
    assert await placed.read_hole(7)
    await placed.check()


async def test_while_an_eviction_waits_for_others_to_land(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    """It has looked at more pages than it has written; each of all is stored once more."""
    for page in range(0, 80, 2):
        placed.store(page)
    places.hold_writes = True
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    assert 1 < len(places.writes) < len(placed.expected)
    refuse_dense(placed)
    places.hold_writes = False
    for page in list(placed.expected):
        ask_page(placed, nursery, page, dense(page + 1000))
        placed.expected[page] = dense(page + 1000)
    await wait_all_tasks_blocked()
    places.let_go()
    await wait_all_tasks_blocked()
    assert placed.in_place() == sorted(placed.expected)
    await placed.check()


async def test_the_last_of_them_fails(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    first = await fly(placed, places, nursery, 7, dense(70))
    second = ask_page(placed, nursery, 7, dense(71))
    places.writes[0].finish()
    places.writes[0].fail()
    await wait_all_tasks_blocked()
    assert first.error is None
    assert second.error is not None
    assert await placed.read_hole(7)
    await placed.check()


async def test_a_request_of_many_pages_is_answered_when_the_last_is_there(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    data = {20: pages.compressible(1), 21: dense(1), 22: pages.filled(3), 23: dense(2), 24: ZERO}
    refuse_dense(placed)
    places.hold_writes = True
    outcome = ask(placed, nursery, 20 * PAGE_SIZE, b"".join(data.values()))
    await wait_all_tasks_blocked()
    assert [write.pages for write in places.writes] == [range(21, 22), range(23, 24)]
    places.writes[1].finish()
    await wait_all_tasks_blocked()
    assert not outcome.ended
    places.writes[0].finish()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)
    assert placed.slowpath.waiting_bytes == 0
    placed.expected.update(data)
    assert placed.in_place() == [21, 23]
    await placed.check()


# -- reads -----------------------------------------------------------------------------


@each_blind_action
async def test_while_it_is_read(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, action: Action
) -> None:
    for page in range(20):
        placed.store(page)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    places.hold_reads = True
    found = []

    async def read() -> None:
        found.append(await placed.slowpath.read(0, 20 * PAGE_SIZE))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    for page in range(0, 20, 3):
        action(placed, page)
    places.hold_reads = False
    for transfer in list(places.reads):
        transfer.finish()
    await wait_all_tasks_blocked()
    assert found == [b"".join(placed.expected.get(page, ZERO) for page in range(20))]


async def test_a_page_that_is_damaged_or_unreadable_is_an_error(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    for page in (0, 50):
        placed.store(page)
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    places.bytes[5] ^= 1
    with pytest.raises(CorruptData, match="checksum"):
        await placed.read(0)
    places.hold_reads = True

    async def read() -> None:
        with pytest.raises(CorruptData, match="cannot be read"):
            await placed.read(50)

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    places.reads[0].fail()
    places.hold_reads = False
    await wait_all_tasks_blocked()
    assert await placed.read(50) == placed.expected[50]


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
    assert placed.slowpath.waiting_bytes == 0
    placed.expected = {7: dense(7), 8: dense(8)}
    await placed.check()


async def test_a_discard_with_edges_ends(placed: Tiered, nursery: trio.Nursery) -> None:
    await write_through(placed, nursery, 7, dense(7))
    placed.device.swapfile.punch(7 * PAGE_SIZE + 100, 50)
    placed.expected[7] = dense(7)[:100] + bytes(50) + dense(7)[150:]
    evict(placed, nursery)
    await wait_all_tasks_blocked()
    await placed.check()


# -- budget, failures, a full pool -----------------------------------------------------


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
    assert placed.log.eviction_queue.remove(segment)
    send(placed, nursery, segment, second_chance=True)
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


# -- the next worker -------------------------------------------------------------------


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
    slots.allocate(3)
    slots.commit(3, foreign_word(0, 0x12345678))
    with pytest.raises(TierLoad) as caught:
        placed.device.frontswap.load(3)
    assert (caught.value.offset, caught.value.length) == (3 * PAGE_SIZE, PAGE_SIZE)
    assert placed.log.heads[Stream.STORE].segment == 0
