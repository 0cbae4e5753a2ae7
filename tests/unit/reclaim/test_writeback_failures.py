"""Writeback on a tier that fails: nothing is lost, it is tried again, stores do not hang."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.store.segment_entry import SegmentState, Stream
from fuseswap.store.slot_word import spoiled
from fuseswap.units import MIB, PageNumber, SegmentId
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import set_patience
from tests.support.page_actions import Action, each_action
from tests.support.recompressed_devices import make_old, pass_time
from tests.support.tiered_devices import EXTENTS, Tiered

pytestmark = pytest.mark.slow

MOST_CALLS = 500


class Spins(Exception):
    """A store was told to wait, and woken, far too often."""


def count_calls(tiered: Tiered) -> None:
    """Raise `Spins` in a store that asks for room again and again."""
    ask = set_patience(tiered.device.frontswap, None)
    assert ask is not None
    calls = 0

    def counted(page: int, refusal: StoreRefused) -> Deferred | None:
        nonlocal calls
        calls += 1
        if calls > MOST_CALLS:
            raise Spins
        return ask(PageNumber(page), refusal)

    set_patience(tiered.device.frontswap, counted)


def begin_to_fail(tiered: Tiered, tier: FakeTier, nursery: trio.Nursery) -> None:
    """Every write fails, one at a time."""
    tier.fail_writes = True
    tiered.device.in_flight.batch_size = 1
    nursery.start_soon(tiered.writeback.run)


async def test_a_segment_whose_write_failed_stays_in_memory(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    begin_to_fail(tiered, tier, nursery)
    nursery.start_soon(tiered.write, tiered.fill())
    await wait_all_tasks_blocked()
    now = tiered.writeback.statistics()
    assert (now.writeback_attempted, now.writeback_failed, now.bd_count) == (1, 1, 0)
    assert (now.written_back_pages, now.bd_writes) == (0, 0)
    assert tiered.log.table.state_of(tiered.segment_of(0)) is SegmentState.SEALED
    assert tiered.entry.extents.available == EXTENTS
    await tiered.check()


async def test_it_is_tried_again_after_a_while_and_the_store_goes_on(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    begin_to_fail(tiered, tier, nursery)
    page = tiered.fill()
    oldest = tiered.segment_of(0)
    nursery.start_soon(tiered.write, page)
    await wait_all_tasks_blocked()
    mock_clock.jump(0.09)
    await wait_all_tasks_blocked()
    assert tiered.writeback.statistics().writeback_attempted == 1
    tier.fail_writes = False
    mock_clock.jump(0.02)
    await wait_all_tasks_blocked()
    assert tiered.writeback.statistics().writeback_attempted >= 2
    assert tiered.writeback.statistics().writeback_failed == 1
    assert tiered.log.table.state_of(oldest) is SegmentState.ON_TIER, "the same one, and first"
    assert page in tiered.expected
    await tiered.check()


async def test_each_rest_is_twice_as_long_until_stores_are_refused(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    begin_to_fail(tiered, tier, nursery)
    page = tiered.fill()
    start = trio.current_time()
    with pytest.raises(StoreRefused):
        await tiered.write(page)
    assert trio.current_time() - start == pytest.approx(0.1 + 0.2 + 0.4)
    assert tiered.writeback.statistics().writeback_failed == 4
    await tiered.check()


async def test_a_tier_that_works_again_is_used_again(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    begin_to_fail(tiered, tier, nursery)
    page = tiered.fill()
    with pytest.raises(StoreRefused):
        await tiered.write(page)
    with pytest.raises(StoreRefused):
        tiered.store(page)
    tier.fail_writes = False
    await trio.sleep(60)
    await tiered.write(page)
    await wait_all_tasks_blocked()
    assert tiered.on_tier()
    tier.fail_writes = True
    start = trio.current_time()
    await write_until_refused(tiered, page + 1, run=False)
    assert trio.current_time() - start == pytest.approx(0.7), "the first rest is short again"


async def test_a_batch_that_fails_is_one_failure(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    tier.hold_writes = True
    tiered.writeback.accept_threshold_percent = 1
    nursery.start_soon(tiered.writeback.run)
    page = tiered.fill()
    nursery.start_soon(tiered.write, page)
    await wait_all_tasks_blocked()
    assert len(tier.writes) == 4
    for write in list(tier.writes):
        write.fail()
    tier.hold_writes = False
    await wait_all_tasks_blocked()
    mock_clock.jump(0.11)
    await wait_all_tasks_blocked()
    assert page in tiered.expected
    assert tiered.writeback.statistics().writeback_failed == 4


async def fail_once(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, clock: MockClock
) -> None:
    """The write of the oldest segment, that of page 0, has failed."""
    begin_to_fail(tiered, tier, nursery)
    nursery.start_soon(tiered.write, tiered.fill())
    await wait_all_tasks_blocked()
    assert tiered.writeback.statistics().writeback_failed == 1
    tiered.cache.pool_limit_bytes += MIB  # so that nothing need wait
    tier.fail_writes = False


@each_action
async def test_after_a_failure(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock, action: Action
) -> None:
    await fail_once(tiered, tier, nursery, mock_clock)
    for page in range(0, 100, 7):
        action(tiered, page)
    check_invariants(tiered.cache)
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    await tiered.check()


async def test_after_a_failure_the_cleaner_may_take_the_segment(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    await fail_once(tiered, tier, nursery, mock_clock)
    segment = tiered.segment_of(0)
    tiered.writeback.cleaner.begin(segment)
    while tiered.log.table.live[segment]:
        assert tiered.writeback.cleaner.step()
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    await tiered.check()


async def test_a_segment_that_dies_while_the_tier_rests(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    begin_to_fail(tiered, tier, nursery)
    page = tiered.fill()
    nursery.start_soon(tiered.write, page)
    await wait_all_tasks_blocked()
    for number in tiered.pages_of(tiered.segment_of(0)):
        tiered.discard(number)
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    assert page in tiered.expected
    await tiered.check()


# -- nothing can be done: refused, not asked to wait for ever ---------------------------


async def write_until_refused(tiered: Tiered, first: int, *, run: bool = True) -> None:
    """Stores are refused in the end; raises `Spins` where they wait for nothing instead."""
    count_calls(tiered)
    ended: Exception | None = None
    async with trio.open_nursery() as nursery:
        if run:
            nursery.start_soon(tiered.writeback.run)
        try:
            for number in range(first, 4096):
                await tiered.write(number)
        except (StoreRefused, Spins) as exc:
            ended = exc
        nursery.cancel_scope.cancel()
    assert ended is not None, "never refused"
    if isinstance(ended, Spins):
        raise ended


def pin(tiered: Tiered, segment: SegmentId) -> None:
    """Leave one page of ``segment``, whose word is corrupt: it can't be emptied any more."""
    first, *others = tiered.pages_of(segment)
    tiered.cache.slots.words[first] = spoiled(tiered.cache.slots.words[first])
    del tiered.expected[first]
    for number in others:
        tiered.discard(number)


def segments_of(tiered: Tiered) -> list[SegmentId]:
    return sorted(set(map(tiered.segment_of, tiered.expected)))


async def test_segments_that_cannot_be_emptied(tierless: Tiered) -> None:
    page = tierless.fill()
    for segment in segments_of(tierless)[:3]:
        pin(tierless, segment)
    await write_until_refused(tierless, page)


async def test_dead_space_in_open_segments(tierless: Tiered) -> None:
    """Three heads are open, and nearly all they hold is dead; the rest is sealed and live."""
    for number in range(260):
        tierless.store(number)
    tierless.log.seal(tierless.log.heads[Stream.STORE])
    tierless.discard(0, 20)
    while tierless.writeback.cleaner.step():
        pass
    for number in range(1000, 1250):
        tierless.store(number, pages.incompressible(number))
    page = tierless.fill(2000)
    last = tierless.pages_of(tierless.log.heads[Stream.STORE].segment)
    for found in (list(range(20, 260)), list(range(1000, 1250)), last):
        for number in found[1:]:
            tierless.discard(number)
    await write_until_refused(tierless, page)


async def test_a_limit_lowered_below_what_is_used(tierless: Tiered) -> None:
    page = tierless.fill()
    for number in range(0, page, 2):
        tierless.discard(number)
    tierless.cache.pool_limit_bytes = 2 * MIB
    await write_until_refused(tierless, page)


async def test_a_limit_lowered_below_what_is_used_with_a_tier(
    tiered: Tiered, tier: FakeTier
) -> None:
    """It should write back what is dense, which needs no frame, until the cleaner has one."""
    page = tiered.fill()
    for number in range(0, 800, 2):
        tiered.discard(number)
    tiered.cache.pool_limit_bytes = 2 * MIB
    await write_until_refused(tiered, page)


# -- no memory for another frame -----------------------------------------------------------


def take_the_memory(worker: Tiered, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(offset: int, length: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    worker.log.frames.trim(0)
    monkeypatch.setattr(worker.log.frames._arena, "populate", none)


async def test_without_memory_to_gather_in_segments_leave_as_they_are(
    tiered: Tiered, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tiered.fill()
    for dead in range(0, page, 6):
        tiered.discard(dead)
    take_the_memory(tiered, monkeypatch)
    nursery.start_soon(tiered.writeback.run)
    await tiered.write(page)
    assert tiered.on_tier()
    assert tiered.writeback.cleaner.statistics().objects_copied == 0
    await tiered.check()


async def test_without_memory_to_gather_in_old_ones_leave_as_they_are(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in range(300):
        tiered.store(page)
    tiered.discard(0, 60)
    make_old(tiered.log)
    take_the_memory(tiered, monkeypatch)
    tiered.writeback.writeback_age_seconds = 1
    nursery.start_soon(tiered.writeback.run)
    await pass_time(2)
    assert tiered.on_tier() == list(range(60, 300))
    await tiered.check()
