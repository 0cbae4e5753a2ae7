"""Scenes of the in-place layout, the cleaner and the sweep for duplicates."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.crash_scenes.scene import (
    change,
    in_place,
    punch,
    scene,
    some_pages,
    tier_of,
    tierless,
    work,
    write_back,
)
from tests.support.crashes import Scene, SharedPlaces
from tests.support.tiered_devices import Tiered, dense, extent_of

# -- in place ----------------------------------------------------------------------------


def refusing(made: Scene) -> Scene:
    """The same, and a dense page goes to its place."""

    async def act(worker: Tiered) -> None:
        worker.cache.encoder.max_compression_ratio = 50
        await made.act(worker)

    return Scene(made.worker, act, made.after, made.holes)


def evicted(worker: Tiered) -> None:
    """Two runs of pages, of which nothing is left in memory."""
    for page in (*range(20), 500, 501):
        worker.store(page)
    trio.run(write_back, worker, clock=MockClock())
    assert worker.in_place() == sorted(worker.expected)


@in_place
def eviction_in_place(worker: Tiered) -> Scene:
    for page in (*range(20), 500, 501):
        worker.store(page)
    worker.cache.load(3)
    return work(worker, write_back)


@in_place
def eviction_in_place_that_fails(worker: Tiered) -> Scene:
    for page in range(30):  # few enough to be looked at in one turn: tasks take turns in any order
        worker.store(page)

    async def fail(worker: Tiered) -> None:
        assert isinstance(worker.tier, SharedPlaces)
        worker.tier.fail_writes = True
        await write_back(worker)
        worker.tier.fail_writes = False

    return work(worker, fail)


@in_place
def eviction_of_what_has_a_copy(worker: Tiered) -> Scene:
    worker.store(50)

    async def act(worker: Tiered) -> None:
        assert worker.device.place is not None
        worker.device.place.writethrough = True
        for page in range(5):
            await worker.pending_io.write(page * PAGE_SIZE, memoryview(dense(page)))
        await write_back(worker)

    after = {**worker.expected, **{page: dense(page) for page in range(5)}}
    return Scene(worker, act, after)


@in_place
def store_to_a_place_in_new_cluster(worker: Tiered) -> Scene:
    some_pages(worker)
    return refusing(change(worker, 600 * PAGE_SIZE, dense(600)))


@in_place
def overwrite_that_goes_to_its_place(worker: Tiered) -> Scene:
    some_pages(worker)
    return refusing(change(worker, 0, dense(90), holes=True))


@in_place
def overwrite_of_page_in_its_place(worker: Tiered) -> Scene:
    evicted(worker)
    return refusing(change(worker, 0, dense(90) + dense(91), holes=True))


@in_place
def store_of_page_in_its_place(worker: Tiered) -> Scene:
    evicted(worker)
    return change(worker, 0, dense(90), holes=True)


@in_place
def partial_of_page_in_its_place(worker: Tiered) -> Scene:
    evicted(worker)
    return refusing(change(worker, 100, b"part"))


@in_place
def discard_of_pages_in_their_places(worker: Tiered) -> Scene:
    evicted(worker)
    return punch(worker, 18 * PAGE_SIZE, 600 * PAGE_SIZE)


# -- cleaner -----------------------------------------------------------------------------


async def clean(worker: Tiered) -> None:
    while worker.writeback.cleaner.step():
        pass


@tierless
def cleaning(worker: Tiered) -> Scene:
    for page in range(600):
        worker.store(page)
    for page in range(600):
        if page % 5:
            worker.discard(page)
    return work(worker, clean)


@tierless
def cleaning_of_duplicates(worker: Tiered) -> Scene:
    for page in range(600):
        worker.store(page, dense(page // 2))
    for page in range(600):
        if page % 10 not in (0, 3, 6, 7):  # first, second, both of a pair
            worker.discard(page)
    return work(worker, clean)


async def sweep(worker: Tiered) -> None:
    merger = worker.device.sweep.merger
    while merger.busy:
        merger.step()


def unmerged(worker: Tiered) -> None:
    """Pairs that nobody looked for, far apart, of which some compress better than their twins."""
    worker.cache.dedup.set_switch("off")
    for page in range(20):
        worker.store(page, pages.compressible(page))
    worker.cache.encoder.set_compressor("zstd:9")
    for page in range(10):
        worker.store(page + 10 * (page % 2), pages.compressible(page + 10 * (page % 2)))
    for page in range(20):
        worker.store(600 + page, pages.compressible(page))
    worker.cache.dedup.set_switch("on")


@scene
def merging(worker: Tiered) -> Scene:
    unmerged(worker)
    return work(worker, sweep)


@tierless
def merging_of_the_last_in_a_segment(worker: Tiered) -> Scene:
    unmerged(worker)
    for head in worker.log.heads:
        worker.log.seal(head)
    worker.cache.dedup.set_switch("off")
    worker.store(700, pages.compressible(3))
    worker.cache.dedup.set_switch("on")
    return work(worker, sweep)


@scene
def writeback_of_duplicates(worker: Tiered) -> Scene:
    for page in range(600):
        worker.store(page, dense(page // 2))
    for page in range(0, 600, 8):
        worker.cache.load(page)
    return work(worker, write_back)


@in_place
def eviction_of_duplicates_in_place(worker: Tiered) -> Scene:
    for page in range(40):
        worker.store(page, dense(page // 4))
    return work(worker, write_back)


@scene
def cleaning_of_extent(worker: Tiered) -> Scene:
    on_tier = trio.run(worker.move_out)
    for page in on_tier:
        if page % 6:
            worker.discard(page)

    async def act(worker: Tiered) -> None:
        cleaner = worker.writeback.cleaner
        segment = cleaner.victims.choose_on_tier(0)
        if segment:
            extent = extent_of(worker.log, segment)
            cleaner.begin_on_tier(segment, bytes(tier_of(worker).extents[extent]))
            await clean(worker)

    return work(worker, act)
