"""A device with a fake tier, or a fake file of places, and a dict of what it should hold.

Four frames for stores, two for the cleaner, six extents.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.plugged import NOTHING_PLUGGED, Plugged
from fuseswap.reclaim.dictionary_policy import DEFAULT_SCHEDULE, TrainingSchedule
from fuseswap.store.geometry import Geometry
from fuseswap.store.page_reader import ZERO_PAGE
from fuseswap.store.segment_entry import SegmentState
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_word import is_foreign
from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.tiers.tier_table import TierEntry
from fuseswap.units import MIB, PAGE_SIZE, Location, PageNumber, SegmentId
from tests.support import pages
from tests.support.fake_tier import FakePlaceFile, FakeTier
from tests.support.log_invariants import StoredObject, check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory
from tests.support.recompressed_devices import at_once

STORE_FRAMES = 4
POOL_FRAMES = STORE_FRAMES + 2
EXTENTS = 6
TIERED = Geometry(page_count=4096, segment_count=8 + EXTENTS + 1, frame_count=8)


def dense(seed: int) -> bytes:
    """A page that only just compresses: 266 of them fill a segment."""
    return pages.nearly_incompressible(seed, 3900)


def extent_of(log: SegmentLog, segment: SegmentId) -> int:
    """Where ``segment`` is, which is on a tier."""
    where = log.table.location_of(segment)
    assert isinstance(where, Location)
    return where.extent


class Tiered:
    """One worker on ``memory`` and ``tier``; make another one for the next."""

    def __init__(
        self,
        memory: SharedMemory,
        tier: FakeTier | FakePlaceFile | None,
        *,
        lazy: bool = False,
        schedule: TrainingSchedule = DEFAULT_SCHEDULE,
        plugged: Plugged = NOTHING_PLUGGED,
    ) -> None:
        self.memory = memory
        self.tier = tier
        self.device = Device(
            memory.attach(),
            [tier] if isinstance(tier, FakeTier) else [],
            place_file=tier if isinstance(tier, FakePlaceFile) else None,
            lazy=lazy,
            submit=at_once,
            schedule=schedule,
            plugged=plugged,
            memories=memory.memories(),
        )
        self.cache = FrontedCache(self.device.frontswap, self.device.cache)
        self.log = self.cache.log
        self.writeback = self.device.writeback
        self.pending_io = self.device.pending_io
        if isinstance(tier, FakeTier) and tier.second is not None:
            self.device.tiers.register(tier.second)
        self.cache.pool_limit_bytes = POOL_FRAMES * MIB
        self.expected: dict[int, bytes] = {}

    @property
    def entry(self) -> TierEntry:
        """The tier that segments are written back to."""
        return next(iter(self.device.tiers))

    def store(self, page: int, data: bytes | None = None) -> None:
        """Store without waiting."""
        data = dense(page) if data is None else data
        self.device.swapfile.write(page * PAGE_SIZE, memoryview(data))
        self.expected[page] = data

    def discard(self, first: int, count: int = 1) -> None:
        self.device.swapfile.punch(first * PAGE_SIZE, count * PAGE_SIZE)
        for page in range(first, first + count):
            self.expected.pop(page, None)

    def fill(self, first: int = 0) -> int:
        """Store dense pages until one would have to wait, or is refused; return which."""
        for page in range(first, self.cache.page_count):
            try:
                self.store(page)
            except (Deferred, StoreRefused):
                return page
        raise AssertionError("never full")

    async def write(self, page: int, data: bytes | None = None) -> None:
        """Store, waiting as the transport would."""
        stored = dense(page) if data is None else data
        await self.write_at(page, 0, stored)

    async def write_at(self, page: int, start: int, data: bytes) -> None:
        """Change bytes of a page, waiting; what is expected changes as it is answered."""

        def begin(done: Callable[[Exception | None], None]) -> None:
            def answered(error: Exception | None) -> None:
                if error is None:
                    old = self.expected.get(page, ZERO_PAGE)
                    self.expected[page] = old[:start] + data + old[start + len(data) :]
                elif isinstance(error, StoreRefused):
                    self.expected.pop(page, None)
                done(error)

            at = page * PAGE_SIZE + start
            self.pending_io.begin_write(at, memoryview(data), answered)

        result_of(await await_callback(begin))

    async def read(self, page: int) -> bytes:
        return await self.pending_io.read(page * PAGE_SIZE, PAGE_SIZE)

    async def move_out(self, first: int = 0) -> list[int]:
        """Fill the pool and have half of it written back; return the pages on the tier."""
        self.writeback.accept_threshold_percent = 50
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writeback.run)
            await self.write(self.fill(first))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return self.on_tier()

    def segment_of(self, page: int) -> SegmentId:
        return StoredObject.of(page, self.cache.slots.get(PageNumber(page))).segment

    def pages_of(self, segment: SegmentId) -> list[int]:
        return [page for page in self.expected if self.segment_of(page) == segment]

    def on_tier(self) -> list[int]:
        """Stored pages whose segment is on the tier, in order."""
        state_of = self.log.table.state_of
        return [
            page
            for page in sorted(self.expected)
            if state_of(self.segment_of(page)) is SegmentState.ON_TIER
        ]

    def in_place(self) -> list[int]:
        """Stored pages that are in their places, in order."""
        get = self.cache.slots.get
        return [page for page in sorted(self.expected) if is_foreign(get(PageNumber(page)))]

    async def check(self) -> None:
        """All that was stored is there, and nothing else; the log is sound."""
        check_invariants(self.cache)
        for page, data in self.expected.items():
            try:
                found = self.device.frontswap.load(PageNumber(page))
            except TierLoad:
                found = await self.read(page)
            assert found == data, f"page {page}"
        assert self.cache.slots.stored_pages == len(self.expected)
        check_invariants(self.cache)

    async def read_hole(self, page: int) -> bool:
        return await self.read(page) == ZERO_PAGE and page not in self.expected
