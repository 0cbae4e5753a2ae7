"""Scenes of a backend that comes, has pages, and goes while the swap is on."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from tests.support import pages
from tests.support.crash_scenes.scene import change, in_place, scene, tierless, work
from tests.support.crashes import Scene
from tests.support.tiered_devices import Tiered, dense

_SLOTS = 20


def add_raw(worker: Tiered) -> None:
    """Register ``raw0``, first in the chain, unless a worker that died had done so."""
    if "raw0" not in names(worker):
        worker.device.backends.ask("add=raw0")


def names(worker: Tiered) -> list[str]:
    return [backend.name for backend in worker.device.frontswap.links.backends]


def with_raw(worker: Tiered) -> None:
    """Half of the pages are in ``raw0``, which is full then."""
    worker.memory.add_raw("raw0", _SLOTS)
    worker.device.backends.offer("raw0", worker.memory.memories()["raw0"])
    add_raw(worker)
    for page in range(2 * _SLOTS):
        worker.store(page, pages.incompressible(page))


async def drain(worker: Tiered) -> None:
    """Remove ``raw0``, unless that was done."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.backends.run)
        if "raw0" in names(worker):
            worker.device.backends.ask("remove=raw0")
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert "raw0" not in names(worker)


@tierless
def backend_that_comes(worker: Tiered) -> Scene:
    for page in range(10):
        worker.store(page, pages.compressible(page))
    worker.memory.add_raw("raw0", _SLOTS)
    worker.device.backends.offer("raw0", worker.memory.memories()["raw0"])
    made = change(worker, 0, dense(0), holes=True)

    async def act(worker: Tiered) -> None:
        add_raw(worker)
        await made.act(worker)

    return Scene(made.worker, act, made.after, made.holes)


@tierless
def backend_that_is_drained(worker: Tiered) -> Scene:
    with_raw(worker)
    return work(worker, drain)


@in_place
def backend_that_is_drained_to_places(worker: Tiered) -> Scene:
    with_raw(worker)

    async def act(worker: Tiered) -> None:
        worker.cache.encoder.max_compression_ratio = 50
        await drain(worker)

    return work(worker, act)


@tierless
def overwrite_in_raw_memory(worker: Tiered) -> Scene:
    """The new version goes to the cache: no slot is free."""
    with_raw(worker)
    return change(worker, 0, dense(0), holes=True)


@scene
def partial_in_raw_memory(worker: Tiered) -> Scene:
    with_raw(worker)
    worker.discard(1)
    return change(worker, 100, b"part")
