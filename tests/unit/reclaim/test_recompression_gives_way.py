"""Recompression gives way: to requests, to stores that wait, to a lack of memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import trio
import zstandard
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.codecs.recompressor import Packed, Recompressor
from fuseswap.codecs.registry import LZ4, ZSTD
from fuseswap.errors import StoreRefused
from fuseswap.reclaim import background_thread
from fuseswap.reclaim.background_thread import BackgroundThread
from fuseswap.reclaim.dictionary_policy import URGENT_LEVEL, TrainingSchedule
from fuseswap.reclaim.recompression import Recompression
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.units import MIB, PageNumber
from tests.support import pages
from tests.support.cold_pages import PAGES, codecs, hold, page_of, run_for, store_some
from tests.support.recompressed_devices import HeldJobs, finish, make_old, pass_time, recompress
from tests.support.tiered_devices import TIERED, Tiered, dense

pytestmark = pytest.mark.slow

Objects = Sequence[tuple[int, bytes]]


class Failing:
    """A thread that has no memory."""

    def __init__(self) -> None:
        self.call_count = 0

    def __call__(self, *arguments: object) -> None:
        self.call_count += 1
        raise zstandard.ZstdError("cannot compress: Allocation error")


# -- room --------------------------------------------------------------------------------


def fill(worker: Tiered) -> None:
    """To the last page a store finds room for; nobody waits.  Some are hot, and gain nothing."""
    worker.cache.on_full = None
    for page in range(TIERED.page_count):
        try:
            worker.store(page, pages.hexadecimal(page) if page % 4 else dense(page))
        except StoreRefused:
            return
        if not page % 4:
            worker.cache.load(page)


async def test_a_full_pool_becomes_smaller_in_the_room_there_is(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    tierless.cache.pool_limit_bytes = 3 * MIB
    fill(tierless)
    frames = tierless.log.frames
    assert (frames.available, frames.in_use) == (0, 2)
    before = tierless.cache.statistics().compr_data_size
    await recompress(tierless.device.recompression)
    assert tierless.device.recompression.request.left == []
    assert tierless.cache.statistics().compr_data_size < before * 9 / 10
    assert frames.in_use <= 2
    await tierless.check()


async def test_the_frame_kept_for_the_cleaner_is_there_whenever_others_run(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """What was gained by a page that has died is no room."""
    tierless.cache.pool_limit_bytes = 3 * MIB
    fill(tierless)
    frames, recompression = tierless.log.frames, tierless.device.recompression
    jobs = hold(tierless)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse("all"))
        while recompression.request.left:
            await pass_time(1)
            assert frames.has_spare
            if jobs.held:
                jobs.run()
                tierless.discard(jobs.count % len(tierless.expected))
        nursery.cancel_scope.cancel()
    await tierless.check()


async def test_without_any_room_it_waits(tierless: Tiered, mock_clock: MockClock) -> None:
    fill(tierless)
    frames, recompression = tierless.log.frames, tierless.device.recompression
    tierless.cache.pool_limit_bytes = frames.in_use * MIB
    before = sorted(tierless.log.table.segments())
    await recompress(recompression)
    assert len(recompression.request.left) == recompression.request.total > 0
    assert sorted(tierless.log.table.segments()) == before
    await tierless.check()
    tierless.cache.pool_limit_bytes = (frames.in_use + 1) * MIB
    await recompress(recompression)
    assert recompression.request.left == []
    assert codecs(tierless)[ZSTD] == len([page for page in tierless.expected if page % 4])
    await tierless.check()


async def test_a_store_that_waits_is_not_kept_waiting_for_recompression(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """Segments that are due are cleaned by whoever needs the room."""
    tierless.fill()
    for page in range(0, len(tierless.expected), 2):
        tierless.discard(page)
    make_old(tierless.log)
    assert all(tierless.device.recompression.is_due(s) for s in tierless.log.table.segments())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tierless.writeback.run)
        for page in range(2000, 2250):
            with trio.fail_after(5):
                await tierless.write(page)
        nursery.cancel_scope.cancel()
    await tierless.check()


# -- a new worker ------------------------------------------------------------------------


async def test_it_waits_until_all_is_counted(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless)
    make_old(tierless.log)
    following = Tiered(tierless.memory, None, lazy=True)
    following.expected = tierless.expected
    jobs = hold(following, holds=False)
    await run_for(following, 3)
    assert (following.cache.adopting, jobs.count) == (True, 0)
    recompression = following.device.recompression
    recompression.policy.age_seconds = 0  # it is the request that counts
    recompression.ask(ReclaimRequest.parse("all"))
    assert following.cache.adopting, "who asks does not count, either"
    assert recompression.progress.startswith("all: 0 of 1 segments")
    await run_for(following, 3)
    assert codecs(following) == {LZ4: PAGES}
    following.device.frontswap.adopt_all()
    await run_for(following, 3)
    assert codecs(following) == {ZSTD: PAGES}
    assert recompression.progress.startswith("all: 1 of 1 segments")
    await following.check()


async def test_the_next_worker_goes_on(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless, 2000)
    make_old(tierless.log)
    jobs = hold(tierless)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tierless.device.recompression.run)
        await pass_time(2)
        while tierless.device.cleaned().recompressed_pages < 100:
            jobs.run()
            await pass_time(0.5)
        nursery.cancel_scope.cancel()
    assert len(codecs(tierless)) == 2
    following = Tiered(tierless.memory, None)
    following.expected = tierless.expected
    await run_for(following, 3)
    assert codecs(following) == {ZSTD: 2000}
    await following.check()


# -- giving way --------------------------------------------------------------------------


class Requests:
    """How many there were, as the device counts them."""

    def __init__(self, worker: Tiered, jobs: HeldJobs) -> None:
        self.count = 0
        thread = BackgroundThread(jobs.submit, lambda: self.count)
        self.recompression = Recompression(worker.cache.cache, thread)


async def test_a_request_stops_the_thread_after_the_page_it_is_at(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_some(tierless)
    jobs = HeldJobs()
    requests = Requests(tierless, jobs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(requests.recompression.run)
        requests.recompression.ask(ReclaimRequest.parse("all"))
        await pass_time(1)
        requests.count += 1
        jobs.run()
        assert requests.recompression.thread.tried_pages == 0  # it is not its turn yet
        await pass_time(1)
        assert requests.recompression.thread.tried_pages == 1
        jobs.let_go()
        await finish(requests.recompression)
        nursery.cancel_scope.cancel()
    assert codecs(tierless) == {ZSTD: PAGES}
    await tierless.check()


async def test_it_waits_until_it_is_quiet(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless)
    jobs = HeldJobs()
    requests = Requests(tierless, jobs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(requests.recompression.run)
        requests.recompression.ask(ReclaimRequest.parse("all"))
        await pass_time(1)
        jobs.run()
        requests.count += 1
        await wait_all_tasks_blocked()
        assert jobs.held == []
        await pass_time(1)
        assert len(jobs.held) == 1
        nursery.cancel_scope.cancel()


async def test_pages_are_compressed_less_hard_while_stores_wait(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []
    shrink = Recompressor.shrink

    def noting(
        self: Recompressor, objects: Objects, stop: Callable[[], bool]
    ) -> list[Packed | None]:
        levels.append(self.level)
        return shrink(self, objects, stop)

    monkeypatch.setattr(Recompressor, "shrink", noting)
    store_some(tierless)
    recompression = tierless.device.recompression
    recompression.set_algorithm("zstd:15")
    recompression.thread.hurry()
    await recompress(recompression)
    assert set(levels) == {URGENT_LEVEL}
    recompression.thread.relax()
    levels.clear()
    store_some(tierless)
    await recompress(recompression)
    assert set(levels) == {15}
    await tierless.check()


async def test_where_it_never_is_quiet_it_goes_on_with_a_few(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_some(tierless)
    jobs = HeldJobs()
    jobs.holds = False
    always_another = itertools.count().__next__
    recompression = Recompression(
        tierless.cache.cache, BackgroundThread(jobs.submit, always_another)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse("all"))
        began = trio.current_time()
        while recompression.request.left:
            await wait_all_tasks_blocked()
            mock_clock.jump(background_thread._QUIET_S)
        took_s = trio.current_time() - began
        nursery.cancel_scope.cancel()
    assert jobs.count >= PAGES / background_thread._SMALL_BATCH
    assert took_s > (jobs.count - 1) * background_thread._PATIENCE_S
    assert codecs(tierless) == {ZSTD: PAGES}
    await tierless.check()


async def test_a_store_that_waits_needs_no_recompression(
    tierless: Tiered,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All segments are somebody else's to rewrite, but not while a store needs their room."""
    monkeypatch.setattr(tierless.device.recompression.policy, "is_due", lambda _: True)
    nursery.start_soon(tierless.writeback.run)
    last = tierless.fill()
    for page in range(0, last, 2):
        tierless.discard(page)
    await trio.sleep(1)  # it was hopeless a moment ago
    for page in range(0, last, 8):
        await tierless.write(page, dense(page + 7000))
    assert tierless.writeback.cleaner.statistics().segments_cleaned > 0
    await tierless.check()


async def test_a_shared_object_whose_first_page_has_gone_becomes_smaller_too(
    tiered: Tiered, mock_clock: MockClock
) -> None:
    store_some(tiered)
    for page in range(PAGES):
        tiered.store(1000 + page, page_of(page))
    assert tiered.cache.statistics().duplicate_pages > PAGES // 2
    tiered.discard(0, PAGES)
    make_old(tiered.log)
    await recompress(tiered.device.recompression)
    assert LZ4 not in codecs(tiered)
    await tiered.check()


async def test_none_ends_what_was_asked_for_at_once(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_some(tierless)
    recompression = tierless.device.recompression
    jobs = hold(tierless)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse("all"))
        await pass_time(1)
        assert jobs.held
        recompression.set_algorithm("none")
        jobs.let_go()
        await pass_time(3)
        nursery.cancel_scope.cancel()
    assert jobs.count == 1
    assert codecs(tierless) == {LZ4: PAGES}
    assert tierless.cache.statistics().tried_segments == 0
    await tierless.check()


async def once_there_is_memory(
    tierless: Tiered, monkeypatch: pytest.MonkeyPatch, lacking_s: float
) -> None:
    """All is recompressed then; nothing was, or was marked, while the patch said there is none."""
    recompression = tierless.device.recompression
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse("all"))
        await pass_time(lacking_s)
        assert recompression.thread.is_resting
        assert codecs(tierless) == {LZ4: PAGES}
        assert tierless.cache.statistics().tried_segments == 0
        monkeypatch.undo()
        await pass_time(6)
        nursery.cancel_scope.cancel()
    assert recompression.request.left == []
    assert codecs(tierless) == {ZSTD: PAGES}
    await tierless.check()


async def test_a_thread_without_memory_ends_nothing(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_some(tierless)

    failed = Failing()
    monkeypatch.setattr(Recompressor, "shrink", failed)
    await once_there_is_memory(tierless, monkeypatch, 12)
    assert 1 <= failed.call_count <= 3  # it pauses


async def test_a_segment_that_always_fails_does_not_keep_others_waiting(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_some(tierless, 2000)
    cursed = tierless.segment_of(0)
    shrink = Recompressor.shrink

    def fail(self: Recompressor, objects: Objects, stop: Callable[[], bool]) -> list[Packed | None]:
        if tierless.log.stored(tierless.cache.slots.get(PageNumber(0))) in [
            stored for _, stored in objects
        ]:
            raise MemoryError
        return shrink(self, objects, stop)

    monkeypatch.setattr(Recompressor, "shrink", fail)
    recompression = tierless.device.recompression
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse("all"))
        await pass_time(20)
        nursery.cancel_scope.cancel()
    assert recompression.request.left == [cursed]
    assert codecs(tierless)[ZSTD] > 1000
    await tierless.check()


@pytest.mark.parametrize("schedule", [TrainingSchedule(least_pages=100)])  # one is trained, too
async def test_no_memory_for_a_context_ends_nothing(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_some(tierless)

    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(zstandard, "ZstdCompressor", fail)
    monkeypatch.setattr(zstandard, "ZstdDecompressor", fail)
    await once_there_is_memory(tierless, monkeypatch, 3)
