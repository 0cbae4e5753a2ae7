"""Scenes of loads, discards, attaching and counting."""

from __future__ import annotations

import contextlib

import trio

from fuseswap.store.segment_entry import Stream
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.crash_scenes.scene import (
    change,
    punch,
    scene,
    some_pages,
    tier_of,
    two_tiers,
    work,
)
from tests.support.crashes import Scene
from tests.support.sealed_segments import all_sealed
from tests.support.tiered_devices import Tiered, dense

# -- loads and discards ----------------------------------------------------------------


@scene
def load(worker: Tiered) -> Scene:
    some_pages(worker)

    async def read(worker: Tiered) -> None:
        await worker.pending_io.read(0, 30 * PAGE_SIZE)

    return work(worker, read)


@scene
def discard_of_clusters(worker: Tiered) -> Scene:
    """Of three, two are released."""
    for page in (0, 510, 511, 512, 800, 1023, 1024, 1100, 1600):
        worker.store(page, pages.compressible(page))
    return punch(worker, 510 * PAGE_SIZE, 1000 * PAGE_SIZE)


@scene
def discard_with_edges(worker: Tiered) -> Scene:
    some_pages(worker)
    return punch(worker, 100, 3 * PAGE_SIZE)


@scene
def discard_of_last_in_segment(worker: Tiered) -> Scene:
    worker.store(0)
    worker.log.seal(worker.log.heads[Stream.STORE])
    worker.store(1)
    return punch(worker, 0, PAGE_SIZE)


@scene
def discard_of_all(worker: Tiered) -> Scene:
    """The open segment goes too."""
    some_pages(worker)
    return punch(worker, 0, 4096 * PAGE_SIZE)


@scene
def discard_of_extent(worker: Tiered) -> Scene:
    on_tier = trio.run(worker.move_out)
    for page in on_tier[1:]:
        worker.discard(page)
    return punch(worker, on_tier[0] * PAGE_SIZE, PAGE_SIZE)


# -- relocation ------------------------------------------------------------------------


def on_first_tier(worker: Tiered) -> Scene:
    """Segments on the first tier, which `relocate_all` moves, and room for them in memory."""
    trio.run(worker.move_out)
    for segment in all_sealed(worker.log.table):
        for page in worker.pages_of(segment):
            worker.discard(page)
    for page in worker.on_tier()[::3]:
        worker.discard(page)
    return work(worker, relocate_all)


async def relocate_all(worker: Tiered) -> None:
    """From the first tier to the second, or into memory where there is none."""
    table = worker.log.table
    entries = list(worker.device.tiers)
    for segment in table.segments():
        found = table.on_tier(segment)
        if found is None or found[1].tier != 0:
            continue
        to = entries[1].take() if len(entries) > 1 else None
        await worker.device.relocation.relocate(found[0], to)


@two_tiers
def relocation_to_another_tier(worker: Tiered) -> Scene:
    return on_first_tier(worker)


@two_tiers
def relocation_that_cannot_be_written(worker: Tiered) -> Scene:
    async def fail(worker: Tiered) -> None:
        second = tier_of(worker).second
        assert second is not None
        second.fail_writes = True
        with contextlib.suppress(OSError):
            await relocate_all(worker)
        second.fail_writes = False

    on_first_tier(worker)
    return work(worker, fail)


@scene
def relocation_into_memory(worker: Tiered) -> Scene:
    return on_first_tier(worker)


# -- attaching and parameters ----------------------------------------------------------


@scene
def attaching(worker: Tiered) -> Scene:
    trio.run(worker.move_out)
    worker.discard(0, 512)
    some_pages(worker)

    async def attach(worker: Tiered) -> None:
        Tiered(worker.memory, tier_of(worker))

    return work(worker, attach)


@scene
def setting_a_policy(worker: Tiered) -> Scene:
    trio.run(worker.move_out)

    async def set_it(worker: Tiered) -> None:
        worker.device.set_tier_policy("fake", ["limit=3M"])

    return work(worker, set_it)


def uncounted(worker: Tiered) -> Tiered:
    """The next worker, which has not counted what ``worker`` stored."""
    trio.run(worker.move_out)
    # How many are left in memory depends on whose turn it was; nobody makes room in these scenes.
    for segment in all_sealed(worker.log.table):
        for page in worker.pages_of(segment):
            worker.discard(page)
    some_pages(worker)
    following = Tiered(worker.memory, tier_of(worker), lazy=True)
    following.expected = dict(worker.expected)
    return following


@scene
def counting(worker: Tiered) -> Scene:
    async def count(worker: Tiered) -> None:
        while worker.cache.adopt_some(1):
            pass

    return work(uncounted(worker), count)


@scene
def overwrite_before_it_is_counted(worker: Tiered) -> Scene:
    return change(uncounted(worker), 3 * PAGE_SIZE, dense(9003), holes=True)


def uncounted_duplicates(worker: Tiered) -> Tiered:
    for page in range(0, 4096, 100):
        worker.store(page, pages.compressible(page // 200))
    return uncounted(worker)


@scene
def counting_of_duplicates(worker: Tiered) -> Scene:
    async def count(worker: Tiered) -> None:
        while worker.cache.adopt_some(1):
            pass

    return work(uncounted_duplicates(worker), count)


@scene
def overwrite_of_a_duplicate_before_it_is_counted(worker: Tiered) -> Scene:
    return change(uncounted_duplicates(worker), 3600 * PAGE_SIZE, dense(9003), holes=True)


@scene
def discard_before_it_is_counted(worker: Tiered) -> Scene:
    return punch(uncounted(worker), 500 * PAGE_SIZE, 600 * PAGE_SIZE)
