"""Writeback: whatever happens to a segment while it is on its way out."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.reclaim.segment_writer import SegmentWriter
from fuseswap.store.segment_entry import SegmentState
from fuseswap.units import MIB
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.page_actions import Action, each_action, load, overwrite_a_part
from tests.support.tiered_devices import EXTENTS, Tiered

pytestmark = pytest.mark.slow


async def write_one(tiered: Tiered, tier: FakeTier, nursery: trio.Nursery) -> int:
    """Have the oldest segment, that of page 0, written and held; return the next page."""
    tier.hold_writes = True
    tiered.device.in_flight.batch_size = 1
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill()
    tiered.cache.pool_limit_bytes += MIB  # so that the actions need not wait
    nursery.start_soon(tiered.write, page)
    tiered.device.room.begin_wait(lambda retry: None)
    await wait_all_tasks_blocked()
    tiered.device.room.want()
    await wait_all_tasks_blocked()
    assert len(tier.writes) == 1
    return page + 1


@each_action
@pytest.mark.parametrize("fails", [False, True])
async def test_while_it_is_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action, fails: bool
) -> None:
    await write_one(tiered, tier, nursery)
    segment = tiered.segment_of(0)
    for page in range(0, 100, 7):
        action(tiered, page)
    check_invariants(tiered.cache)
    tier.hold_writes = False
    (tier.writes[0].fail if fails else tier.writes[0].finish)()
    await wait_all_tasks_blocked()
    expected = SegmentState.SEALED if fails else SegmentState.ON_TIER
    assert tiered.log.table.state_of(segment) is expected
    await tiered.check()


@each_action
async def test_after_it_was_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action
) -> None:
    await write_one(tiered, tier, nursery)
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    if action not in (load, overwrite_a_part):  # these wait: see test_pending_io.py
        for page in range(0, 100, 7):
            action(tiered, page)
    await tiered.check()


@each_action
async def test_while_it_is_cleaned_on_its_way_out(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action
) -> None:
    page = 600
    for number in range(page):
        tiered.store(number)
    tiered.cache.pool_limit_bytes += 2 * MIB
    for number in range(0, 200, 4):
        tiered.cache.load(number)
    segment = tiered.segment_of(0)
    tiered.writeback.cleaner.begin_eviction(segment)
    number = 0
    while tiered.writeback.cleaner.busy:
        assert tiered.writeback.cleaner.step()
        for _ in range(5):
            action(tiered, number)
            number += 3
        check_invariants(tiered.cache)
    assert (
        tiered.log.table.live[segment] == 0
        or tiered.log.table.state_of(segment) is SegmentState.OPEN
    )
    nursery.start_soon(tiered.writeback.run)
    for more in range(page, page + 600):
        await tiered.write(more)
    await tiered.check()


async def test_a_segment_that_dies_keeps_its_extent_until_the_write_ends(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await write_one(tiered, tier, nursery)
    for page in tiered.pages_of(tiered.segment_of(0)):
        tiered.discard(page)
    assert tiered.entry.extents.in_use == 1
    check_invariants(tiered.cache)
    tier.hold_writes = False
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert tiered.entry.extents.in_use == len(tiered.on_tier()) == 0
    assert tiered.writeback.statistics().written_back_pages == 0
    await tiered.check()


async def test_a_segment_that_dies_in_a_write_that_fails(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await write_one(tiered, tier, nursery)
    for page in tiered.pages_of(tiered.segment_of(0)):
        tiered.discard(page)
    tier.hold_writes = False
    tier.writes[0].fail()
    await wait_all_tasks_blocked()
    assert tiered.entry.extents.available == EXTENTS
    assert tiered.writeback.statistics().writeback_failed == 1
    await tiered.check()


async def test_another_segment_of_the_same_id_does_not_move(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    next_page = await write_one(tiered, tier, nursery)
    segment = tiered.segment_of(0)
    for page in tiered.pages_of(segment):
        tiered.discard(page)
    page = next_page
    while segment not in tiered.log.table.segments():
        tiered.store(page)
        page += 1
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert tiered.log.table.state_of(segment) is SegmentState.OPEN
    await tiered.check()


async def test_another_segment_of_the_same_id_is_not_in_line_twice_after_a_failure(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    page = await write_one(tiered, tier, nursery)
    segment = tiered.segment_of(0)
    for number in tiered.pages_of(segment):
        tiered.discard(number)
    while segment not in tiered.log.table.segments():
        tiered.store(page)
        page += 1
    for head in tiered.log.heads:
        tiered.log.seal(head)
    tier.writes[0].fail()
    await wait_all_tasks_blocked()
    assert tiered.log.eviction_queue.remove(segment)
    assert not tiered.log.eviction_queue.remove(segment)


async def test_the_batch_size_is_a_bound_though_ids_are_used_again(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    page = await write_one(tiered, tier, nursery)
    tiered.device.in_flight.batch_size = 2
    first = tiered.segment_of(0)
    for number in tiered.pages_of(first):
        tiered.discard(number)
    while first not in tiered.log.table.segments():
        tiered.store(page)
        page += 1
    for head in tiered.log.heads:
        tiered.log.seal(head)
    assert isinstance(tiered.device.writer, SegmentWriter)
    tiered.device.writer.send(nursery, first)
    await wait_all_tasks_blocked()
    assert tiered.writeback.statistics().outstanding_writebacks == len(tier.writes) == 2


async def test_a_segment_whose_id_was_used_before_is_written_once(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    """Its former self left an entry in the line of those that leave."""
    for page in range(3 * 266 + 1):  # three are sealed
        tiered.store(page)
    tiered.discard(0, 3 * 266)
    page = tiered.fill(1000)
    tier.hold_writes = True
    tiered.writeback.accept_threshold_percent = 1
    nursery.start_soon(tiered.writeback.run)
    nursery.start_soon(tiered.write, page)
    await wait_all_tasks_blocked()
    tier.hold_writes = False
    for write in list(tier.writes):
        write.finish()
    await wait_all_tasks_blocked()
    assert tier.most_writes == 4
    await tiered.check()


async def test_the_cleaner_may_take_a_segment_that_is_being_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await write_one(tiered, tier, nursery)
    segment = tiered.segment_of(0)
    cleaner = tiered.writeback.cleaner
    cleaner.begin(segment)
    busy = [cleaner.step() and cleaner.busy]
    tier.hold_writes = False
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert tiered.log.table.state_of(segment) is SegmentState.ON_TIER
    busy.append(cleaner.step() and cleaner.busy)
    assert busy == [True, False]
    await tiered.check()


# -- shutdown --------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1])
async def test_a_worker_that_ends_in_a_write_leaves_a_state_the_next_one_serves(
    tiered: Tiered, tier: FakeTier, before: int
) -> None:
    tier.hold_writes = True
    tiered.device.in_flight.batch_size = 2
    tiered.writeback.accept_threshold_percent = 50
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tiered.writeback.run)
        nursery.start_soon(tiered.write, page := tiered.fill())
        await wait_all_tasks_blocked()
        for write in tier.writes[:before]:
            write.finish()
        await wait_all_tasks_blocked()
        assert tier.writes
        nursery.cancel_scope.cancel()
    assert tier.writes == []
    tier.hold_writes = False
    again = Tiered(tiered.memory, tier)
    again.expected = tiered.expected
    await again.check()
    assert len(set(map(again.segment_of, again.on_tier()))) == before
    assert again.entry.extents.in_use == before
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.writeback.run)
        for more in range(page, page + 300):
            await again.write(more)
        nursery.cancel_scope.cancel()
    await again.check()


async def test_a_worker_without_the_tier_serves_what_is_in_memory(
    tiered: Tiered, tier: FakeTier
) -> None:
    on_tier = await tiered.move_out()
    again = Tiered(tiered.memory, None)
    for page in tiered.expected.keys() - set(on_tier):
        assert again.cache.load(page) == tiered.expected[page]
    check_invariants(again.cache)


async def test_a_tier_that_is_filled_by_two_workers_is_adopted_by_the_third(
    tiered: Tiered, tier: FakeTier
) -> None:
    await tiered.move_out()
    second = Tiered(tiered.memory, tier)
    second.expected = tiered.expected
    await second.move_out(first=2000)
    third = Tiered(tiered.memory, tier)
    third.expected = second.expected
    await third.check()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(third.writeback.run)
        for page in range(3000, 3100):
            await third.write(page)
        nursery.cancel_scope.cancel()
    await third.check()
