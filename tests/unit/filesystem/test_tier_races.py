"""Pages on the tier: what happens to them while their segment is read back, or merged."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import StoreRefused
from fuseswap.store.segment_entry import SegmentState, Stream
from fuseswap.units import MIB, PAGE_SIZE, SEGMENT_BYTES
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.page_actions import Action, each_blind_action
from tests.support.tiered_devices import Tiered, dense, extent_of

pytestmark = pytest.mark.slow


async def release_reads(tier: FakeTier) -> None:
    tier.hold_reads = False
    for operation in list(tier.reads):
        operation.finish()
    await wait_all_tasks_blocked()


# -- read back -------------------------------------------------------------------------


class Reads:
    """Reads of single pages that wait at the tier."""

    def __init__(self, tiered: Tiered) -> None:
        self._tiered = tiered
        self.found: dict[int, bytes] = {}

    async def read(self, page: int) -> None:
        self.found[page] = await self._tiered.read(page)

    def check(self) -> None:
        expected = self._tiered.expected
        assert self.found == {page: expected.get(page, bytes(PAGE_SIZE)) for page in self.found}


async def begin_reads(tiered: Tiered, tier: FakeTier, nursery: trio.Nursery) -> Reads:
    """Of the first ten pages, which are on the tier."""
    await tiered.move_out()
    tier.hold_reads = True
    reads = Reads(tiered)
    for page in range(10):
        nursery.start_soon(reads.read, page)
    await wait_all_tasks_blocked()
    assert reads.found == {}
    return reads


@each_blind_action
async def test_while_it_is_read_back(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action
) -> None:
    reads = await begin_reads(tiered, tier, nursery)
    for page in range(0, 10, 2):
        action(tiered, page)
    check_invariants(tiered.cache)
    await release_reads(tier)
    assert len(reads.found) == 10
    reads.check()
    await tiered.check()


@each_blind_action
async def test_while_it_is_read_back_with_its_neighbours(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action
) -> None:
    await tiered.move_out()
    tier.hold_reads = True
    found: list[bytes] = []

    async def read() -> None:
        found.append(await tiered.pending_io.read(0, 10 * PAGE_SIZE))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    assert found == []
    for page in range(0, 10, 3):
        action(tiered, page)
    await release_reads(tier)
    zeros = bytes(PAGE_SIZE)
    assert found == [b"".join(tiered.expected.get(page, zeros) for page in range(10))]


async def test_two_loads_of_one_page(tiered: Tiered, tier: FakeTier, nursery: trio.Nursery) -> None:
    reads = await begin_reads(tiered, tier, nursery)
    again = Reads(tiered)
    nursery.start_soon(again.read, 0)
    await release_reads(tier)
    assert reads.found[0] == again.found[0] == tiered.expected[0]


async def test_a_page_that_the_cleaner_brings_back_while_it_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    reads = await begin_reads(tiered, tier, nursery)
    segment = tiered.segment_of(0)
    extent = extent_of(tiered.log, segment)
    tiered.writeback.cleaner.begin_on_tier(segment, bytes(tier.extents[extent]))
    while tiered.writeback.cleaner.busy:
        assert tiered.writeback.cleaner.step()
    assert tiered.log.table.live[segment] == 0
    tier.extents[extent][:] = bytes(SEGMENT_BYTES)  # it is free: anybody may write there
    await release_reads(tier)
    assert len(reads.found) == 10
    reads.check()


# -- merged ----------------------------------------------------------------------------


async def begin_merging(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, clock: MockClock
) -> list[int]:
    """Extents are short, and a sparse segment is being read: its pages."""
    nursery.start_soon(tiered.writeback.run)
    page = 0
    try:
        while True:
            await tiered.write(page)
            page += 1
    except StoreRefused:
        pass
    segment = tiered.segment_of(0)
    for number in tiered.pages_of(segment)[50:]:
        tiered.discard(number)
    found = tiered.pages_of(segment)
    tiered.cache.pool_limit_bytes += 2 * MIB
    tier.hold_reads = tier.hold_writes = True
    clock.jump(1)
    await wait_all_tasks_blocked()
    assert [read.extent for read in tier.reads] == [extent_of(tiered.log, segment)]
    return found


@each_blind_action
@pytest.mark.parametrize("share", [3, pytest.param(1, marks=pytest.mark.slow)])
async def test_while_it_is_read_to_be_merged(
    tiered: Tiered,
    tier: FakeTier,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    action: Action,
    share: int,
) -> None:
    """With a share of 1 the segment dies."""
    found = await begin_merging(tiered, tier, nursery, mock_clock)
    for page in found[::share]:
        action(tiered, page)
    check_invariants(tiered.cache)
    await release_reads(tier)
    assert not set(found) & set(tiered.on_tier())
    tier.hold_writes = False
    await tiered.check()


async def test_a_load_while_it_is_read_to_be_merged(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """It began at the tier, and ends in memory or at the tier."""
    found = await begin_merging(tiered, tier, nursery, mock_clock)
    reads = Reads(tiered)
    nursery.start_soon(reads.read, found[0])
    await wait_all_tasks_blocked()
    await release_reads(tier)
    assert reads.found == {found[0]: tiered.expected[found[0]]}


async def test_a_segment_id_that_is_used_again_while_it_is_read_to_be_merged(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    found = await begin_merging(tiered, tier, nursery, mock_clock)
    segment = tiered.segment_of(found[0])
    for page in found:
        tiered.discard(page)
    for head in tiered.log.heads:
        tiered.log.seal(head)
    tiered.store(found[0])
    assert tiered.segment_of(found[0]) == segment
    await release_reads(tier)
    assert tiered.log.table.state_of(segment) is SegmentState.OPEN
    await tiered.check()


async def test_a_segment_id_that_is_on_the_tier_again_when_the_read_ends(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """What was read is another segment's, and every check in it is right."""
    found = await begin_merging(tiered, tier, nursery, mock_clock)
    segment = tiered.segment_of(found[0])
    read_already = bytes(tier.extents[extent_of(tiered.log, segment)])
    for page in found:
        tiered.discard(page)
    for head in tiered.log.heads:
        tiered.log.seal(head)
    for page in range(50):
        tiered.store(page, dense(page + 8000))
    assert tiered.segment_of(0) == segment
    tiered.log.seal(tiered.log.heads[Stream.STORE])
    to = tiered.entry.take()
    assert to is not None
    with tiered.log.view(segment) as view:
        tier.extents[to.extent] = bytearray(view)
    tiered.log.relocate(segment, to)

    def as_it_was(found: bytes) -> bytes:
        tier.mangle = None
        return read_already

    tier.mangle = as_it_was
    await release_reads(tier)
    await tiered.check()


@each_blind_action
async def test_between_two_steps_of_merging(tiered: Tiered, tier: FakeTier, action: Action) -> None:
    await tiered.move_out()
    segment = tiered.segment_of(0)
    tiered.cache.pool_limit_bytes += 2 * MIB
    cleaner = tiered.writeback.cleaner
    cleaner.begin_on_tier(segment, bytes(tier.extents[extent_of(tiered.log, segment)]))
    page = 0
    while cleaner.busy:
        cleaner.step()
        for _ in range(5):
            action(tiered, page)
            page += 9
        check_invariants(tiered.cache)
    assert tiered.log.table.live[segment] == 0
    await tiered.check()
