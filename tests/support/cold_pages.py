"""Pages that recompression makes smaller, a clock that lets it, and a thread that fails."""

from __future__ import annotations

from collections import Counter

import trio

from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.log_invariants import StoredObject
from tests.support.recompressed_devices import HeldJobs, pass_time
from tests.support.tiered_devices import Tiered

PAGES = 300


def page_of(seed: int) -> bytes:
    """lz4 leaves 1100 bytes of it, zstd 600."""
    return pages.hexadecimal(seed, 1024)


def store_some(worker: Tiered, count: int = PAGES) -> None:
    for page in range(count):
        worker.store(page, page_of(page))


def codecs(worker: Tiered) -> Counter[int]:
    get = worker.cache.slots.get
    return Counter(StoredObject.of(page, get(PageNumber(page))).codec for page in worker.expected)


async def run_for(worker: Tiered, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.recompression.run)
        await pass_time(seconds)
        nursery.cancel_scope.cancel()


def hold(worker: Tiered, *, holds: bool = True) -> HeldJobs:
    jobs = HeldJobs()
    jobs.holds = holds
    worker.device.recompression.thread._submit = jobs.submit
    return jobs
