"""A full pool without a backing file makes room before it refuses, and does not wait in vain."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import StoreRefused
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.reclaim.patience import NoRoom
from fuseswap.reclaim.room_maker import LONGEST_S
from fuseswap.store.geometry import Geometry
from fuseswap.store.segment_entry import Stream
from fuseswap.store.slot_word import REFERENCED
from fuseswap.units import MIB, PAGE_SIZE, page_range
from tests.support import pages
from tests.support.memory_stores import SharedMemory
from tests.support.recompressed_devices import HeldJobs, pass_time
from tests.support.tiered_devices import POOL_FRAMES, Tiered, dense

pytestmark = pytest.mark.slow

_bodies = [pages.hexadecimal(seed) for seed in range(300)]


def shrinking(seed: int) -> bytes:
    """zstd makes it half as large as lz4 does, which leaves it nearly as it is."""
    body = _bodies[seed % len(_bodies)]
    return seed.to_bytes(8, "little") + body[8:]


def start(worker: Tiered, nursery: trio.Nursery) -> None:
    nursery.start_soon(worker.writeback.run)
    nursery.start_soon(worker.device.recompression.run)


async def write_until_refused(worker: Tiered, make: Callable[[int], bytes], first: int = 0) -> int:
    """Which page was refused.  Time does not pass."""
    for page in range(first, worker.cache.page_count):
        try:
            await worker.write(page, make(page))
        except StoreRefused:
            return page
    raise AssertionError("never refused")


def fill(worker: Tiered, make: Callable[[int], bytes], first: int = 0) -> int:
    """As many as find room without waiting; the first that does not."""
    for page in range(first, worker.cache.page_count):
        try:
            worker.store(page, make(page))
        except (NoRoom, StoreRefused):
            return page
    raise AssertionError("never full")


# -- recompression makes room ------------------------------------------------------------


async def test_young_segments_are_recompressed_before_a_store_is_refused(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    tierless.device.recompression.policy.age_seconds = 0
    began = trio.current_time()
    page = fill(tierless, shrinking)
    last = await write_until_refused(tierless, shrinking, page)
    assert last > page * 1.5
    assert trio.current_time() == began, "it waits for no quiet and no age"
    assert tierless.log.frames.has_spare
    await tierless.check()


async def test_what_is_truly_full_is_refused_at_once(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = await write_until_refused(tierless, shrinking)
    for _ in range(10):
        await pass_time(1)
        with pytest.raises(StoreRefused):
            tierless.store(page, shrinking(page))
    await tierless.check()


async def test_without_recompression_only_dead_space_is_room(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    tierless.device.recompression.set_algorithm("none")
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = fill(tierless, shrinking)
    with pytest.raises(StoreRefused):
        tierless.store(page, shrinking(page))
    for number in range(0, 300, 2):
        tierless.discard(number)
    await pass_time(1)
    assert await write_until_refused(tierless, shrinking, page) > page + 100
    assert tierless.device.cleaned().recompressed_pages == 0
    await tierless.check()


async def test_stores_wait_in_order(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    jobs = HeldJobs()
    tierless.device.recompression.thread._submit = jobs.submit
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = fill(tierless, shrinking)
    order: list[int] = []

    def answered(number: int, error: Exception | None) -> None:
        assert error is None
        order.append(number)

    for number in range(page, page + 5):
        tierless.expected[number] = shrinking(number)
        data = memoryview(tierless.expected[number])
        tierless.pending_io.begin_write(number * PAGE_SIZE, data, partial(answered, number))
    await wait_all_tasks_blocked()
    assert (order, tierless.pending_io.has_queue) == ([], True)
    assert tierless.cache.load(0) == tierless.expected[0]
    jobs.let_go()
    await wait_all_tasks_blocked()
    assert order == list(range(page, page + 5))
    await tierless.check()


async def test_hot_segments_come_last(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    page = fill(tierless, shrinking)
    segments = sorted(tierless.log.table.segments())
    hot = set(segments[:2])
    for number in range(page):
        if tierless.segment_of(number) in hot:
            tierless.cache.load(number)
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    await pass_time(0.5)
    await tierless.write(page, shrinking(page))
    assert hot < set(tierless.log.table.segments())
    await write_until_refused(tierless, shrinking, page + 1)
    streams = {tierless.log.table.stream_of(tierless.segment_of(n)) for n in range(page)}
    assert Stream.STORE not in streams
    assert not any(tierless.cache.slots.get(n) & REFERENCED for n in page_range(0, page))
    await tierless.check()


async def test_what_was_spared_is_taken_where_nothing_else_is_left(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    fill(tierless, shrinking)
    policy = tierless.device.recompression.policy
    first = policy.for_room()
    policy.spare(first)
    others = {policy.for_room() for _ in tierless.log.table.segments()}
    assert first not in others
    assert len(others) > 1
    for segment in others:
        policy.spare(segment)
    assert policy.for_room() in {first, *others}


async def test_a_full_tier_is_no_reason_to_refuse(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    tiered.device.evictor.recompresses = False
    start(tiered, nursery)
    await wait_all_tasks_blocked()
    page = await write_until_refused(tiered, dense)
    await pass_time(1)
    for number in range(page - 500, page):
        tiered.discard(number)
    await write_until_refused(tiered, shrinking, page)
    assert not tiered.entry.extents.available
    recompressed = tiered.device.recompression.copier.statistics().recompressed_pages
    assert recompressed > 400
    await tiered.check()


# -- for how long ------------------------------------------------------------------------


async def test_a_store_waits_for_two_seconds_and_no_longer(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    jobs = HeldJobs()
    tierless.device.recompression.thread._submit = jobs.submit
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = fill(tierless, shrinking)
    refused: list[float] = []

    async def write(number: int) -> None:
        with pytest.raises(StoreRefused):
            await tierless.write(number, shrinking(number))
        refused.append(trio.current_time())

    began = trio.current_time()
    for number in range(page, page + 3):
        nursery.start_soon(write, number)
    await pass_time(LONGEST_S - 0.25)
    assert refused == []
    await pass_time(0.5)
    assert [at - began for at in refused] == [LONGEST_S] * 3
    jobs.let_go()
    await pass_time(1)
    await tierless.write(page, shrinking(page))
    await tierless.check()


async def test_a_thread_without_memory_is_not_waited_for(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fuseswap.codecs.recompressor.Recompressor.shrink", fail)
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = fill(tierless, shrinking)
    began = trio.current_time()
    with pytest.raises(StoreRefused):
        await tierless.write(page, shrinking(page))
    await pass_time(1)
    with pytest.raises(StoreRefused):
        tierless.store(page, shrinking(page))
    assert trio.current_time() == began + 1
    monkeypatch.undo()
    await pass_time(5)
    await tierless.write(page, shrinking(page))
    await tierless.check()


async def test_nobody_waits_for_a_task_that_does_not_run(
    tierless: Tiered, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tierless.writeback.run)
    await wait_all_tasks_blocked()
    page = fill(tierless, shrinking)
    with pytest.raises(StoreRefused):
        tierless.store(page, shrinking(page))


async def test_what_died_meanwhile_is_room_as_well(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """A store waits for a thread, and all that the thread has dies."""
    jobs = HeldJobs()
    tierless.device.recompression.thread._submit = jobs.submit
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = fill(tierless, shrinking)
    nursery.start_soon(tierless.write, page, shrinking(page))
    await wait_all_tasks_blocked()
    assert jobs.held
    tierless.discard(0, page)
    jobs.let_go()
    await pass_time(1)
    assert list(tierless.expected) == [page]
    await tierless.check()


# -- the frame that is kept back ---------------------------------------------------------


async def test_a_worker_that_died_with_the_last_frame_costs_the_next_one_nothing(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """Without a frame to copy to nothing can be cleaned, whatever is dead."""
    page = tierless.fill()
    for number in range(0, page, 3):
        tierless.discard(number)
    while tierless.log.frames.has_spare:
        assert tierless.writeback.cleaner.step()
    following = Tiered(tierless.memory, None)
    following.expected = tierless.expected
    assert not following.log.frames.has_spare
    # Age is told by the machine's clock: on a slow one what is here would be recompressed.
    find_parameter("recomp_algorithm").set(following.device, "none")
    start(following, nursery)
    await pass_time(1)
    for number in range(0, page * 2 // 3, 3):
        await following.write(number, dense(number + 5000))
        if number == 150:
            assert following.log.frames.in_use == POOL_FRAMES - 1
    await following.check()


async def test_stores_leave_the_room_of_a_segment_that_is_half_cleaned(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    page = tierless.fill()
    for number in range(0, page, 3):
        tierless.discard(number)
    cleaner = tierless.writeback.cleaner
    found: list[tuple[bool, bool]] = []
    while cleaner.step() and (cleaner.busy or not found):
        found.append((tierless.log.frames.has_spare, tierless.cache.full_pool.has_room))
    assert (False, False) in found
    assert (False, True) not in found
    assert tierless.cache.full_pool.has_room
    before = tierless.log.frames.in_use
    tierless.store(page)
    assert tierless.log.table.stream_of(tierless.segment_of(page)) is Stream.SURVIVORS
    assert tierless.log.frames.in_use == before
    await tierless.check()


async def test_a_segment_that_is_half_hot_is_cleaned_with_one_frame(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """Survivors and recompressed ones each want a segment, and one frame is left."""
    start(tierless, nursery)
    await wait_all_tasks_blocked()
    page = await write_until_refused(tierless, shrinking)
    for head in tierless.log.heads:
        tierless.log.seal(head)
    assert tierless.log.frames.has_spare
    assert tierless.log.frames.exhausted
    victim = next(
        s
        for s in tierless.log.table.segments()
        if tierless.log.table.stream_of(s) is Stream.RECOMPRESSED
    )
    for number in range(0, page, 2):
        if tierless.segment_of(number) == victim:
            tierless.cache.load(number)
    cleaner = tierless.writeback.cleaner
    cleaner.begin(victim)
    while cleaner.busy:
        assert cleaner.step()
    assert not tierless.log.table.live[victim]
    assert tierless.log.frames.has_spare
    await tierless.check()


# -- small pools -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames", [8, *(pytest.param(frames, marks=pytest.mark.slow) for frames in (16, 20, 32))]
)
async def test_hardly_anything_is_dead_when_the_first_store_is_refused(
    make_memory: Callable[[Geometry], SharedMemory],
    nursery: trio.Nursery,
    mock_clock: MockClock,
    frames: int,
) -> None:
    """Every second store is an overwrite.  Kept back: the frame of the cleaner."""
    chance = random.Random(frames)
    content = [dense(seed) for seed in range(100)]
    worker = Tiered(make_memory(Geometry(16384, frames + 9, frames + 2)), None)
    worker.cache.pool_limit_bytes = frames * MIB
    start(worker, nursery)
    await wait_all_tasks_blocked()
    count = 0
    try:
        while True:
            page = chance.randrange(count) if count and chance.random() < 0.5 else count
            data = page.to_bytes(4, "little") + chance.choice(content)[4:]
            await worker.write(page, data)
            count = max(count, page + 1)
    except StoreRefused:
        pass
    dead, held = worker.log.dead_bytes()
    heads = [head for head in worker.log.heads if head.stream is not Stream.RECOMPRESSED]
    unfilled = sum(head.bound - head.tail for head in heads)
    assert held == (frames - 1) * MIB
    assert dead < 0.03 * held + MIB / 4
    assert unfilled < MIB / 16
    await worker.check()
