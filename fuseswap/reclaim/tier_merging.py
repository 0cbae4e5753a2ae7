"""Merging on a tier: sparse segments are read, and their live objects written again.

The task that does it makes room for stores, too.  So it waits `_PATIENCE_S` for a read, and
then leaves that tier alone for a while.
"""

from __future__ import annotations

import trio

from fuseswap.reclaim.destinations import Destinations
from fuseswap.reclaim.evictor import Evictor
from fuseswap.reclaim.segment_reader import SegmentReader
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.victims import LAST_RESORT_BYTES, SPARSE_BYTES
from fuseswap.tiers.tier_table import TierEntry, TierTable

_MERGES_AT_ONCE = 4
_SHORT_PERCENT = 5  # of the extents are free: sparse ones are merged
_PATIENCE_S = 2.0
_REST_S = 30.0


class TierMerging:
    """Makes room on ``tiers``, by ``cleaner``."""

    def __init__(
        self,
        segment_log: SegmentLog,
        tiers: TierTable,
        destinations: Destinations,
        cleaner: Cleaner,
        reader: SegmentReader,
        evictor: Evictor,
    ) -> None:
        self._tiers = tiers
        self._destinations = destinations
        self._log = segment_log
        self._cleaner = cleaner
        self._reader = reader
        self._evictor = evictor
        self._rests_until: dict[int, float] = {}  # by number of a tier

    def can_merge(self) -> bool:
        """Whether all tiers are full, but one of them not of live objects."""
        if self._destinations.has_room or not self._log.frames.has_spare or self._cleaner.busy:
            return False
        sparse = self._cleaner.victims.choose_on_tier
        return any(sparse(entry.number, LAST_RESORT_BYTES) for entry in self._kept())

    def _kept(self) -> list[TierEntry]:
        """Tiers that are there and not being emptied, the first written to first.

        Not those that have not answered.
        """
        now = trio.current_time()
        kept = [
            entry
            for entry in self._tiers
            if entry.tier is not None
            and not entry.policy.draining
            and not entry.health.is_late
            and self._rests_until.get(entry.number, 0.0) <= now
        ]
        return sorted(kept, key=lambda entry: -entry.policy.priority)

    async def merge(self, nursery: trio.Nursery) -> bool:
        """Where extents are short: read the sparsest segments and write what lives again.

        Not where segments can move on to a tier of a lower priority.  Whether there was one.
        """
        self._reader.take_back()
        merged = False
        for entry in self._kept():
            if not self._destinations.exist(below=entry.policy.priority):
                merged = await self._merge_on(entry, nursery) or merged
        return merged

    async def _merge_on(self, entry: TierEntry, nursery: trio.Nursery) -> bool:
        merged = False
        short = max(2, entry.most_segments * _SHORT_PERCENT // 100)
        for _ in range(_MERGES_AT_ONCE):
            if entry.available >= short or not self._log.frames.ensure_spare():
                break
            most_bytes = SPARSE_BYTES if entry.available else LAST_RESORT_BYTES
            segment = self._cleaner.victims.choose_on_tier(entry.number, most_bytes)
            if not segment or self._cleaner.busy:
                break
            ref = self._log.table.ref(segment)
            began = trio.current_time()
            stored = await self._reader.read(segment, patience_s=_PATIENCE_S)
            if stored and self._cleaner.is_worth_another_read(ref, stored):
                stored = await self._reader.read(segment, again=True, patience_s=_PATIENCE_S)
            if stored is None:
                if trio.current_time() - began >= _PATIENCE_S:
                    self._rests_until[entry.number] = trio.current_time() + _REST_S
                break
            merged = True
            if self._log.table.is_current(ref):
                self._cleaner.begin_on_tier(segment, stored)
                await self._evictor.finish(nursery)
        return merged
