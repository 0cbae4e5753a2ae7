"""The worker ends in the middle of something; the next one has all that was answered.

Here in order (unmounted, every task cancelled); killed, see test_crash_points.py.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.store.segment_entry import SegmentState
from fuseswap.units import MIB
from tests.support.fake_tier import FakeTier
from tests.support.page_actions import Action, each_action
from tests.support.tiered_devices import Tiered, dense, extent_of

pytestmark = pytest.mark.slow


def next_worker(tiered: Tiered, tier: FakeTier) -> Tiered:
    """It finds everything the last one answered."""
    tier.hold_reads = tier.hold_writes = False
    again = Tiered(tiered.memory, tier)
    again.expected = tiered.expected
    trio.run(again.check)
    return again


@each_action
@pytest.mark.parametrize("fails", [False, True])
def test_a_write_in_flight_ends_first(
    tiered: Tiered, tier: FakeTier, action: Action, fails: bool
) -> None:
    """As a direct write in a thread does; then its segment moves, or stays."""
    tier.hold_writes, tier.cancellable = True, False

    async def worker() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tiered.writeback.run)
            nursery.start_soon(tiered.write, tiered.fill())
            await wait_all_tasks_blocked()
            tiered.cache.pool_limit_bytes += MIB  # so that the actions need not wait
            for page in range(0, 100, 7):
                action(tiered, page)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                (tier.writes[0].fail if fails else tier.writes[0].finish)()

    trio.run(worker)
    untouched = tiered.segment_of(1)
    again = next_worker(tiered, tier)
    expected = SegmentState.SEALED if fails else SegmentState.ON_TIER
    assert again.log.table.state_of(untouched) is expected
    assert again.entry.extents.in_use == (not fails)


def test_a_segment_that_dies_in_the_write_that_ends_last(tiered: Tiered, tier: FakeTier) -> None:
    tier.hold_writes, tier.cancellable = True, False

    async def worker() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tiered.writeback.run)
            nursery.start_soon(tiered.write, tiered.fill())
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            for page in tiered.pages_of(tiered.segment_of(0)):
                tiered.discard(page)
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                tier.writes[0].finish()

    trio.run(worker)
    assert next_worker(tiered, tier).entry.extents.in_use == 0


def test_stores_that_wait_are_not_answered(tiered: Tiered, tier: FakeTier) -> None:
    """The page is what it was; sent again, it is stored."""
    tier.hold_writes = True
    answered = []

    async def overwrite(page: int) -> None:
        await tiered.pending_io.write(page * 4096, memoryview(dense(9000 + page)))
        answered.append(page)

    async def worker() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tiered.writeback.run)
            tiered.fill()
            for page in range(3):
                nursery.start_soon(overwrite, page)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(worker)
    assert answered == []
    again = next_worker(tiered, tier)

    async def resend() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.writeback.run)
            for page in range(3):
                await again.write(page, dense(9000 + page))
            nursery.cancel_scope.cancel()
        await again.check()

    trio.run(resend)


def test_a_read_in_flight(tiered: Tiered, tier: FakeTier) -> None:
    async def worker() -> None:
        on_tier = await tiered.move_out()
        tier.hold_reads = True
        async with trio.open_nursery() as nursery:
            for page in on_tier[:3]:
                nursery.start_soon(tiered.read, page)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(worker)
    next_worker(tiered, tier)


@pytest.mark.parametrize("on_tier", [False, True])
def test_a_segment_that_is_half_cleaned(tiered: Tiered, tier: FakeTier, on_tier: bool) -> None:
    trio.run(tiered.move_out)
    cleaner = tiered.writeback.cleaner
    tiered.cache.pool_limit_bytes += MIB
    if on_tier:
        segment = tiered.segment_of(0)
        extent = extent_of(tiered.log, segment)
        cleaner.begin_on_tier(segment, bytes(tier.extents[extent]))
    else:
        for page in range(2000, 2300):
            tiered.store(page)
        segment = tiered.segment_of(2000)
        cleaner.begin_eviction(segment)
    assert cleaner.step()
    assert cleaner.busy
    again = next_worker(tiered, tier)
    assert again.log.table.live[segment] == tiered.log.table.live[segment]
