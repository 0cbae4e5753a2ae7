"""Recompression of cold pages: which, when, how far, and what it does not do."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.codecs.registry import LZ4, RAW, ZSTD
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.plans import Rewrite
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import REFERENCED
from fuseswap.units import PageNumber, page_range
from tests.support import pages
from tests.support.cold_pages import PAGES, codecs, hold, page_of, run_for, store_some
from tests.support.log_invariants import StoredObject
from tests.support.recompressed_devices import finish, make_old, pass_time, recompress
from tests.support.tiered_devices import STORE_FRAMES, Tiered

pytestmark = pytest.mark.slow

# -- by age ------------------------------------------------------------------------------


async def test_what_is_old_becomes_smaller(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless)
    before = tierless.cache.statistics().compr_data_size
    make_old(tierless.log)
    await run_for(tierless, 3)
    assert codecs(tierless) == {ZSTD: PAGES}
    assert tierless.cache.statistics().compr_data_size < before * 2 / 3
    now = tierless.device.cleaned()
    assert now.recompressed_pages == PAGES
    assert {tierless.log.table.stream_of(s) for s in tierless.log.table.segments()} == {
        Stream.RECOMPRESSED
    }
    await tierless.check()


async def test_what_is_young_or_open_is_left_alone(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless)
    make_old(tierless.log, seconds=50)
    for page in range(PAGES, PAGES + 10):
        tierless.store(page, page_of(page))
    await run_for(tierless, 3)
    assert codecs(tierless) == {LZ4: PAGES + 10}


@pytest.mark.parametrize(("age_s", "algorithm"), [(0, "zstd:6"), (60, "none")])
async def test_it_can_be_switched_off(
    tierless: Tiered, age_s: int, algorithm: str, mock_clock: MockClock
) -> None:
    tierless.device.recompression.policy.age_seconds = age_s
    tierless.device.recompression.set_algorithm(algorithm)
    store_some(tierless)
    make_old(tierless.log)
    await run_for(tierless, 3)
    assert codecs(tierless) == {LZ4: PAGES}


async def test_what_was_recompressed_is_not_looked_at_again(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_some(tierless)
    make_old(tierless.log)
    jobs = hold(tierless, holds=False)
    await run_for(tierless, 3)
    done = jobs.count
    make_old(tierless.log)
    await run_for(tierless, 10)
    assert jobs.count == done > 0


# -- hot pages ---------------------------------------------------------------------------


async def test_a_hot_segment_is_spared_and_looked_at_again(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    recompression = tierless.device.recompression
    store_some(tierless)
    make_old(tierless.log)
    for page in range(0, PAGES, 4):
        for loaded in (page, page + 1, page + 2):
            tierless.cache.load(loaded)
    jobs = hold(tierless, holds=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        await pass_time(2)
        assert (codecs(tierless), jobs.count) == ({LZ4: PAGES}, 0)
        assert not any(tierless.cache.slots.get(page) & REFERENCED for page in page_range(0, PAGES))
        for page in range(200):  # still hot when it is looked at again
            tierless.cache.load(page)
        await pass_time(recompression.policy.age_seconds)
        assert (codecs(tierless), jobs.count) == ({LZ4: PAGES}, 0)
        await pass_time(recompression.policy.age_seconds + 2)
        assert codecs(tierless) == {ZSTD: PAGES}
        nursery.cancel_scope.cancel()
    await tierless.check()


async def test_others_have_their_turns_between_hot_segments(
    tierless: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """Looking at one takes half a millisecond, and there may be thousands."""
    recompression = tierless.device.recompression
    for page in range(tierless.fill()):
        tierless.cache.load(page)
    make_old(tierless.log)
    looked_at = [0]

    async def watch() -> None:
        while looked_at[-1] < STORE_FRAMES:
            await trio.lowlevel.checkpoint()
            looked_at.append(len(recompression.policy._spared))

    nursery.start_soon(recompression.run)
    await wait_all_tasks_blocked()
    nursery.start_soon(watch)
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    assert looked_at[-1] >= STORE_FRAMES
    assert all(now - before <= 2 for before, now in itertools.pairwise(looked_at))


async def test_the_hot_ones_among_cold_stay_as_they_are(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_some(tierless)
    make_old(tierless.log)
    hot = range(0, PAGES, 5)
    for page in hot:
        tierless.cache.load(page)
    await run_for(tierless, 3)
    assert codecs(tierless) == {LZ4: len(hot), ZSTD: PAGES - len(hot)}
    streams = {tierless.log.table.stream_of(tierless.segment_of(page)) for page in hot}
    assert streams == {Stream.SURVIVORS}
    await tierless.check()


async def test_what_was_asked_for_is_taken_hot_or_not(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_some(tierless)
    for page in range(PAGES):
        tierless.cache.load(page)
    await recompress(tierless.device.recompression)
    assert codecs(tierless) == {ZSTD: PAGES}
    await tierless.check()


async def test_a_segment_of_shared_objects_is_not_taken_for_a_hot_one(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """The directory knows the first page of an object, and most of those have gone."""
    find_parameter("dedup").set(tierless.device, "on")
    store_some(tierless)
    for page in range(PAGES):
        tierless.store(1000 + page, page_of(page))
    assert tierless.cache.statistics().duplicate_pages > PAGES * 2 // 3
    tierless.discard(0, PAGES * 2 // 3)
    make_old(tierless.log)
    await run_for(tierless, 5)
    assert codecs(tierless)[ZSTD] > PAGES // 3
    await tierless.check()


# -- what gains nothing ------------------------------------------------------------------


async def test_a_segment_that_gains_nothing_is_marked_for_all_time(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    for page in range(PAGES):
        tierless.store(page)
    make_old(tierless.log)
    segments = tierless.log.table.segments()
    jobs = hold(tierless, holds=False)
    await run_for(tierless, 3)
    assert all(tierless.log.table.is_marked(segment, Mark.TRIED) for segment in segments)
    assert tierless.log.table.segments() == segments
    assert jobs.count == len(segments)  # a few pages of each, and not the others
    await run_for(tierless, 70)
    await recompress(tierless.device.recompression)
    assert jobs.count == len(segments)
    following = Tiered(tierless.memory, None)
    jobs = hold(following, holds=False)
    await run_for(following, 3)
    assert jobs.count == 0
    await tierless.check()


async def test_marks_go_with_the_segment(tierless: Tiered, mock_clock: MockClock) -> None:
    for page in range(PAGES):
        tierless.store(page)
    await recompress(tierless.device.recompression)
    marked = tierless.log.table.segments()
    tierless.discard(0, PAGES)
    store_some(tierless, 600)
    assert set(marked) & set(tierless.log.table.segments())
    await recompress(tierless.device.recompression)
    assert codecs(tierless) == {ZSTD: 600}


async def test_corrupt_pages_are_left_as_they_are(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless)
    for page in (0, 7, PAGES - 1):
        found = StoredObject.of(page, tierless.cache.slots.get(PageNumber(page)))
        at = tierless.log.table.bases[found.segment] + found.offset + 100
        tierless.device.state.arena.buffer[at] ^= 4
    await recompress(tierless.device.recompression)
    assert codecs(tierless) == {ZSTD: PAGES - 3, LZ4: 3}
    for page in (0, 7, PAGES - 1):
        with pytest.raises(Exception, match="checksum mismatch"):
            tierless.cache.load(page)
        del tierless.expected[page]
        tierless.cache.invalidate_page(page)
    await tierless.check()


async def test_pages_kept_raw_are_tried_too(tierless: Tiered, mock_clock: MockClock) -> None:
    """A page that was not tried when it was stored, since its older version did not compress."""
    for page in range(100):
        tierless.store(page, pages.incompressible(page))
    for page in range(100):
        tierless.store(page, page_of(page))
    assert codecs(tierless) == {RAW + 1: 100}
    await recompress(tierless.device.recompression)
    assert codecs(tierless) == {ZSTD: 100}
    await tierless.check()


# -- on demand ---------------------------------------------------------------------------


async def test_a_demand_tells_how_far_it_is(tierless: Tiered, mock_clock: MockClock) -> None:
    recompression = tierless.device.recompression
    store_some(tierless, 2500)
    jobs = hold(tierless)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse("all"))
        total = len(tierless.log.table.segments())
        assert total > 2
        await pass_time(1)
        assert str(recompression.request) == f"all: 0 of {total} segments"
        while str(recompression.request) != f"all: 1 of {total} segments":
            jobs.run()
            await pass_time(0.5)
        jobs.let_go()
        await finish(recompression)
        assert str(recompression.request) == f"all: {total} of {total} segments"
        nursery.cancel_scope.cancel()
    assert codecs(tierless) == {ZSTD: 2500}


async def test_a_demand_for_what_is_idle(tierless: Tiered, mock_clock: MockClock) -> None:
    store_some(tierless)
    make_old(tierless.log)
    for page in range(PAGES, 2 * PAGES):
        tierless.store(page, page_of(page))
    await recompress(tierless.device.recompression, "idle=90")
    assert codecs(tierless) == {ZSTD: PAGES, LZ4: PAGES}


@pytest.mark.parametrize("wanted", ["incompressible", "idle", "everything"])
def test_what_cannot_be_asked_for(tierless: Tiered, wanted: str) -> None:
    with pytest.raises(InvalidArgument, match=f"'{wanted}'"):
        tierless.device.recompression.ask(ReclaimRequest.parse(wanted))
    assert str(tierless.device.recompression.request) == "idle"


def test_without_an_algorithm_nothing_can_be_asked_for(tierless: Tiered) -> None:
    tierless.device.recompression.set_algorithm("none")
    with pytest.raises(InvalidArgument, match="recomp_algorithm is none"):
        tierless.device.recompression.ask(ReclaimRequest.parse("all"))


# -- room --------------------------------------------------------------------------------


async def test_a_segment_given_up_is_not_in_line_twice(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """Two writes of one segment would each flip its location."""
    store_some(tierless)
    make_old(tierless.log)
    (segment,) = tierless.log.table.segments()
    copier = tierless.device.recompression.copier
    copier.begin(Rewrite.of(tierless.log, segment, {}))
    copier.give_up()
    queue = tierless.log.eviction_queue
    assert (queue.pop(), queue.pop()) == (segment, 0)
