"""Writes of whole segments to the tier.  ``evictor.py`` decides which, and when.

    note what the segment is -> write -> is it still the same? -> flip its location

One task a segment.  No lock is held over a write, and no slot word changes.  While it is
written, a segment is read, overwritten and discarded as always.  Should it die, its extent
is given back when the write is over, and not before.  A segment whose write fails stays in
memory, first in line.
"""

from __future__ import annotations

import trio

from fuseswap.cache.extents import NO_EXTENT
from fuseswap.cache.segments import SegmentLog
from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.tiers import Tier
from fuseswap.units import PAGE_SIZE, SegmentRef
from fuseswap.write_account import WriteAccount
from fuseswap.writeback_statistics import WritebackStatistics
from fuseswap.writes_in_flight import WritesInFlight


class SegmentWriter:
    """Segments of ``segment_log`` on their way to ``tier``."""

    def __init__(
        self,
        segment_log: SegmentLog,
        tier: Tier,
        account: WriteAccount,
        in_flight: WritesInFlight,
        counters: WritebackStatistics,
    ) -> None:
        self._log = segment_log
        self._tier = tier
        self._account = account
        self._in_flight = in_flight
        self._counters = counters

    @property
    def units_taken(self) -> int:
        """Space that segments take on the tier, in units of 4096 bytes."""
        return self._log.extents.in_use * (SEGMENT_BYTES // PAGE_SIZE)

    def can_write(self) -> bool:
        """Whether another segment may go to the tier now."""
        return self._log.extents.available > 0 and self._account.may_begin(SEGMENT_BYTES)

    def may_write_again(self) -> bool:
        """Whether pages may come back to be moved, and leave once more: not from a budget."""
        return not self._account.is_limited and self.can_write()

    def send(self, nursery: trio.Nursery, segment: int) -> None:
        """Start to write ``segment``; its state is noted here, before any wait."""
        extent = self._log.extents.take()
        if extent == NO_EXTENT:
            self._log.eviction_queue.add(segment, first=True)
            return
        ref = self._log.table.ref(segment)
        self._in_flight.begin(ref)
        self._counters.writeback_attempted += 1
        self._account.begin(SEGMENT_BYTES)
        view = self._log.view(segment)
        nursery.start_soon(self._write, ref, view, extent)

    async def _write(self, ref: SegmentRef, view: memoryview, extent: int) -> None:
        """Write, look again, flip."""
        table, segment = self._log.table, ref.id
        try:
            await self._tier.write(extent, view)  # crash point: writeback-write
        except OSError as exc:
            self._log.extents.give_back(extent)  # crash point: writeback-failed
            if table.is_current(ref):
                self._log.eviction_queue.add(segment, first=True)
            self._account.end(SEGMENT_BYTES, exc)
        else:
            self._account.end(SEGMENT_BYTES, None)
            if table.is_current(ref) and table.bases[segment] >= 0:
                self._counters.written_back_pages += table.live[segment]
                self._log.move_to_tier(segment, extent)  # crash point: writeback-written
            else:  # it died on the way
                self._log.extents.give_back(extent)  # crash point: writeback-died
        finally:
            view.release()
            self._in_flight.end(ref)
