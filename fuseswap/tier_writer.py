"""Departing segments: their writes to the tier, its failures, its budget.

The mechanism under ``writeback.py``, which decides what leaves and when:

    take down what the segment is -> write -> is it still the same? -> flip its location

One task a segment, at most ``writeback_batch_size`` at once.  No lock is held over a
write and no slot word changes (but in place, see ``inplace.py``).  While it is written, a
segment is read, overwritten and discarded as always; should it die, its extent is given
back when the write is over, and not before.

A write that fails leaves the segment in memory, first in line; the tier rests, longer
each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from fuseswap.cache.extents import NO_EXTENT
from fuseswap.cache.frames import CLEANER_RESERVE_WITH_TIER
from fuseswap.cache.segments import SegmentLog
from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.counting import counter, gauge, zeros
from fuseswap.inplace import RUN_PAGES, InPlace
from fuseswap.tier_reader import TierReader
from fuseswap.tiers import Tier
from fuseswap.units import PAGE_SIZE, SegmentRef
from fuseswap.waiting import called

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0  # stores are refused meanwhile
_SET_ASIDE_S = 30.0  # a segment that can't be read
_WORTH_WAITING_S = 1.0  # a tier that failed for longer than this: stores are refused


@dataclass(slots=True)
class WritebackStatistics:
    """Writeback so far, and in a snapshot also what others count for it.

    ``bd_*`` are 4096-byte units, as in zram's bd_stat.
    """

    tier_ra: int = counter(
        "Windows of 128 KiB read ahead from the backing file (as swap_ra of /proc/vmstat).",
        after="loads",
    )
    tier_ra_hit: int = counter("Reads of the backing file that such a window answered.")
    tier_loads: int = counter("Pages asked for and read from the backing file.")
    outstanding_writebacks: int = gauge(
        "segments",
        "Segments being written to the tier right now.",
        like="zswap",
        after="dedup_merged_pages",
    )
    bd_count: int = gauge(
        "4096-byte units",
        "Space taken on the backing file: in whole segments, or pages in their places.",
        like="zram",
    )
    bd_reads: int = counter("4096-byte units read from the backing file.", like="zram")
    bd_writes: int = counter("4096-byte units written to the backing file.", like="zram")
    written_back_pages: int = counter(
        "Pages that moved from memory to the backing file.", like="zswap"
    )
    in_place_stores: int = counter(
        "Pages the pool refused and that were written to their places (layout in-place)."
    )
    writeback_attempted: int = counter(
        "Segments whose write to the backing file was started.", like="zswap"
    )
    writeback_failed: int = counter(
        "Writes that failed; what was to leave memory stayed and is tried again."
    )
    saved_by_writeback: int = counter(
        "Stores that found the pool full, waited, and went on.", like="zswap"
    )
    tier_read_retries: int = counter(
        "Reads from the backing file made again, after an error or for a wrong checksum."
    )
    tier_read_errors: int = counter(
        "Reads from the backing file that failed for good; a page gave EIO."
    )


class TierWriter:
    """Segments of ``log`` on their way to ``tier`` (None: nothing ever leaves)."""

    def __init__(
        self,
        segment_log: SegmentLog,
        tier: Tier | None,
        reader: TierReader,
        place: InPlace | None = None,
    ) -> None:
        self._log = segment_log
        self._tier = tier
        self._place = place
        if place is not None:
            place.account = self
        if tier is not None:
            self._log.extents.extent_count = tier.extent_count
            self._log.frames.keep_for_cleaner(CLEANER_RESERVE_WITH_TIER)
        self.writeback_batch_size = 4
        self.writeback_limit_bytes: int | None = None
        self.note_limit: Callable[[int], None] = lambda left: None
        self._writing: set[SegmentRef] = set()  # `writeback_batch_size` at most
        self._write_ended = trio.Event()
        self._rests_until = 0.0
        self._backoff_s = _FIRST_BACKOFF_S
        self.counters = zeros(WritebackStatistics)
        self._reader = reader
        # Until when, soonest first; each segment once, so as many as there are at most.
        self._set_aside: dict[SegmentRef, float] = {}

    def may_write_again(self) -> bool:
        """Whether pages may come back to be moved, and leave once more: not from a budget."""
        return self.writeback_limit_bytes is None and self._can_write()

    async def read_segment(self, segment: int, *, again: bool = False) -> bytes | None:
        """The 1 MiB of ``segment``; None where it can't be read: then it is set aside a while."""
        table = self._log.table
        ref, extent = table.ref(segment), table.location_of(segment)
        outcome: bytes | OSError = await called(
            partial(self._reader.begin_read, extent, 0, SEGMENT_BYTES, again=again)
        )
        if isinstance(outcome, bytes):
            return outcome
        if table.is_current(ref):
            table.pin(segment)
            self._set_aside.pop(ref, None)
            self._set_aside[ref] = trio.current_time() + _SET_ASIDE_S
        return None

    def _take_back(self) -> None:
        """Segments that could not be read a while ago may be tried again."""
        now = trio.current_time()
        while self._set_aside:
            ref, until = next(iter(self._set_aside.items()))
            if until > now:
                return
            del self._set_aside[ref]
            if self._log.table.is_current(ref):
                self._log.table.unpin(ref.id)

    # -- pages and their places (see ``inplace.py``) ------------------------------------

    def begin_place(self, page: int, data: bytes, done: Callable[[Exception | None], None]) -> None:
        """Write a page the cache refused to its own place; ``done`` gets None, or the error."""
        assert self._place is not None
        self._place.begin_store(page, data, done)

    def begin_copy(self, page: int, data: bytes, done: Callable[[], None]) -> None:
        """Write a copy of a page in memory; at once ``done`` without one where none may be."""
        assert self._place is not None
        if self._can_write():
            self._place.begin_copy(page, data, done)
        else:
            done()

    def affords(self, count: int) -> bool:
        """Whether ``count`` bytes are left of the budget."""
        return self.writeback_limit_bytes is None or self.writeback_limit_bytes >= count

    def takes_stores(self) -> bool:
        """Whether a page may go to its place that has no other: not while the file fails."""
        resting = trio.current_time() < self._rests_until
        return self.affords(PAGE_SIZE) and (not resting or self._rests_briefly())

    def put_begins(self, count: int) -> None:
        """``count`` bytes are on their way to their places."""
        self._charge(count)

    def put_ended(self, count: int, error: OSError | None) -> None:
        """They are there, or not: then they cost nothing, and the file rests."""
        if error is None:
            self.counters.bd_writes += count // PAGE_SIZE
            self._backoff_s = _FIRST_BACKOFF_S
        else:
            self._charge(-count)
            self._rest(error)

    async def _wait_for_a_write(self) -> bool:
        """Wait until one of the writes in flight ends; False where there is none."""
        if not self._writing:
            return False
        await self._write_ended.wait()
        return True

    def _can_write(self) -> bool:
        """Whether another segment may go to the tier now."""
        if self._place is None and (self._tier is None or not self._log.extents.available):
            return False
        least = SEGMENT_BYTES if self._place is None else RUN_PAGES * PAGE_SIZE
        if not self.affords(least):
            return False
        return trio.current_time() >= self._rests_until

    def _rests_briefly(self) -> bool:
        """Whether the tier failed, but stores should wait for its next try."""
        somewhere = self._tier is not None or self._place is not None
        resting = somewhere and trio.current_time() < self._rests_until
        return resting and self._backoff_s <= _WORTH_WAITING_S

    def _send_in_place(self, nursery: trio.Nursery, segment: int, *, second_chance: bool) -> None:
        """Start to write the cold pages of ``segment`` to their places."""
        assert self._place is not None
        ref = self._log.table.ref(segment)
        self._writing.add(ref)
        self.counters.writeback_attempted += 1
        nursery.start_soon(self._write_in_place, self._place, ref, second_chance)

    async def _write_in_place(self, place: InPlace, ref: SegmentRef, second_chance: bool) -> None:
        """Write page by page; what is left of the segment gets in line again."""
        try:
            result = await place.evict(ref, second_chance=second_chance)
            self.counters.written_back_pages += result.pages
            if self._log.table.is_current(ref):
                if result.pages or result.spared or result.stopped:
                    self._log.eviction_queue.add(ref.id, first=result.failed)
                else:
                    self._log.table.pin(ref.id)  # what is left in it is corrupt
        finally:
            self._note_write_ended(ref)

    def _send(self, nursery: trio.Nursery, segment: int) -> None:
        """Start to write ``segment``; what it is now is taken down here, before any wait."""
        extent = self._log.extents.take()
        if extent == NO_EXTENT:
            self._log.eviction_queue.add(segment, first=True)
            return
        ref = self._log.table.ref(segment)
        self._writing.add(ref)
        self.counters.writeback_attempted += 1
        self._charge(SEGMENT_BYTES)
        view = self._log.view(segment)
        nursery.start_soon(self._write_back, ref, view, extent)

    async def _write_back(self, ref: SegmentRef, view: memoryview, extent: int) -> None:
        """Write, look again, flip."""
        assert self._tier is not None
        table, segment = self._log.table, ref.id
        try:
            await self._tier.write(extent, view)  # crash point: writeback-write
        except OSError as exc:
            self._log.extents.give_back(extent)  # crash point: writeback-failed
            self._charge(-SEGMENT_BYTES)
            if table.is_current(ref):
                self._log.eviction_queue.add(segment, first=True)
            self._rest(exc)
        else:
            self._backoff_s = _FIRST_BACKOFF_S
            self.counters.bd_writes += SEGMENT_BYTES // PAGE_SIZE
            if table.is_current(ref) and table.bases[segment] >= 0:
                self.counters.written_back_pages += table.live[segment]
                self._log.move_to_tier(segment, extent)  # crash point: writeback-written
            else:  # it died on the way
                self._log.extents.give_back(extent)  # crash point: writeback-died
        finally:
            view.release()
            self._note_write_ended(ref)

    def _note_write_ended(self, ref: SegmentRef) -> None:
        self._writing.discard(ref)
        self._write_ended.set()
        self._write_ended = trio.Event()

    def _charge(self, count: int) -> None:
        """Take ``count`` bytes off the budget, if there is one."""
        if self.writeback_limit_bytes is not None:
            self.writeback_limit_bytes -= count
            self.note_limit(self.writeback_limit_bytes)

    def _rest(self, exc: Exception) -> None:
        """A write failed: leave the tier alone for a while, longer each time."""
        self.counters.writeback_failed += 1
        if trio.current_time() < self._rests_until:
            return  # another of the same batch
        self._rests_until = trio.current_time() + self._backoff_s
        log.error("writeback failed, next try in %.1f s: %s", self._backoff_s, exc)
        self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)

    def _units_taken(self) -> int:
        if self._place is not None:
            return self._place.page_count
        return self._log.extents.in_use * (SEGMENT_BYTES // PAGE_SIZE)

    def statistics(self) -> WritebackStatistics:
        """A snapshot."""
        ahead = self._reader.ahead
        return replace(
            self.counters,
            outstanding_writebacks=len(self._writing),
            bd_count=self._units_taken(),
            bd_reads=self._reader.units,
            tier_ra=ahead.reads if ahead else 0,
            tier_ra_hit=ahead.hits if ahead else 0,
            tier_loads=self._reader.loads,
            tier_read_retries=self._reader.retries,
            tier_read_errors=self._reader.errors,
            in_place_stores=0 if self._place is None else self._place.direct_stores,
        )
