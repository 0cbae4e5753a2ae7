"""The in-place layout: stores that the cache refuses, and reads of their pages."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.errors import CorruptData, Deferred, kept
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.fake_tier import FakePlaceFile
from tests.support.page_actions import Action, each_blind_action
from tests.support.raw_file_writes import Outcome, ask, ask_page, evict, fly, refuse_dense
from tests.support.tiered_devices import Tiered, dense

pytestmark = pytest.mark.slow

ZERO = pages.ZERO


# -- stores that the cache refuses -------------------------------------------------------


async def test_a_store_is_answered_once_it_is_written_and_read_before(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    placed.store(7)
    outcome = await fly(placed, places, nursery, 7, dense(70))
    assert placed.cache.slots.get(PageNumber(7)) == 0
    assert await placed.read(7) == dense(70)
    assert placed.device.frontswap.statistics().succ_stores == 1
    places.let_go()
    await wait_all_tasks_blocked()
    assert outcome == Outcome(ended=True)
    placed.expected[7] = dense(70)
    assert placed.in_place() == [7]
    assert placed.device.frontswap.statistics().succ_stores == 2
    await placed.check()


async def test_a_store_that_was_taken_goes_on_whoever_stands_in_line(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    """Its cluster is held until it has ended, so it must be begun."""
    nursery.start_soon(placed.write, placed.fill())
    await wait_all_tasks_blocked()
    assert placed.device.pending_io.has_queue
    refuse_dense(placed)
    answers: list[Exception | None] = []
    data = memoryview(dense(9999))
    with pytest.raises(Deferred) as caught:
        placed.device.swapfile.write(7 * PAGE_SIZE, data)
    placed.device.pending_io.begin_write(7 * PAGE_SIZE, data, answers.append, kept(caught.value))
    await wait_all_tasks_blocked()
    assert answers == [None]
    assert not placed.device.frontswap.is_late(PageNumber(7))
    assert not placed.cache.slots._held


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
    assert placed.pending_io.waiting_bytes == 0
    placed.expected.update(data)
    assert placed.in_place() == [21, 23]
    await placed.check()


# -- reads -------------------------------------------------------------------------------


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
        found.append(await placed.pending_io.read(0, 20 * PAGE_SIZE))

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
