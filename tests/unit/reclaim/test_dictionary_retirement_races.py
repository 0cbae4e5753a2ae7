"""A dictionary goes, and its place is another's, while somebody still has to do with its pages."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.codecs.dictionary import Dictionary
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_entry import SegmentState
from fuseswap.store.slot_word import offset_of
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.page_actions import Action, each_action, each_blind_action
from tests.support.page_families import compress_with, dictionary_for, dictionary_of
from tests.support.recompressed_devices import HeldJobs, pass_time
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow

OLD = range(60)
LATER = range(1000, 1100)
LARGE = pages.incompressible(1) * 8 + dictionary_for(0)  # its memory is worth a read


async def prepare(worker: Tiered) -> Dictionary:
    """An old dictionary, whose pages are no larger with the one in use."""
    old = await compress_with(worker, LARGE, 0, OLD)
    await compress_with(worker, dictionary_for(0) + b"more", 0, LATER)
    return old


async def prepare_on_tier(worker: Tiered) -> Dictionary:
    """The same, with the pages of the old one on the tier."""
    old = await compress_with(worker, LARGE, 0, OLD)
    await write_back(worker)
    assert worker.on_tier() == list(OLD)
    await compress_with(worker, dictionary_for(0) + b"more", 0, LATER)
    return old


async def write_back(worker: Tiered) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.writeback.run)
        worker.writeback.ask(ReclaimRequest.parse("all"))
        await pass_time(2)
        nursery.cancel_scope.cancel()


def hold(worker: Tiered, nursery: trio.Nursery) -> HeldJobs:
    """The task runs, with its first look behind it, and its jobs wait."""
    jobs = HeldJobs()
    worker.device.recompression.thread._submit = jobs.submit
    worker.device.recompression.retirement._next_look = 0.0
    nursery.start_soon(worker.device.recompression.run)
    return jobs


async def let_go(jobs: HeldJobs) -> None:
    jobs.holds = False
    if jobs.held:
        jobs.run()
    await pass_time(8)


def is_gone(worker: Tiered, old: Dictionary) -> bool:
    """Whether no page needs it, and nobody keeps it."""
    unused = not worker.log.dictionary_use.pages[old.number]
    assert unused or old in worker.cache.dictionaries.all
    return unused and old not in worker.cache.dictionaries.all


@each_action
@pytest.mark.parametrize("done", [0, 1, 2, 3])
async def test_while_the_thread_has_its_pages(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock, action: Action, done: int
) -> None:
    old = await prepare(tierless)
    jobs = hold(tierless, nursery)
    await pass_time(4)
    for _ in range(done):
        jobs.run()
        await pass_time(1)
    for page in (0, 1, 30, OLD[-1], LATER[0]):
        action(tierless, page)
    await let_go(jobs)
    assert is_gone(tierless, old)
    await tierless.check()


@each_action
async def test_between_two_steps(
    tierless: Tiered,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    action: Action,
) -> None:
    old = await prepare(tierless)
    copier = tierless.device.recompression.mover.copier
    step = copier.step
    steps = 0

    def acted() -> bool:
        nonlocal steps
        steps += 1
        for page in range(steps, OLD[-1], 7):
            action(tierless, page)
        return step()

    monkeypatch.setattr(copier, "step", acted)
    await let_go(hold(tierless, nursery))
    assert steps
    assert is_gone(tierless, old)
    await tierless.check()


async def test_while_the_cleaner_has_its_segment(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    old = await prepare(tierless)
    for head in tierless.log.heads:
        tierless.log.seal(head)
    jobs = hold(tierless, nursery)
    await pass_time(4)
    cleaner = tierless.writeback.cleaner
    cleaner.begin(tierless.segment_of(0))
    cleaner.step()
    await let_go(jobs)
    while cleaner.busy:
        cleaner.step()
    await pass_time(4)
    assert is_gone(tierless, old)
    await tierless.check()


async def test_while_its_segment_is_written_to_the_tier(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """What moves meanwhile goes to the tier dead."""
    old = await prepare(tiered)
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    tiered.writeback.ask(ReclaimRequest.parse("all"))
    await pass_time(1)
    assert tier.writes
    await let_go(hold(tiered, nursery))
    assert is_gone(tiered, old)
    tier.hold_writes = False
    for write in list(tier.writes):
        write.finish()
    await pass_time(2)
    await tiered.check()


async def test_its_pages_come_back_from_the_tier(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    old = await prepare_on_tier(tiered)
    await let_go(hold(tiered, nursery))
    assert is_gone(tiered, old)
    assert tiered.entry.extents.in_use == 0
    await tiered.check()
    await write_back(tiered)
    assert set(OLD) < set(tiered.on_tier())
    await tiered.check()


@pytest.mark.parametrize("reason", ["budget", "reads fail", "tier is full"])
async def test_they_stay_there_where_they_can_not_come(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock, reason: str
) -> None:
    old = await prepare_on_tier(tiered)
    tier.fail_reads = reason == "reads fail"
    if reason == "budget":
        tiered.device.budget.left_bytes = 100 << 20
    if reason == "tier is full":
        tiered.entry.extents.extent_count = tiered.entry.extents.in_use
    await let_go(hold(tiered, nursery))
    assert old in tiered.cache.dictionaries.all
    assert tiered.on_tier() == list(OLD)
    tier.fail_reads = False
    await tiered.check()


@each_blind_action
async def test_while_its_segment_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock, action: Action
) -> None:
    old = await prepare_on_tier(tiered)
    tier.hold_reads = True
    jobs = hold(tiered, nursery)
    jobs.holds = False
    await pass_time(4)
    for page in (0, 1, 30, OLD[-1]):
        action(tiered, page)
    await finish_reads(tier)
    await let_go(jobs)
    assert is_gone(tiered, old)
    await tiered.check()


async def test_its_segment_dies_while_it_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    old = await prepare_on_tier(tiered)
    tier.hold_reads = True
    jobs = hold(tiered, nursery)
    jobs.holds = False
    await pass_time(4)
    tiered.discard(0, len(OLD))
    await finish_reads(tier)
    await let_go(jobs)
    assert is_gone(tiered, old)
    await tiered.check()


async def finish_reads(tier: FakeTier) -> None:
    tier.hold_reads = False
    for read in list(tier.reads):
        read.finish()
    await wait_all_tasks_blocked()


async def test_a_page_that_is_read_while_its_dictionary_goes_and_its_place_is_another_s(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """What was read has the old codec number, which means another dictionary by then."""
    old = await prepare_on_tier(tiered)
    tier.hold_reads = True
    found: list[bytes] = []

    async def read(page: int) -> None:
        found.append(await tiered.read(page))

    for page in range(10):
        nursery.start_soon(read, page)
    await wait_all_tasks_blocked()
    held = list(tier.reads)
    assert held
    tier.hold_reads = False
    await let_go(hold(tiered, nursery))
    assert is_gone(tiered, old)
    another = await compress_with(tiered, dictionary_for(3), 3, range(2000, 2010))
    assert another.number == old.number
    for one in held:
        one.finish()
    await pass_time(1)
    assert sorted(found) == sorted(tiered.expected[page] for page in range(10))
    assert tiered.cache.reader.counters.checksum_errors == 0
    await tiered.check()


async def test_bytes_that_were_read_are_not_taken_for_those_of_another(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """The same page, stored again and with the new dictionary of that number."""
    old = await prepare_on_tier(tiered)
    with pytest.raises(TierLoad) as raised:
        tiered.cache.load(0)
    miss = raised.value
    assert isinstance(tiered.tier, FakeTier)
    stored = tiered.tier.stored(miss)
    await let_go(hold(tiered, nursery))
    assert is_gone(tiered, old)
    await compress_with(tiered, dictionary_for(3), 3, range(10))
    assert dictionary_of(tiered, 0) == old.number
    assert miss.finish(stored) is None
    await tiered.check()


async def test_a_window_that_was_read_ahead_outlives_the_dictionary(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    old = await prepare_on_tier(tiered)
    order = sorted(OLD, key=lambda page: offset_of(tiered.cache.slots.get(PageNumber(page))))
    for page in order[:20]:
        assert await tiered.read(page) == tiered.expected[page]
    assert tiered.writeback.statistics().tier_ra
    await let_go(hold(tiered, nursery))
    assert is_gone(tiered, old)
    await compress_with(tiered, dictionary_for(3), 3, range(2000, 2060))
    await write_back(tiered)
    extents = [
        s
        for s in tiered.log.table.segments()
        if tiered.log.table.state_of(s) is SegmentState.ON_TIER
    ]
    assert extents
    await tiered.check()


async def test_a_worker_that_ends_while_the_thread_has_its_pages(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    old = await prepare(tierless)
    async with trio.open_nursery() as nursery:
        jobs = hold(tierless, nursery)
        await pass_time(4)
        assert jobs.held
        jobs.run()
        await pass_time(1)
        nursery.cancel_scope.cancel()
    following = Tiered(tierless.memory, tierless.tier)
    following.expected = tierless.expected
    await following.check()
    async with trio.open_nursery() as nursery:
        await let_go(hold(following, nursery))
        nursery.cancel_scope.cancel()
    assert is_gone(following, old)
    await following.check()


async def test_it_ends_where_recompression_is_switched_off(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    old = await prepare(tierless)
    jobs = hold(tierless, nursery)
    await pass_time(4)
    jobs.run()
    await pass_time(1)
    tierless.device.recompression.set_algorithm("none")
    count = jobs.count
    await let_go(jobs)
    assert jobs.count == count
    assert old in tierless.cache.dictionaries.all
    await tierless.check()
