"""A segment moves between memory and two tiers, whatever happens to it on the way."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import PoolFull
from fuseswap.reclaim.relocation import Outcome
from fuseswap.store.segment_entry import SegmentState
from fuseswap.units import SEGMENT_BYTES, Location
from tests.support.log_invariants import check_invariants
from tests.support.moving_segments import (
    TO_MEMORY,
    TO_TIER,
    Moved,
    Result,
    each_way,
    finish,
    kill,
    use_again,
)
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow


@each_way
async def test_a_segment_moves_and_its_old_place_is_free(moved: Moved, way: str) -> None:
    ref = await moved.prepare()
    worker, before = moved.worker, moved.in_use
    pages = worker.pages_of(ref.id)
    assert await moved.move(way) is Outcome.MOVED
    expected = SegmentState.ON_TIER if way == TO_TIER else SegmentState.SEALED
    assert worker.log.table.state_of(ref.id) is expected
    assert worker.log.table.ref(ref.id) == ref, "the same life"
    assert moved.in_use == [before[0] - 1, before[1] + (way == TO_TIER)]
    assert [generation for _, generation in moved.first.released] == [ref.sequence]
    assert worker.pages_of(ref.id) == pages
    await moved.check()


async def test_back_in_memory_it_stands_in_line_to_leave_again(
    moved: Moved, nursery: trio.Nursery
) -> None:
    ref = await moved.prepare()
    await moved.move(TO_MEMORY)
    assert moved.worker.log.eviction_queue.remove(ref.id)
    to = moved.place(TO_TIER)
    assert await moved.relocation.relocate(ref, to) is Outcome.MOVED
    assert moved.worker.log.table.location_of(ref.id) == to
    await moved.check()


async def test_what_is_in_memory_stays_there(moved: Moved) -> None:
    ref = await moved.prepare()
    await moved.move(TO_MEMORY)
    frame = moved.worker.log.table.location_of(ref.id)
    assert await moved.relocation.relocate(ref, None) is Outcome.MOVED
    assert moved.worker.log.table.location_of(ref.id) == frame
    await moved.check()


async def test_there_and_back_many_times(moved: Moved) -> None:
    await moved.prepare()
    first, second = moved.worker.device.tiers
    ref = moved.ref()
    for _ in range(3):
        for to in (second.take(), first.take(), None, second.take(), None, first.take()):
            assert await moved.relocation.relocate(ref, to) is Outcome.MOVED
            check_invariants(moved.worker.cache)
    await moved.check()


# -- the segment dies on the way -------------------------------------------------------


@pytest.mark.parametrize("change", [kill, use_again])
@pytest.mark.parametrize("step", ["read", "write"])
async def test_a_segment_that_dies_on_the_way(
    moved: Moved, nursery: trio.Nursery, change: Callable[[Tiered, int], None], step: str
) -> None:
    ref = await moved.prepare()
    moved.hold(reads=step == "read", writes=step == "write")
    result, to = Result(), moved.place(TO_TIER)
    nursery.start_soon(result.of, moved, ref, to)
    await wait_all_tasks_blocked()
    assert (len(moved.first.reads), len(moved.second.writes)) == (step == "read", step == "write")
    change(moved.worker, ref.id)
    if step == "write":
        assert moved.in_use[1] == 1, "its extent waits for the write"
    await finish(moved)
    assert result.outcome is (Outcome.GONE if step == "read" else Outcome.DIED)
    assert moved.in_use[1] == 0
    await moved.check()


@pytest.mark.parametrize("change", [kill, use_again])
async def test_a_segment_that_dies_on_the_way_to_memory(
    moved: Moved, nursery: trio.Nursery, change: Callable[[Tiered, int], None]
) -> None:
    ref = await moved.prepare()
    moved.hold(reads=True)
    result = Result()
    nursery.start_soon(result.of, moved, ref, None)
    await wait_all_tasks_blocked()
    change(moved.worker, ref.id)
    await finish(moved)
    assert result.outcome is Outcome.GONE
    await moved.check()


async def test_a_segment_that_was_used_again_and_is_on_the_same_extent(
    moved: Moved, nursery: trio.Nursery
) -> None:
    """All is as it was but the sequence."""
    ref = await moved.prepare()
    where = moved.worker.log.table.location_of(ref.id)
    moved.hold(reads=True)
    result = Result()
    nursery.start_soon(result.of, moved, ref, moved.place(TO_TIER))
    await wait_all_tasks_blocked()
    use_again(moved.worker, ref.id)
    worker = moved.worker
    while (to := worker.entry.take()) != where:
        assert to is not None
    assert isinstance(where, Location)
    with worker.log.view(ref.id) as view:
        moved.first.extents[where.extent] = bytearray(view)
    worker.log.relocate(ref.id, where)
    await finish(moved)
    assert result.outcome is Outcome.GONE
    assert worker.log.table.location_of(ref.id) == where
    moved.hold()
    await worker.check()


async def test_one_that_is_gone_before_it_begins(moved: Moved) -> None:
    ref = await moved.prepare()
    kill(moved.worker, ref.id)
    assert await moved.relocation.relocate(ref, moved.place(TO_TIER)) is Outcome.GONE
    assert moved.in_use[1] == 0
    assert not moved.second.written
    await moved.check()


async def test_two_relocations_of_one_segment(moved: Moved, nursery: trio.Nursery) -> None:
    ref = await moved.prepare()
    moved.hold(reads=True)
    results = [Result(), Result()]
    for result in results:
        nursery.start_soon(result.of, moved, ref, moved.place(TO_TIER))
    await wait_all_tasks_blocked()
    await finish(moved)
    outcomes = [result.outcome for result in results]
    assert outcomes.count(Outcome.MOVED) == 1
    assert moved.in_use[1] == 1
    await moved.check()


# -- the tiers fail --------------------------------------------------------------------


@each_way
async def test_a_read_that_fails(moved: Moved, way: str, autojump_clock: MockClock) -> None:
    ref = await moved.prepare()
    where = moved.worker.log.table.location_of(ref.id)
    moved.first.fail_reads = True
    with pytest.raises(OSError, match="the device failed"):
        await moved.move(way)
    moved.first.fail_reads = False
    assert moved.worker.log.table.location_of(ref.id) == where
    assert moved.in_use[1] == 0
    await moved.check()
    assert await moved.move(way) is Outcome.MOVED
    await moved.check()


async def test_a_read_that_fails_of_a_segment_that_died(
    moved: Moved, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ref = await moved.prepare()
    moved.hold(reads=True)
    result = Result()
    nursery.start_soon(result.of, moved, ref, moved.place(TO_TIER))
    await wait_all_tasks_blocked()
    kill(moved.worker, ref.id)
    moved.first.fail_reads = True
    moved.first.reads[0].fail()
    await trio.sleep(1)
    assert result.outcome is Outcome.GONE, "that is no error"
    now = moved.worker.device.statistics()
    assert (now["tier_read_retries"], now["tier_read_errors"]) == (0, 0)
    moved.first.fail_reads = False
    await moved.check()


async def test_a_write_that_fails(moved: Moved) -> None:
    ref = await moved.prepare()
    where = moved.worker.log.table.location_of(ref.id)
    moved.second.fail_writes = True
    with pytest.raises(OSError, match="the device failed") as failed:
        await moved.move(TO_TIER)
    assert failed.value.errno == errno.ENOSPC
    assert moved.worker.log.table.location_of(ref.id) == where
    assert moved.second.released == [(0, ref.sequence)]
    assert not moved.first.released
    await moved.check()


@each_way
async def test_a_bit_that_is_read_wrong_once_is_not_moved(moved: Moved, way: str) -> None:
    """The old place is not asked again, so what is doubtful is read twice."""
    await moved.prepare()
    wrong = [True]

    def mangle(found: bytes) -> bytes:
        if wrong and len(found) == SEGMENT_BYTES:
            wrong.clear()
            return found[:100] + bytes([found[100] ^ 1]) + found[101:]
        return found

    moved.first.mangle = mangle
    assert await moved.move(way) is Outcome.MOVED
    assert not wrong
    assert moved.worker.writeback.statistics().tier_read_retries == 1
    await moved.check()


async def test_no_frame_to_go_through(moved: Moved) -> None:
    ref = await moved.prepare()
    frames = moved.worker.log.frames
    taken = []
    while (frame := frames.take(cleaning=True)) >= 0:
        taken.append(frame)
    for way in (TO_TIER, TO_MEMORY):
        with pytest.raises(PoolFull):
            await moved.relocation.relocate(ref, moved.place(way))
    for frame in taken:
        frames.give_back(frame)
    assert moved.in_use[1] == 0
    await moved.check()


async def test_what_fails_behind_the_commit_does_not_undo_it(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its extent would be free, and the tier could go with the segment on it."""
    ref = await moved.prepare()

    def fail(extent: int, generation: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(moved.first, "release", fail)
    with pytest.raises(OSError, match="no memory"):
        await moved.move(TO_TIER)
    assert moved.worker.log.table.location_of(ref.id) == Location(1, 0)
    await moved.check()


async def test_cancelled_while_it_is_read(moved: Moved) -> None:
    ref = await moved.prepare()
    moved.hold(reads=True)
    with trio.move_on_after(0.01):
        await moved.relocation.relocate(ref, moved.place(TO_TIER))
    await finish(moved)
    assert moved.in_use[1] == 0
    await moved.check()


async def test_cancelled_while_it_is_written_it_ends_first(
    moved: Moved, nursery: trio.Nursery
) -> None:
    ref = await moved.prepare()
    moved.hold(writes=True)
    result = Result()
    async with trio.open_nursery() as inner:
        inner.start_soon(result.of, moved, ref, moved.place(TO_TIER))
        await wait_all_tasks_blocked()
        inner.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            moved.second.writes[0].finish()
    assert result.outcome is Outcome.MOVED
    await moved.check()
