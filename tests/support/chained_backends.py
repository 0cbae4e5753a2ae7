"""A worker with the memory of two raw backends, which come, are drained and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import find_parameter, set_parameter
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory
from tests.support.raw_memories import RawSlots

SLOTS = 40


class Chained:
    """A worker with the memory of two raw backends, and what it should hold."""

    def __init__(self, memory: SharedMemory, raws: dict[str, RawSlots]) -> None:
        self.device = Device(
            memory.attach(), memories={name: raw.map() for name, raw in raws.items()}
        )
        self.frontswap = self.device.frontswap

    def set(self, text: str) -> None:
        set_parameter(self.device, find_parameter("backends"), text)

    def fill(self, count: int) -> None:
        for page in range(count):
            self.frontswap.store(PageNumber(page), pages.incompressible(page))

    def check(self, count: int) -> None:
        for page in range(count):
            assert self.frontswap.load(PageNumber(page)) == pages.incompressible(page), page

    def names(self) -> list[str]:
        return [backend.name for backend in self.frontswap.links.backends]

    def held(self) -> dict[str, int]:
        return {backend.name: backend.stored_pages for backend in self.frontswap.links.backends}

    def progress(self) -> str:
        return self.device.backends.describe().splitlines()[-1]


@asynccontextmanager
async def running(worker: Chained) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.backends.run)
        yield
        nursery.cancel_scope.cancel()


def carry_out(worker: Chained, order: str) -> str:
    """Give an order and wait for its end; the progress then."""

    async def main() -> None:
        async with running(worker):
            worker.set(order)
            with trio.fail_after(60):
                while worker.progress().endswith("pages") and not ended(worker):
                    await trio.sleep(0.1)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return worker.progress()


def ended(worker: Chained) -> bool:
    draining = worker.device.backends._draining
    return draining is not None and (draining.is_done or bool(draining.error))
