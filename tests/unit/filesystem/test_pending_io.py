"""The slow path: pages on a tier, read, changed and discarded, whatever happens meanwhile."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.tiered_devices import Tiered, dense

pytestmark = pytest.mark.slow


class Reader:
    """A read in flight."""

    def __init__(self) -> None:
        self.result: bytes | Exception | None = None

    async def read(self, tiered: Tiered, page: int) -> None:
        try:
            self.result = await tiered.read(page)
        except CorruptData as exc:
            self.result = exc


async def start_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, page: int = 0
) -> Reader:
    """A read of ``page`` that has reached the tier, and waits there."""
    tier.hold_reads = True
    reader = Reader()
    nursery.start_soon(reader.read, tiered, page)
    await wait_all_tasks_blocked()
    assert len(tier.reads) == 1
    return reader


async def finish_read(tier: FakeTier) -> None:
    tier.hold_reads = False
    tier.reads[0].finish()
    await wait_all_tasks_blocked()


# -- reads -----------------------------------------------------------------------------


async def test_a_page_on_the_tier_is_read_and_stays_there(tiered: Tiered, tier: FakeTier) -> None:
    on_tier = await tiered.move_out()
    with pytest.raises(TierLoad):
        tiered.cache.load(on_tier[0])
    assert await tiered.read(on_tier[0]) == tiered.expected[on_tier[0]]
    assert tiered.on_tier() == on_tier
    assert 1 <= tiered.writeback.statistics().bd_reads <= 2


async def test_a_read_of_many_pages_from_both_places(tiered: Tiered, tier: FakeTier) -> None:
    on_tier = await tiered.move_out()
    first = on_tier[-1] - 20
    tiered.discard(first + 3)
    tiered.store(first + 5, bytes(PAGE_SIZE))
    expected = b"".join(tiered.expected.get(first + n, bytes(PAGE_SIZE)) for n in range(40))
    found = await tiered.pending_io.read(first * PAGE_SIZE, 40 * PAGE_SIZE)
    assert found == expected
    assert (
        await tiered.pending_io.read(first * PAGE_SIZE + 100, 5 * PAGE_SIZE)
        == (expected[100 : 100 + 5 * PAGE_SIZE])
    )


async def test_so_many_pages_of_a_read_are_asked_for_at_once(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    for page in range(30):  # far from each other in their segment: no read brings two
        tiered.store(page)
        for other in range(6):
            tiered.store(1000 + page * 6 + other)
    await tiered.move_out(2000)
    tier.hold_reads = True
    results = []

    async def read() -> None:
        results.append(await tiered.pending_io.read(0, 30 * PAGE_SIZE))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    assert len(tier.reads) == 16
    tier.hold_reads = False
    for operation in tier.reads[::-1]:
        operation.finish()
    await wait_all_tasks_blocked()
    assert results == [b"".join(tiered.expected[page] for page in range(30))]


async def test_neighbours_are_read_together(tiered: Tiered, tier: FakeTier) -> None:
    await tiered.move_out()
    before = tier.reads_begun
    found = await tiered.pending_io.read(0, 7 * PAGE_SIZE)
    assert found == b"".join(tiered.expected[page] for page in range(7))
    assert tier.reads_begun == before + 1


async def test_reads_at_and_beyond_the_end(tiered: Tiered) -> None:
    end = tiered.cache.page_count * PAGE_SIZE
    assert await tiered.pending_io.read(end, 10) == b""
    assert await tiered.pending_io.read(end - 5, 10) == bytes(5)


async def test_a_page_that_is_overwritten_while_it_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await tiered.move_out()
    reader = await start_read(tiered, tier, nursery)
    tiered.store(0, dense(9000))
    await finish_read(tier)
    assert reader.result == dense(9000)


async def test_a_page_that_is_discarded_while_it_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await tiered.move_out()
    reader = await start_read(tiered, tier, nursery)
    tiered.discard(0)
    await finish_read(tier)
    assert reader.result == bytes(PAGE_SIZE)


async def test_a_segment_id_that_is_used_again_while_it_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    """The new word of the page may be the very same: only the sequence differs."""
    await tiered.move_out()
    reader = await start_read(tiered, tier, nursery)
    word = tiered.cache.slots.get(PageNumber(0))
    segment = tiered.segment_of(0)
    for page in tiered.pages_of(segment):
        tiered.discard(page)
    for head in tiered.log.heads:
        tiered.log.seal(head)
    tiered.store(0, dense(1))
    assert tiered.cache.slots.get(PageNumber(0)) == word
    await finish_read(tier)
    assert reader.result == dense(1)
    check_invariants(tiered.cache)


async def test_an_extent_that_is_written_over_while_it_is_read(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    on_tier = await tiered.move_out()
    reader = await start_read(tiered, tier, nursery)
    extent = tier.reads[0].extent
    for page in on_tier:
        tiered.discard(page)
    tiered.store(0, dense(9000))
    tier.extents[extent][:] = bytes(len(tier.extents[extent]))
    await finish_read(tier)
    assert reader.result == dense(9000)


# -- changes ---------------------------------------------------------------------------


async def test_a_partial_write_to_a_page_on_the_tier(tiered: Tiered, tier: FakeTier) -> None:
    await tiered.move_out()
    await tiered.pending_io.write(10, memoryview(b"part"))
    old = tiered.expected[0]
    tiered.expected[0] = old[:10] + b"part" + old[14:]
    assert 0 not in tiered.on_tier()
    await tiered.check()


async def test_a_write_over_the_edges_of_pages_on_the_tier(tiered: Tiered, tier: FakeTier) -> None:
    await tiered.move_out()
    data = dense(7)[:1000] + dense(8) + dense(9)[:500]
    await tiered.pending_io.write(PAGE_SIZE - 1000, memoryview(data))
    tiered.expected[0] = tiered.expected[0][:-1000] + data[:1000]
    tiered.expected[1] = dense(8)
    tiered.expected[2] = data[-500:] + tiered.expected[2][500:]
    await tiered.check()


async def test_a_punch_of_a_part_of_a_page_on_the_tier(tiered: Tiered, tier: FakeTier) -> None:
    await tiered.move_out()
    await tiered.pending_io.punch(100, 3 * PAGE_SIZE)
    tiered.expected[0] = tiered.expected[0][:100] + bytes(PAGE_SIZE - 100)
    tiered.expected[3] = bytes(100) + tiered.expected[3][100:]
    del tiered.expected[1], tiered.expected[2]
    await tiered.check()


async def test_a_partial_write_to_a_page_that_is_overwritten_meanwhile(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await tiered.move_out()
    tier.hold_reads = True
    nursery.start_soon(tiered.pending_io.write, 10, memoryview(b"part"))
    await wait_all_tasks_blocked()
    tiered.store(0, dense(9000))
    await finish_read(tier)
    tiered.expected[0] = dense(9000)[:10] + b"part" + dense(9000)[14:]
    await tiered.check()


async def test_a_partial_write_to_a_page_that_is_discarded_meanwhile(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await tiered.move_out()
    tier.hold_reads = True
    nursery.start_soon(tiered.pending_io.write, 10, memoryview(b"part"))
    await wait_all_tasks_blocked()
    tiered.discard(0)
    await finish_read(tier)
    tiered.expected[0] = bytes(10) + b"part" + bytes(PAGE_SIZE - 14)
    await tiered.check()


@pytest.mark.parametrize("by_discard", [False, True])
async def test_a_page_that_changes_once_it_was_read_and_before_that_is_heard(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, by_discard: bool
) -> None:
    """The task that waits for a read has its turn later than the answer comes."""
    await tiered.move_out()
    tiered.discard(tiered.on_tier()[-1] + 1, 600)
    tier.hold_reads = True
    if by_discard:
        nursery.start_soon(tiered.pending_io.write, 10, memoryview(b"part"))
    else:
        nursery.start_soon(tiered.pending_io.punch, 10, 4)
    await wait_all_tasks_blocked()
    tier.reads[0].finish()
    if by_discard:
        tiered.discard(0)
        after = bytes(PAGE_SIZE), bytes(10) + b"part" + bytes(PAGE_SIZE - 14)
    else:
        tiered.store(0, dense(9000))
        after = dense(9000), dense(9000)[:10] + bytes(4) + dense(9000)[14:]
    await wait_all_tasks_blocked()
    found = await tiered.read(0)
    assert found in after
    tiered.expected[0] = found
    tier.hold_reads = False
    await tiered.check()


async def test_a_partial_write_to_an_unreadable_page_changes_nothing(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    await tiered.move_out()
    tier.fail_reads = True
    with pytest.raises(CorruptData):
        await tiered.pending_io.write(10, memoryview(b"part"))
    assert (tiered.pending_io.has_queue, tiered.pending_io.waiting_bytes) == (False, 0)
    tier.fail_reads = False
    await tiered.check()


async def test_a_partial_write_into_a_full_pool_waits(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    await tiered.move_out()
    tiered.fill(2000)
    nursery.start_soon(tiered.writeback.run)
    for page in range(100):
        await tiered.pending_io.write(page * PAGE_SIZE + 10, memoryview(b"part"))
        old = tiered.expected[page]
        tiered.expected[page] = old[:10] + b"part" + old[14:]
    await tiered.check()
