"""Sparse segments on a tier that is nearly full: read whole, and what lives is written again."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import StoreRefused
from fuseswap.store.segment_entry import SegmentState
from fuseswap.units import SegmentId
from tests.support.fake_tier import FakeTier
from tests.support.tiered_devices import EXTENTS, Tiered, dense

pytestmark = pytest.mark.slow

UNREADABLE_S = 40
ONE_BIT_WRONG = bytes(value ^ 1 for value in range(256))


async def make_sparse(tiered: Tiered, nursery: trio.Nursery) -> list[SegmentId]:
    """A full tier, half of whose pages are then discarded; returns its segments.

    Nothing is merged yet: the worker has not looked.
    """
    scope = trio.CancelScope()

    async def work() -> None:
        with scope:
            await tiered.writeback.run()

    nursery.start_soon(work)
    for page in range(tiered.cache.page_count):
        try:
            await tiered.write(page)
        except StoreRefused:
            break
    scope.cancel()
    await wait_all_tasks_blocked()
    assert tiered.entry.extents.available == 0
    in_memory = sorted(tiered.expected.keys() - set(tiered.on_tier()))
    for page in [*tiered.on_tier()[::2], *in_memory[: len(in_memory) // 2]]:
        tiered.discard(page)
    return sorted({tiered.segment_of(page) for page in tiered.on_tier()})


def still_on_tier(tiered: Tiered, segments: list[SegmentId]) -> int:
    return sum(tiered.log.table.state_of(segment) is SegmentState.ON_TIER for segment in segments)


async def test_merging_frees_extents_and_keeps_every_page(
    tiered: Tiered, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await make_sparse(tiered, nursery)
    nursery.start_soon(tiered.writeback.run)
    await trio.sleep(5)
    assert tiered.entry.extents.available >= 2
    await tiered.check()


async def test_a_bit_that_is_wrong_once_is_not_carried_on(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await make_sparse(tiered, nursery)
    reads = 0

    def wrong_every_other_time(found: bytes) -> bytes:
        nonlocal reads
        reads += 1
        return found if reads % 2 == 0 else found.translate(ONE_BIT_WRONG)

    tier.mangle = wrong_every_other_time
    nursery.start_soon(tiered.writeback.run)
    await trio.sleep(5)
    assert tiered.entry.extents.available >= 2
    assert tiered.writeback.statistics().tier_read_retries == reads // 2 > 0
    tier.mangle = None
    await tiered.check()


async def test_segments_that_cannot_be_read_are_tried_again_later(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    segments = await make_sparse(tiered, nursery)
    tier.fail_reads = True
    nursery.start_soon(tiered.writeback.run)
    await trio.sleep(10)
    assert still_on_tier(tiered, segments) == EXTENTS
    errors = tiered.writeback.statistics().tier_read_errors
    assert errors == EXTENTS, "each is tried, and then left alone for a while"
    tier.fail_reads = False
    await trio.sleep(UNREADABLE_S)
    assert tiered.entry.extents.available >= 2
    assert tiered.writeback.statistics().tier_read_errors == errors
    await tiered.check()


@pytest.mark.slow
async def test_a_full_tier_that_is_partly_dead_makes_room(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    chance = random.Random(4)
    pages = 2000  # of some 2600 that pool and tier have room for
    for number in range(3 * pages):
        await tiered.write(number if number < pages else chance.randrange(pages), dense(number))
    assert tiered.entry.extents.in_use >= EXTENTS - 1
    await tiered.check()


async def test_a_store_does_not_wait_for_a_tier_that_does_not_answer(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Merging reads there, in the task that makes room for stores."""
    await make_sparse(tiered, nursery)
    tier.hold_reads = True
    nursery.start_soon(tiered.writeback.run)
    await trio.sleep(0.01)
    began = trio.current_time()
    stored, refused = 0, 0
    for page in range(tiered.cache.page_count):
        if page not in tiered.expected:
            try:
                await tiered.write(page)
                stored += 1
            except StoreRefused:
                refused += 1
        if refused:
            break
    assert stored > 0
    assert tier.reads, "merging has tried"
    assert trio.current_time() - began < 10
    tier.hold_reads = False
    for read in list(tier.reads):
        read.finish()
    await trio.sleep(UNREADABLE_S)
    assert tiered.entry.extents.available >= 2, "it was tried again"
    await tiered.check()
