"""Writes of whole segments to the tier.  ``evictor.py`` decides which, and when.

One task a segment, which relocates it (``reclaim/relocation.py``) and keeps the account.  A
segment whose write fails stays in memory, first in line.
"""

from __future__ import annotations

import trio

from fuseswap.reclaim.relocation import Outcome, Relocation
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.reclaim.writes_in_flight import WritesInFlight
from fuseswap.store.segment_log import SegmentLog
from fuseswap.tiers.tier_table import TierEntry
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES, Location, SegmentId, SegmentRef


class SegmentWriter:
    """Segments of ``segment_log`` on their way from memory to a tier."""

    def __init__(
        self,
        segment_log: SegmentLog,
        tier: TierEntry,
        relocation: Relocation,
        account: WriteAccount,
        in_flight: WritesInFlight,
        counters: WritebackStatistics,
    ) -> None:
        """``tier`` is the one that they go to."""
        self._log = segment_log
        self._tier = tier
        self._relocation = relocation
        self._account = account
        self._in_flight = in_flight
        self._counters = counters

    @property
    def units_taken(self) -> int:
        """Space that segments take on the tier, in units of 4096 bytes."""
        return self._tier.extents.in_use * (SEGMENT_BYTES // PAGE_SIZE)

    def can_write(self) -> bool:
        """Whether another segment may go to the tier now."""
        return self._tier.extents.available > 0 and self._account.may_begin(SEGMENT_BYTES)

    def may_write_again(self) -> bool:
        """Whether pages may come back to be moved, and leave once more: not from a budget."""
        return not self._account.is_limited and self.can_write()

    def send(self, nursery: trio.Nursery, segment: SegmentId) -> None:
        """Start to write ``segment``; its life is noted here, before any wait."""
        to = self._tier.take()
        if to is None:
            self._log.eviction_queue.add(segment, first=True)
            return
        ref = self._log.table.ref(segment)
        self._in_flight.begin(ref)
        self._counters.writeback_attempted += 1
        self._account.begin(SEGMENT_BYTES)
        nursery.start_soon(self._write, ref, to)

    async def _write(self, ref: SegmentRef, to: Location) -> None:
        """Relocate, and say how that ended."""
        table = self._log.table
        try:
            outcome = await self._relocation.relocate(ref, to)
        except OSError as exc:
            if table.is_current(ref):
                self._log.eviction_queue.add(ref.id, first=True)
            self._account.end(SEGMENT_BYTES, exc)
        else:
            if outcome is Outcome.GONE:
                self._account.give_up(SEGMENT_BYTES)
            else:
                self._account.end(SEGMENT_BYTES, None)
            if outcome is Outcome.MOVED:
                self._counters.written_back_pages += table.live[ref.id]
        finally:
            self._in_flight.end(ref)
