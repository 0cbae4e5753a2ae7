"""Scenes of writeback, recompression and dictionaries."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.codecs.registry import CodecRegistry
from fuseswap.errors import StoreRefused
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import page_families, pages, recompressed_devices
from tests.support.crash_scenes.scene import (
    fill,
    scene,
    some_pages,
    tier_of,
    tierless,
    work,
    write_back,
)
from tests.support.crashes import Scene
from tests.support.foreign_codec import Deflate
from tests.support.memory_stores import set_patience
from tests.support.tiered_devices import Tiered, dense

# -- writeback ---------------------------------------------------------------------------


@scene
def writeback(worker: Tiered) -> Scene:
    for page in range(300):
        worker.store(page)
    return work(worker, write_back)


@scene
def recompression(worker: Tiered) -> Scene:
    for page in range(300):
        worker.store(page, pages.hexadecimal(page))
    return work(worker, write_back)


@scene
def writeback_of_loaded(worker: Tiered) -> Scene:
    """What was loaded is copied forward, the rest gathered."""
    for page in range(280):
        worker.store(page)
    for page in range(0, 280, 4):
        worker.cache.load(page)
    return work(worker, write_back)


@scene
def writeback_that_fails(worker: Tiered) -> Scene:
    for page in range(300):
        worker.store(page)

    async def fail(worker: Tiered) -> None:
        tier_of(worker).fail_writes = True
        await write_back(worker)
        tier_of(worker).fail_writes = False

    return work(worker, fail)


@scene
def writeback_of_what_dies(worker: Tiered) -> Scene:
    """Every page of a segment is discarded while it is written."""
    for page in range(300):
        worker.store(page)
    doomed = worker.pages_of(worker.segment_of(0))

    async def act(worker: Tiered) -> None:
        tier = tier_of(worker)
        tier.hold_writes = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.writeback.run)
            worker.writeback.ask(ReclaimRequest.parse("all"))
            await wait_all_tasks_blocked()
            worker.device.swapfile.punch(0, len(doomed) * PAGE_SIZE)
            tier.hold_writes = False
            for operation in list(tier.writes):
                operation.finish()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    after = {page: data for page, data in worker.expected.items() if page not in doomed}
    return Scene(worker, act, after)


@scene
def store_that_waits(worker: Tiered) -> Scene:
    """The pool is full: a segment leaves, then the page is stored."""
    page = fill(worker)

    async def act(worker: Tiered) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.writeback.run)
            await worker.pending_io.write(page * PAGE_SIZE, memoryview(dense(page)))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    return Scene(worker, act, {**worker.expected, page: dense(page)})


# -- recompression -----------------------------------------------------------------------


async def recompress(worker: Tiered) -> None:
    await recompressed_devices.recompress(worker.device.recompression)


def some_cold(worker: Tiered, count: int = 40) -> None:
    """Pages that a dictionary makes smaller, others that zstd does, and what nothing does."""
    for page in range(0, count, 2):
        worker.store(page, pages.related(page))
        worker.store(page + 1, pages.hexadecimal(page + 1))
    worker.store(count, pages.incompressible(count))
    worker.store(count + 1, pages.filled(pages.FITS_NOT))


@scene
def recompression_of_cold(worker: Tiered) -> Scene:
    some_cold(worker)
    return work(worker, recompress)


@scene
def recompression_with_a_dictionary(worker: Tiered) -> Scene:
    some_cold(worker)

    async def act(worker: Tiered) -> None:
        worker.cache.dictionaries.add(recompressed_devices.DICTIONARY)
        await recompress(worker)

    return work(worker, act)


@scene
def recompression_that_gains_nothing(worker: Tiered) -> Scene:
    for page in range(20):
        worker.store(page)
    return work(worker, recompress)


@tierless
def recompression_in_a_full_pool(worker: Tiered) -> Scene:
    """The last frame is taken, and comes back."""
    worker.cache.pool_limit_bytes = 3 * MIB
    set_patience(worker.device.frontswap, None)
    for page in range(1200):
        try:
            worker.store(page, pages.hexadecimal(page))
        except StoreRefused:
            break
    for page in range(20, 1200):
        if page % 50:
            worker.discard(page)
    return work(worker, recompress)


@scene
def dictionary_that_goes(worker: Tiered) -> Scene:
    """Of two, the old one is not needed."""
    dictionaries = worker.cache.dictionaries
    dictionaries.add(b"no page is like this" * 100)
    dictionaries.add(recompressed_devices.DICTIONARY)
    some_cold(worker)
    return work(worker, recompress)


async def turn_over(worker: Tiered) -> None:
    """An old dictionary goes, and another takes its place and gets pages."""
    worker.device.recompression.retirement._next_look = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.recompression.run)
        await recompressed_devices.pass_time(2)
        nursery.cancel_scope.cancel()
    for page in range(900, 906):
        worker.store(page, page_families.page_of(3, page))
    (current, *others) = sorted(worker.cache.dictionaries.all, key=lambda one: -one.number)
    assert current.number == 1
    if not others:
        added = worker.cache.dictionaries.add(page_families.dictionary_for(3))
        assert added is not None
        assert added.number == 0
    await recompress(worker)


def with_an_old_dictionary(worker: Tiered, *, on_tier: bool) -> Scene:
    """A few pages need it, on the tier or not, and no more would need the one in use."""

    async def prepare(worker: Tiered) -> None:
        old = pages.incompressible(1) * 8 + page_families.dictionary_for(0)
        await page_families.compress_with(worker, old, 0, range(6))
        if on_tier:
            await write_back(worker)
        await page_families.compress_with(
            worker, page_families.dictionary_for(0, 1), 1, range(100, 106)
        )

    trio.run(prepare, worker, clock=MockClock())
    assert worker.on_tier() == (list(range(6)) if on_tier else [])
    after = dict(worker.expected)
    after.update((page, page_families.page_of(3, page)) for page in range(900, 906))
    return Scene(worker, turn_over, after)


@tierless
def retirement_of_dictionaries(worker: Tiered) -> Scene:
    return with_an_old_dictionary(worker, on_tier=False)


@scene
def retirement_of_a_dictionary_on_the_tier(worker: Tiered) -> Scene:
    return with_an_old_dictionary(worker, on_tier=True)


async def register(worker: Tiered) -> None:
    state = worker.device.state
    assert CodecRegistry.of(state, [Deflate()]).missing == {}


@tierless
def registration_of_a_codec(worker: Tiered) -> Scene:
    some_pages(worker)
    return work(worker, register)


@scene
def writeback_of_pages_with_dictionaries(worker: Tiered) -> Scene:
    """Two of them, and all pages in one segment."""

    async def prepare(worker: Tiered) -> None:
        for family in range(2):
            pages = range(10 * family, 10 * family + 6)
            data = page_families.dictionary_for(family)
            await page_families.compress_with(worker, data, family, pages)

    trio.run(prepare, worker, clock=MockClock())
    return work(worker, write_back)
