"""A segment moves while it is loaded, or merged, or before another worker comes."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData
from fuseswap.reclaim.relocation import Outcome
from fuseswap.reclaim.scrub_request import ScrubRequest
from fuseswap.reclaim.segment_reader import SegmentReader
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES
from tests.support.moving_segments import TO_TIER, Moved, Result, each_way

pytestmark = pytest.mark.slow

# -- loads under way -------------------------------------------------------------------


async def begin_load(moved: Moved, nursery: trio.Nursery, first: int, count: int) -> list[bytes]:
    """A load whose read is held; the list gets what it finds."""
    found: list[bytes] = []

    async def load() -> None:
        found.append(await moved.worker.pending_io.read(first * PAGE_SIZE, count * PAGE_SIZE))

    moved.hold(reads=True)
    nursery.start_soon(load)
    await wait_all_tasks_blocked()
    return found


@each_way
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("count", [1, 5])
async def test_a_load_under_way_from_the_old_place(
    moved: Moved,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    way: str,
    fails: bool,
    count: int,
) -> None:
    """Another segment's bytes are there when it ends, or nothing: it starts over."""
    ref = await moved.prepare()
    worker = moved.worker
    first = worker.pages_of(ref.id)[0]
    found = await begin_load(moved, nursery, first, count)
    (held,) = moved.first.reads
    moved.first.hold_reads = False
    assert await moved.relocation.relocate(ref, moved.place(way)) is Outcome.MOVED
    moved.first.extents[held.extent][:] = bytes(SEGMENT_BYTES)
    moved.second.hold_reads = False
    if fails:
        moved.first.fail_reads = True  # as a key that was deleted
        held.fail(errno.ENOENT)
    else:
        held.finish()
    await trio.sleep(1)
    moved.first.fail_reads = False
    assert found == [b"".join(worker.expected[first + n] for n in range(count))]
    now = worker.device.statistics()
    assert now["checksum_errors"] == 0
    assert now["tier_read_retries"] == 0 or fails
    await moved.check()


@pytest.mark.parametrize("count", [1, 5])
async def test_a_load_that_fails_after_its_tier_has_gone_looks_again_at_once(
    moved: Moved, nursery: trio.Nursery, mock_clock: MockClock, count: int
) -> None:
    """An error of what is not there any more is none: no pause, no count, no line in the log."""
    ref = await moved.prepare()
    worker = moved.worker
    first = worker.pages_of(ref.id)[0]
    found = await begin_load(moved, nursery, first, count)
    (held,) = moved.first.reads
    moved.hold()
    for segment in {worker.segment_of(page) for page in worker.on_tier()}:
        await moved.relocation.relocate(worker.log.table.ref(segment), moved.place(TO_TIER))
    worker.device.remove_tier("fake")
    held.fail(errno.EBADF)
    await wait_all_tasks_blocked()
    assert found == [b"".join(worker.expected[first + n] for n in range(count))]
    now = worker.device.statistics()
    assert (now["tier_read_retries"], now["tier_read_errors"]) == (0, 0)
    await worker.check()


@each_way
async def test_a_merge_that_read_the_old_place(
    moved: Moved, nursery: trio.Nursery, way: str
) -> None:
    """It gets nothing, and the segment is not set aside."""
    ref = await moved.prepare()
    worker = moved.worker
    read: list[bytes | None] = []

    async def read_segment() -> None:
        read.append(await SegmentReader(worker.log, worker.device.reader).read(ref.id))

    moved.hold(reads=True)
    nursery.start_soon(read_segment)
    await wait_all_tasks_blocked()
    (held,) = moved.first.reads
    moved.hold()
    await moved.relocation.relocate(ref, moved.place(way))
    moved.first.extents[held.extent][:] = bytes(SEGMENT_BYTES)
    held.finish()
    await wait_all_tasks_blocked()
    assert read == [None]
    assert not worker.log.table.is_pinned(ref.id)
    await moved.check()


@pytest.mark.parametrize("who", ["merge", "scrub"])
async def test_a_segment_that_left_while_it_was_read_whole_is_no_error(
    moved: Moved, nursery: trio.Nursery, mock_clock: MockClock, who: str
) -> None:
    ref = await moved.prepare()
    worker = moved.worker
    device = worker.device
    ended: list[bytes | None] = []

    async def merge() -> None:
        ended.append(await SegmentReader(worker.log, device.reader).read(ref.id))

    moved.hold(reads=True)
    if who == "merge":
        nursery.start_soon(merge)
    else:
        nursery.start_soon(device.scrubber.run)
        device.scrubber.ask(ScrubRequest.parse("tier=fake"))
    await wait_all_tasks_blocked()
    (held,) = moved.first.reads
    moved.hold()
    for segment in {worker.segment_of(page) for page in worker.on_tier()}:
        await moved.relocation.relocate(worker.log.table.ref(segment), moved.place(TO_TIER))
    device.remove_tier("fake")
    held.fail(errno.EBADF)
    await wait_all_tasks_blocked()
    now = device.statistics()
    assert (now["tier_read_retries"], now["tier_read_errors"]) == (0, 0)
    assert ended == [None] * (who == "merge")
    assert not device.scrubber.request.bad
    assert device.scrubber.request.done == device.scrubber.request.total, "at once"
    await worker.check()


# -- the next worker -------------------------------------------------------------------


@each_way
async def test_the_next_worker_finds_it_where_it_went(moved: Moved, way: str) -> None:
    ref = await moved.prepare()
    await moved.move(way)
    where, expected = moved.worker.log.table.location_of(ref.id), moved.worker.expected
    in_use = moved.in_use
    moved.worker = moved.next_worker()
    moved.worker.expected = expected
    assert moved.worker.log.table.location_of(ref.id) == where
    assert moved.in_use == in_use
    await moved.check()


@pytest.mark.parametrize("step", ["read", "write"])
async def test_a_worker_that_dies_on_the_way(
    moved: Moved, nursery: trio.Nursery, step: str
) -> None:
    """The old place holds; the late write ends on an extent that is free, or another's."""
    ref = await moved.prepare()
    where, expected = moved.worker.log.table.location_of(ref.id), moved.worker.expected
    moved.hold(reads=step == "read", writes=step == "write")
    nursery.start_soon(Result().of, moved, ref, moved.place(TO_TIER))
    await wait_all_tasks_blocked()
    moved.worker = moved.next_worker()
    moved.worker.expected = dict(expected)
    assert moved.worker.log.table.location_of(ref.id) == where
    assert moved.in_use[1] == 0
    await moved.check()
    for write in list(moved.second.writes):
        write.fail()
    await wait_all_tasks_blocked()
    await moved.check()


async def test_a_tier_that_does_not_come_back(moved: Moved, autojump_clock: MockClock) -> None:
    """Its pages are errors, its number is kept, and the rest is as it was."""
    ref = await moved.prepare()
    await moved.move(TO_TIER)
    lost = moved.worker.pages_of(ref.id)
    moved.first.second = None
    worker = moved.next_worker()
    worker.expected = {p: d for p, d in moved.worker.expected.items() if p not in lost}
    with pytest.raises(CorruptData, match="cannot be read from the tier"):
        await worker.read(lost[0])
    assert [(e.number, e.extents.in_use) for e in worker.device.tiers][1] == (1, 1)
    worker.device.tiers.register(moved.second)
    assert await worker.read(lost[0]) == moved.worker.expected[lost[0]]
    worker.expected = moved.worker.expected
    await worker.check()
