"""Merging on the tier: sparse segments are read, and their live objects written again."""

from __future__ import annotations

import trio

from fuseswap.reclaim.evictor import Evictor
from fuseswap.reclaim.segment_reader import SegmentReader
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.victims import LAST_RESORT_BYTES, SPARSE_BYTES
from fuseswap.tiers.extent_pool import ExtentPool

_MERGES_AT_ONCE = 4
_SHORT_PERCENT = 5  # of the extents are free: sparse ones are merged


class TierMerging:
    """Makes room on the tier, by ``cleaner``."""

    def __init__(
        self,
        segment_log: SegmentLog,
        extents: ExtentPool,
        cleaner: Cleaner,
        reader: SegmentReader,
        evictor: Evictor,
    ) -> None:
        """``extents``: of the tier."""
        self._extents = extents
        self._log = segment_log
        self._cleaner = cleaner
        self._reader = reader
        self._evictor = evictor

    def can_merge(self) -> bool:
        """Whether the tier is full, but not of live objects."""
        if self._extents.available or not self._log.frames.has_spare:
            return False
        sparse = self._cleaner.victims.choose_on_tier
        return not self._cleaner.busy and sparse(LAST_RESORT_BYTES) != 0

    async def merge(self, nursery: trio.Nursery) -> bool:
        """While extents are short: read the sparsest segments and write what lives again.

        Whether there was one.
        """
        extents = self._extents
        self._reader.take_back()
        merged = False
        short = max(2, extents.extent_count * _SHORT_PERCENT // 100)
        for _ in range(_MERGES_AT_ONCE):
            if extents.available >= short or not self._log.frames.ensure_spare():
                break
            most_bytes = SPARSE_BYTES if extents.available else LAST_RESORT_BYTES
            segment = self._cleaner.victims.choose_on_tier(most_bytes)
            if not segment or self._cleaner.busy:
                break
            ref = self._log.table.ref(segment)
            stored = await self._reader.read(segment)
            if stored and self._cleaner.is_worth_another_read(ref, stored):
                stored = await self._reader.read(segment, again=True)
            if stored is None:
                break
            merged = True
            if self._log.table.is_current(ref):
                self._cleaner.begin_on_tier(segment, stored)
                await self._evictor.finish(nursery)
        return merged
