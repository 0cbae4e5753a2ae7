"""Writes of whole segments to the tiers.  ``evictor.py`` decides which, and when.

One task a segment, which relocates it (``reclaim/relocation.py``) and keeps the account.
``destinations.py`` says to which tier.  A segment whose write fails stays in memory, first in
line, and its tier rests.
"""

from __future__ import annotations

import trio

from fuseswap.reclaim.destinations import Destinations
from fuseswap.reclaim.relocation import Outcome, Relocation
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.reclaim.writes_in_flight import WritesInFlight
from fuseswap.store.segment_log import SegmentLog
from fuseswap.tiers.write_budget import Budget
from fuseswap.units import SEGMENT_BYTES, Location, SegmentId, SegmentRef


class SegmentWriter:
    """Segments of ``segment_log`` on their way from memory to a tier."""

    def __init__(
        self,
        segment_log: SegmentLog,
        destinations: Destinations,
        relocation: Relocation,
        budget: Budget,
        in_flight: WritesInFlight,
        counters: WritebackStatistics,
    ) -> None:
        self._log = segment_log
        self._destinations = destinations
        self._relocation = relocation
        self._budget = budget
        self._in_flight = in_flight
        self._counters = counters

    @property
    def has_tier(self) -> bool:
        """Whether there is a tier at all, be it full."""
        return bool(self._destinations)

    @property
    def units_taken(self) -> int:
        """Space that segments take on the tiers, in units of 4096 bytes."""
        return self._destinations.units_taken

    def can_write(self) -> bool:
        """Whether another segment may go to a tier now."""
        return self._budget.affords(SEGMENT_BYTES) and self._destinations.exist()

    def may_write_again(self) -> bool:
        """Whether pages may come back to be moved, and leave once more: not from a budget."""
        return self._budget.left_bytes is None and self.can_write()

    def send(self, nursery: trio.Nursery, segment: SegmentId) -> None:
        """Start to write ``segment``; its life is noted here, before any wait."""
        entry = self._destinations.choose()
        to = entry.take() if entry else None
        if entry is None or to is None:
            self._log.eviction_queue.add(segment, first=True)
            return
        ref = self._log.table.ref(segment)
        self._in_flight.begin(ref, entry.health)
        self._counters.writeback_attempted += 1
        account = WriteAccount(self._budget, entry.health, self._counters)
        account.begin(SEGMENT_BYTES)
        nursery.start_soon(self._write, ref, to, account)

    async def _write(self, ref: SegmentRef, to: Location, account: WriteAccount) -> None:
        """Relocate, and say how that ended."""
        table = self._log.table
        try:
            outcome = await self._relocation.relocate(ref, to)
        except OSError as exc:
            if table.is_current(ref):
                self._log.eviction_queue.add(ref.id, first=True)
            account.end(SEGMENT_BYTES, exc)
        else:
            if outcome is Outcome.GONE:
                account.give_up(SEGMENT_BYTES)
            else:
                account.end(SEGMENT_BYTES, None)
            if outcome is Outcome.MOVED:
                self._counters.written_back_pages += table.live[ref.id]
        finally:
            self._in_flight.end(ref)
