"""What may happen to pages, or to their segments, between two steps of a sweep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.dedup.merger import STEP_OBJECTS
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.geometry import Geometry
from fuseswap.units import MIB, SegmentId
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.fake_tier import FakePlaceFile, FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory
from tests.support.merged_pages import COPIES, COUNT, begin, object_of, pairs, sweep
from tests.support.page_actions import Action, each_action, each_blind_action
from tests.support.tiered_devices import Tiered, dense

pytestmark = pytest.mark.slow


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


@each_action
@pytest.mark.parametrize("steps", [0, 1, 5, 9])
def test_pages_change_between_two_steps(tierless: Tiered, action: Action, steps: int) -> None:
    cache, merger = tierless.cache, tierless.device.sweep.merger
    cache.dedup.set_switch("off")
    for page in range(COUNT):
        for first in (0, COPIES):
            tierless.store(first + page, dense(page))
    cache.dedup.set_switch("on")
    for _ in range(steps):
        merger.step()
    for page in (0, 3, STEP_OBJECTS, 50, COPIES + 1, COPIES + 3, COPIES + 70):
        action(tierless, page)
    sweep(merger)
    check_invariants(cache)
    assert all(cache.load(page) == data for page, data in tierless.expected.items())
    assert cache.statistics().duplicate_pages >= COUNT - 7


def test_a_page_and_its_whole_cluster_go(cleaned: Cleaned) -> None:
    merger = pairs(cleaned)
    for _ in range(3):
        merger.step()
    for page in range(COUNT):
        cleaned.discard(page)
    sweep(merger)
    assert merger.merged_pages == 0
    cleaned.check()


@pytest.mark.parametrize("victim", [0, COPIES])
@pytest.mark.parametrize("steps", [1, 4, 7, 10])
def test_a_segment_that_is_being_cleaned_loses_pages_and_gets_none(
    cleaned: Cleaned, victim: SegmentId, steps: int
) -> None:
    merger = pairs(cleaned)
    segment = object_of(cleaned.cache, victim).segment
    for _ in range(steps):
        merger.step()
    cleaned.cleaner.begin(segment)
    cleaned.cleaner.step()
    held = set(cleaned.pages_of(segment))
    while merger.busy:
        merger.step()
        assert set(cleaned.pages_of(segment)) <= held
        cleaned.check()
    while cleaned.cleaner.busy:
        cleaned.cleaner.step()
    assert cleaned.cleaner.statistics().given_up == 0
    assert cleaned.log.duplicate_pages == COUNT
    cleaned.check()


def test_cleaning_and_merging_take_turns(cleaned: Cleaned) -> None:
    merger = pairs(cleaned)
    for page in range(0, COUNT, 3):
        cleaned.discard(page)
    while merger.busy:
        merger.step()
        cleaned.cleaner.step()
        cleaned.check()


async def test_what_is_on_the_tier_is_passed_over(tiered: Tiered) -> None:
    tiered.cache.dedup.set_switch("off")
    moved = await tiered.move_out()
    merger = begin(tiered.cache)
    tiered.cache.pool_limit_bytes += MIB
    for page in moved[:20]:
        tiered.store(3000 + page, tiered.expected[page])
    sweep(merger)
    assert merger.merged_pages == 0
    assert tiered.on_tier() == moved
    await tiered.check()


@each_blind_action
@pytest.mark.parametrize("succeeds", [True, False])
async def test_while_a_segment_is_being_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action, succeeds: bool
) -> None:
    """Some of its pages leave it, and pages of another come to it, before it moves."""
    tiered.cache.dedup.set_switch("off")
    for first in (0, COPIES):
        for page in range(250):
            tiered.store(first + page, dense(page))
        for head in tiered.log.heads:
            tiered.log.seal(head)
    tiered.cache.dedup.set_switch("on")
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    tiered.writeback.ask(ReclaimRequest.parse("all"))
    await wait_all_tasks_blocked()
    assert tier.writes
    merger = tiered.device.sweep.merger
    while merger.busy and merger.merged_pages < 20:
        merger.step()
    assert merger.busy
    for page in (0, 30, COPIES + 2, COPIES + 200):
        action(tiered, page)
    for write in list(tier.writes):
        (write.finish if succeeds else write.fail)()
    await wait_all_tasks_blocked()
    sweep(merger)
    await tiered.check()


@each_blind_action
async def test_while_a_segment_is_evicted_in_place(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery, action: Action
) -> None:
    placed.cache.dedup.set_switch("off")
    for first in (0, COPIES):
        for page in range(COUNT):
            placed.store(first + page, dense(page))
        for head in placed.log.heads:
            placed.log.seal(head)
    placed.cache.dedup.set_switch("on")
    places.hold_writes = True
    placed.device.in_flight.batch_size = 1
    nursery.start_soon(placed.writeback.run)
    placed.writeback.ask(ReclaimRequest.parse("all"))
    await wait_all_tasks_blocked()
    assert places.writes
    merger = placed.device.sweep.merger
    while merger.busy and merger.merged_pages < 20:
        merger.step()
    assert merger.busy
    for page in (0, 30, COPIES + 2, COPIES + 90):
        action(placed, page)
    places.hold_writes = False
    while places.writes:
        for write in list(places.writes):
            write.finish()
        await wait_all_tasks_blocked()
    sweep(merger)
    await placed.check()
