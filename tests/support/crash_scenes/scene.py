"""A scene of a crash: how one is written down, and what most of them begin with."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import StoreRefused
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.crashes import Act, Scene, SharedTier
from tests.support.fake_tier import FakeTier
from tests.support.tiered_devices import Tiered

SCENES: dict[str, Callable[[Tiered], Scene]] = {}
TIERLESS: set[str] = set()
IN_PLACE: set[str] = set()
TWO_TIERS: set[str] = set()


def scene(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    SCENES[make.__name__] = make
    return make


def tierless(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    TIERLESS.add(make.__name__)
    return scene(make)


def in_place(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    IN_PLACE.add(make.__name__)
    return scene(make)


def two_tiers(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    TWO_TIERS.add(make.__name__)
    return scene(make)


def some_pages(worker: Tiered) -> None:
    """Ten of each kind, in one cluster."""
    for page in range(10):
        worker.store(page, pages.compressible(page))
        worker.store(10 + page, pages.filled(1 + page))
        worker.store(20 + page, pages.incompressible(page))


def fill(worker: Tiered) -> int:
    """Until a store would wait or is refused; which."""

    async def fill() -> int:
        return worker.fill()

    return trio.run(fill, clock=MockClock())


def change(
    worker: Tiered, offset: int, data: bytes, *, holes: bool = False, refused: bool = False
) -> Scene:
    """A write of ``data`` at ``offset``."""

    async def write(worker: Tiered) -> None:
        try:
            await worker.pending_io.write(offset, memoryview(data))
        except StoreRefused:
            assert refused
        else:
            assert not refused

    after = dict(worker.expected)
    for page in range(offset // PAGE_SIZE, -(-(offset + len(data)) // PAGE_SIZE)):
        old = bytearray(after.get(page, pages.ZERO))
        start, end = max(offset, page * PAGE_SIZE), min(offset + len(data), (page + 1) * PAGE_SIZE)
        piece = data[start - offset : end - offset]
        old[start % PAGE_SIZE : start % PAGE_SIZE + len(piece)] = piece
        after[page] = bytes(old)
        if refused or (len(piece) < PAGE_SIZE and after[page] == pages.ZERO):
            del after[page]
    return Scene(worker, write, after, holes)


def punch(worker: Tiered, offset: int, size: int) -> Scene:
    async def discard(worker: Tiered) -> None:
        await worker.pending_io.punch(offset, size)

    after = dict(worker.expected)
    for page in list(after):
        start, end = page * PAGE_SIZE, (page + 1) * PAGE_SIZE
        first, last = max(start, offset), min(end, offset + size)
        if first < last:
            old = after.pop(page)
            left = old[: first - start] + bytes(last - first) + old[last - start :]
            if any(left):
                after[page] = left
    return Scene(worker, discard, after)


def work(worker: Tiered, act: Act) -> Scene:
    """Something nobody asked for, and nobody may notice."""
    return Scene(worker, act, dict(worker.expected))


@scene
def discard(worker: Tiered) -> Scene:
    some_pages(worker)
    return punch(worker, 5 * PAGE_SIZE, 20 * PAGE_SIZE)


async def write_back(worker: Tiered) -> None:
    """All of it, as far as it goes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.writeback.run)
        worker.writeback.ask(ReclaimRequest.parse("all"))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def tier_of(worker: Tiered) -> FakeTier:
    assert isinstance(worker.tier, SharedTier)
    return worker.tier
