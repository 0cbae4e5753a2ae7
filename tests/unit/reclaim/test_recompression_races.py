"""Recompression: what may happen to a page, or to its segment, while a thread has a copy."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest
import trio
from trio.testing import MockClock

from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_entry import Mark, SegmentState
from fuseswap.units import PAGE_SIZE, page_range
from tests.support.fake_tier import FakeTier
from tests.support.page_actions import Action, each_action, each_blind_action
from tests.support.recompressed_devices import HeldJobs, finish, pass_time
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow

PAGES = 300


@lru_cache(2 * (PAGES + 1000))
def page_of(seed: int) -> bytes:
    """No two strings in it are the same: lz4 makes 1100 bytes of each, zstd 12 % less."""
    return bytes(random.Random(seed).choices(range(1, 129), k=1024)) + bytes(PAGE_SIZE - 1024)


def twin_of(page: int) -> bytes:
    """Another version that compresses to as many bytes: its slot word may be the same."""
    return page_of(page + 1000)


def begin(worker: Tiered, nursery: trio.Nursery, count: int = PAGES) -> HeldJobs:
    """Ask for all of some pages; the jobs wait."""
    for page in range(count):
        worker.store(page, page_of(page))
    jobs = HeldJobs()
    worker.device.recompression.thread._submit = jobs.submit
    nursery.start_soon(worker.device.recompression.run)
    worker.device.recompression.ask(ReclaimRequest.parse("all"))
    return jobs


async def let_go(worker: Tiered, jobs: HeldJobs) -> None:
    jobs.let_go()
    await finish(worker.device.recompression)
    await pass_time(1)


@each_action
@pytest.mark.parametrize("done", [0, 1, 5])
async def test_while_the_thread_has_it(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock, action: Action, done: int
) -> None:
    jobs = begin(tierless, nursery)
    await pass_time(1)
    for _ in range(done):
        jobs.run()
        await pass_time(1)
    for page in (0, 1, 37, 74, PAGES - 1):  # of the sample, and others
        action(tierless, page)
    await let_go(tierless, jobs)
    assert tierless.device.recompression.request.left == []
    assert tierless.device.cleaned().recompressed_pages >= PAGES - 5
    await tierless.check()


@each_action
async def test_between_two_steps_of_the_rewrite(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock, action: Action
) -> None:
    jobs = begin(tierless, nursery)
    await pass_time(1)
    copier = tierless.device.recompression.copier
    acted = trio.Event()

    async def act() -> None:
        while not copier.statistics().objects_copied:
            await trio.lowlevel.checkpoint()
        assert copier.busy
        for page in range(0, PAGES, 3):
            action(tierless, page)
        acted.set()

    nursery.start_soon(act)
    jobs.let_go()
    await acted.wait()
    await finish(tierless.device.recompression)
    await tierless.check()


async def test_a_segment_that_dies(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    jobs = begin(tierless, nursery)
    await pass_time(1)
    tierless.discard(0, PAGES)
    await let_go(tierless, jobs)
    assert tierless.device.recompression.request.left == []
    assert tierless.device.cleaned().recompressed_pages == 0
    assert jobs.count == 1
    await tierless.check()


async def test_a_segment_that_dies_and_whose_id_is_used_again(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """The words may be the same; the pages are not."""
    jobs = begin(tierless, nursery)
    await pass_time(1)
    get = tierless.cache.slots.get
    before = {page: get(page) for page in page_range(0, PAGES)}
    (segment,) = tierless.log.table.segments()
    tierless.discard(0, PAGES)
    for page in range(PAGES):
        tierless.store(page, twin_of(page))
    for head in tierless.log.heads:
        tierless.log.seal(head)
    assert tierless.log.table.segments() == [segment]
    assert {page: get(page) for page in page_range(0, PAGES)} == before
    await let_go(tierless, jobs)
    await tierless.check()


@pytest.mark.parametrize("done", [0, 3])
async def test_a_segment_that_leaves_for_the_tier(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock, done: int
) -> None:
    tiered.device.evictor.recompresses = False
    jobs = begin(tiered, nursery)
    nursery.start_soon(tiered.writeback.run)
    await pass_time(1)
    for _ in range(done):
        jobs.run()
        await pass_time(1)
    tiered.writeback.ask(ReclaimRequest.parse("all"))
    await pass_time(1)
    assert tiered.on_tier() == list(range(PAGES))
    await let_go(tiered, jobs)
    assert tiered.on_tier() == list(range(PAGES))
    assert tiered.device.cleaned().recompressed_pages == 0
    for segment in tiered.log.table.segments():
        assert tiered.log.table.state_of(segment) is SegmentState.ON_TIER
        assert not tiered.log.table.is_marked(segment, Mark.TRIED)
    await tiered.check()


@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_segment_that_is_being_written_to_the_tier(
    tiered: Tiered, nursery: trio.Nursery, tier: FakeTier, mock_clock: MockClock, succeeds: bool
) -> None:
    """It may be rewritten meanwhile: what is written is of nobody then."""
    tiered.device.evictor.recompresses = False
    count = 920  # dense enough to leave as it is
    jobs = begin(tiered, nursery, count)
    nursery.start_soon(tiered.writeback.run)
    await pass_time(1)
    tier.hold_writes = True
    (segment,) = tiered.log.table.segments()
    tiered.writeback.ask(ReclaimRequest.parse("all"))
    await pass_time(1)
    assert len(tier.writes) == 1
    await let_go(tiered, jobs)
    assert not tiered.log.table.live[segment]
    assert tiered.device.cleaned().recompressed_pages == count
    tier.hold_writes = False
    (tier.writes[0].finish if succeeds else tier.writes[0].fail)()
    await pass_time(8)
    await tiered.check()


@each_blind_action
async def test_while_the_cleaner_has_emptied_half_of_it(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock, action: Action
) -> None:
    jobs = begin(tierless, nursery)
    await pass_time(1)
    (segment,) = tierless.log.table.segments()
    tierless.writeback.cleaner.begin(segment)
    assert tierless.writeback.cleaner.step()
    for page in range(0, PAGES, 3):
        action(tierless, page)
    await let_go(tierless, jobs)
    while tierless.writeback.cleaner.step():
        pass
    await tierless.check()


async def test_a_worker_that_ends_while_the_thread_has_it(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """The job ends later, and nobody is there to take what it made."""
    async with trio.open_nursery() as nursery:
        jobs = begin(tierless, nursery)
        await pass_time(1)
        nursery.cancel_scope.cancel()
    following = Tiered(tierless.memory, None)
    following.expected = tierless.expected
    jobs.run()
    following.store(0, bytes(PAGE_SIZE))
    await following.check()
