"""A segment that is to move between memory and two tiers, and what may happen to it."""

from __future__ import annotations

import pytest
from trio.testing import wait_all_tasks_blocked

from fuseswap.reclaim.relocation import Outcome, Relocation
from fuseswap.store.segment_entry import Stream
from fuseswap.units import MIB, Location, SegmentId, SegmentRef
from tests.support.fake_tier import FakeTier
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import EXTENTS, Tiered, dense

TO_TIER, TO_MEMORY = "another tier", "memory"
each_way = pytest.mark.parametrize("way", [TO_TIER, TO_MEMORY])


class Moved:
    """A worker with two tiers, a segment on the first, and where that is to go."""

    def __init__(self, memory: SharedMemory) -> None:
        self.first, self.second = FakeTier(EXTENTS), FakeTier(EXTENTS, "second")
        self.first.second = self.second
        self.memory = memory
        self.worker = self.next_worker()

    def next_worker(self) -> Tiered:
        return Tiered(self.memory, self.first)

    async def prepare(self) -> SegmentRef:
        """Half of the pages are on the first tier; of one segment there."""
        await self.worker.move_out()
        self.worker.cache.pool_limit_bytes += 2 * MIB
        return self.ref()

    def ref(self) -> SegmentRef:
        table = self.worker.log.table
        return table.ref(self.worker.segment_of(self.worker.on_tier()[0]))

    def place(self, way: str) -> Location | None:
        _, second = self.worker.device.tiers
        return second.take() if way == TO_TIER else None

    @property
    def relocation(self) -> Relocation:
        return self.worker.device.relocation

    @property
    def in_use(self) -> list[int]:
        """Extents of each tier."""
        return [entry.extents.in_use for entry in self.worker.device.tiers]

    async def move(self, way: str) -> Outcome:
        return await self.relocation.relocate(self.ref(), self.place(way))

    def hold(self, *, reads: bool = False, writes: bool = False) -> None:
        self.first.hold_reads = self.second.hold_reads = reads
        self.first.hold_writes = self.second.hold_writes = writes
        self.first.cancellable = self.second.cancellable = False

    async def check(self) -> None:
        """Nothing is lost, and every extent and frame in use holds a segment."""
        self.hold()
        await self.worker.check()
        table = self.worker.log.table
        on_tiers = [table.on_tier(segment) for segment in table.segments()]
        numbers = [found[1].tier for found in on_tiers if found]
        assert self.in_use == [numbers.count(0), numbers.count(1)]


def kill(worker: Tiered, segment: SegmentId) -> None:
    for page in worker.pages_of(segment):
        worker.discard(page)


def use_again(worker: Tiered, segment: SegmentId) -> None:
    """The id is another segment's, sealed, in memory."""
    kill(worker, segment)
    for head in worker.log.heads:
        worker.log.seal(head)
    for page in range(2000, 2050):
        worker.store(page, dense(page))
    assert worker.segment_of(2000) == segment
    worker.log.seal(worker.log.heads[Stream.STORE])


async def finish(moved: Moved) -> None:
    """End what waits at the tiers, again and again."""
    moved.hold()
    for _ in range(3):
        for tier in (moved.first, moved.second):
            for operation in [*tier.reads, *tier.writes]:
                operation.finish()
        await wait_all_tasks_blocked()


class Result:
    def __init__(self) -> None:
        self.outcome: Outcome | OSError | None = None

    async def of(self, moved: Moved, ref: SegmentRef, to: Location | None) -> None:
        try:
            self.outcome = await moved.relocation.relocate(ref, to)
        except OSError as exc:
            self.outcome = exc
