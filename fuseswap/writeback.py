"""Writeback: makes room in the pool, by cleaning and by moving segments to a tier.

One trio task (`run`) that sleeps until a store finds the pool full (and looks once a
second for what is due by age, by demand or by the machine's memory pressure), plus one
task for each segment on its way out, at most ``writeback_batch_size`` of them:

    pool full -> store waits (``slowpath.py``) -> run: until accept_threshold_percent
        much dead space:  the cleaner merges sparse segments
        else, with a tier: the oldest segment leaves
            dense, not loaded lately: as it is
            else: loaded objects are copied forward (second chance), cold ones are
            gathered in a segment of their own, dead ones stay behind
    segment written -> is it still the same one? -> flip its location, free its frame

No lock is held over a write and no slot word changes.  While it is written, a segment
is read, overwritten and discarded as always; should it die, its extent is given back
when the write is over, and not before.

A write that fails leaves the segment in memory; the tier rests for a while, and stores
that can't wait for anything are refused, as without a tier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from fuseswap.cache.cleaner import Cleaner
from fuseswap.cache.extents import NO_EXTENT
from fuseswap.cache.frames import CLEANER_RESERVE_WITH_TIER
from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.segment_kinds import Stream
from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.demand import Demand
from fuseswap.errors import CorruptData, InvalidArgument, OnTier
from fuseswap.tiers import Tier
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_FIRST_BACKOFF_S = 0.1
_HOPELESS_S = 0.1  # after nothing could be done, stores are refused for so long
_LONGEST_BACKOFF_S = 30.0
_WORTH_WAITING_S = 1.0  # a tier that failed for longer than this: stores are refused
# Cleaning pays while at least this share of the pool is dead.
_DEAD_SHARE = 0.05
_DENSE_SHARE = 0.9
_DEAD_HEAD_SHARE = 0.5
_MERGES_AT_ONCE = 4
_SHORT_PERCENT = 5  # of the extents are free: sparse ones are merged
_FEW_LOADED = 0.1
_MANY_LOADED = 0.5


@dataclass(frozen=True, slots=True)
class WritebackStatistics:
    """One moment of writeback.  ``bd_*`` count 4096-byte units, as zram's bd_stat does."""

    outstanding_writebacks: int
    writeback_attempted: int
    writeback_failed: int
    written_back_pages: int
    saved_by_writeback: int
    bd_count: int
    bd_reads: int
    bd_writes: int
    read_errors: int


class Writeback:
    """Room in the pool of ``cache``; ``tier`` may be None, then only the cleaner makes it."""

    def __init__(
        self,
        cache: CompressedCache,
        tier: Tier | None = None,
        under_pressure: Callable[[], bool] = lambda: False,
    ) -> None:
        self._cache = cache
        self._under_pressure = under_pressure
        self._log = cache.log
        self._tier = tier
        self.cleaner = Cleaner(cache.slots, cache.log)
        self.accept_threshold_percent = 90
        self.writeback_batch_size = 4
        self.writeback_limit_bytes: int | None = None
        self.writeback_age_seconds = 0
        self.shrinker_enabled = False
        self.note_limit: Callable[[int], None] = lambda left: None
        self.demand = Demand()
        if tier is not None:
            self._log.extents.extent_count = tier.extent_count
            self._log.frames.cleaner_reserve = CLEANER_RESERVE_WITH_TIER
        self._wanted = trio.Event()
        self._full = False
        self._waiters = trio.lowlevel.ParkingLot()
        self._writing: set[tuple[int, int]] = set()  # segment and sequence: ids are used again
        self._hopeless_until = 0.0
        self._write_ended = trio.Event()
        self._rests_until = 0.0
        self._backoff_s = _FIRST_BACKOFF_S
        self._attempted = 0
        self._failed = 0
        self._pages = 0
        self._saved = 0
        self._reads = 0
        self._writes = 0
        self._read_errors = 0
        cache.on_full = self._expect_room

    # -- for the slow path -----------------------------------------------------------

    async def wait_for_room(self) -> None:
        """Wait until it is worth trying the store again (it may be refused then)."""
        self._want_room()
        await self._waiters.park()
        self._saved += 1

    async def read(self, miss: OnTier) -> bytes:
        """The stored bytes of ``miss``.  Raises `CorruptData` where the tier can't read them."""
        if self._tier is None:
            raise CorruptData(f"page {miss.page} is on a tier, and there is none")
        blocks = -(-(miss.offset % PAGE_SIZE + miss.length) // PAGE_SIZE)
        self._reads += blocks
        try:
            return await self._tier.read(miss.extent, miss.offset, miss.length)
        except OSError as exc:
            self._read_errors += 1
            log.error("page %d cannot be read from the tier: %s", miss.page, exc)
            raise CorruptData(f"page {miss.page} cannot be read from the tier: {exc}") from exc

    def _expect_room(self) -> bool:
        """Asked by a store that finds the pool full: is it worth waiting?"""
        if trio.current_time() < self._hopeless_until:
            return False
        if not (self._can_clean() or self._can_write() or self._writing or self._rests_briefly()):
            return False
        self._want_room()
        return True

    def _want_room(self) -> None:
        self._full = True
        self._wanted.set()

    # -- the task --------------------------------------------------------------------

    async def run(self) -> None:
        """Make room whenever it is wanted, and what is due once a second, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(_LOOK_EVERY_S):
                    await self._wanted.wait()
                full = self._full
                self._full = False
                self._wanted = trio.Event()
                if full:
                    await self._make_room(nursery)
                await self._write_due(nursery)

    def ask(self, demand: Demand) -> None:
        """Write back what ``demand`` describes, in the background; see its ``left``."""
        if self._tier is None:
            raise InvalidArgument("there is no backing file to write back to")
        for head in self._log.heads:
            if demand.takes_all or head.stream is Stream.INCOMPRESSIBLE:
                self._log.seal(head)
        demand.left = self._log.departures.matching(demand.takes)
        demand.total = len(demand.left)
        self.demand = demand
        self._wanted.set()

    async def _write_due(self, nursery: trio.Nursery) -> None:
        """Send off what was asked for, what is old enough, and some under memory pressure."""
        pressed = self.shrinker_enabled and self._under_pressure()
        if pressed:
            self._log.frames.trim(0)
        if self._tier is None:
            return
        await self._merge_on_tier(nursery)
        await self._write_demanded(nursery)
        departures = self._log.departures
        while self.writeback_age_seconds and await self._has_a_place():
            segment, age_s = departures.oldest()
            if age_s <= self.writeback_age_seconds or not departures.take(segment):
                break
            self._evict(nursery, segment)
            await self._finish_cleaning(nursery)
        for _ in range(self.writeback_batch_size if pressed else 0):
            if await self._has_a_place():
                self._evict_oldest(nursery)
                await self._finish_cleaning(nursery)

    async def _write_demanded(self, nursery: trio.Nursery) -> None:
        """Send off what was asked for; a later demand takes the place of an earlier one."""
        demand = self.demand
        if not demand.left:
            return
        while await self._has_a_place() and self.demand is demand and demand.left:
            segment = demand.left.pop(0)
            if self._log.departures.take(segment):
                self._evict(nursery, segment)
                await self._finish_cleaning(nursery)
        if self.demand is demand and not demand.left:
            self._log.seal(self._log.heads[Stream.EVICTED])
            await self._finish_cleaning(nursery)

    async def _merge_on_tier(self, nursery: trio.Nursery) -> None:
        """While extents are short: read the sparsest segments and write what lives again."""
        extents = self._log.extents
        assert self._tier is not None
        short = max(2, extents.extent_count * _SHORT_PERCENT // 100)
        for _ in range(_MERGES_AT_ONCE):
            if extents.available >= short or not self._log.frames.has_spare:
                return
            segment = self.cleaner.choose_on_tier()
            if not segment or self.cleaner.busy:
                return
            sequence = self._log.age_of(segment)[0]
            self._reads += SEGMENT_BYTES // PAGE_SIZE
            try:
                stored = await self._tier.read(self._log.location_of(segment), 0, SEGMENT_BYTES)
            except OSError as exc:
                self._read_errors += 1
                self._log.pin(segment)
                log.error("segment %d cannot be read from the tier: %s", segment, exc)
                return
            if self._log.live[segment] and self._log.age_of(segment)[0] == sequence:
                self.cleaner.begin_on_tier(segment, stored)
                await self._finish_cleaning(nursery)

    async def _has_a_place(self) -> bool:
        """Wait until another segment may be in flight; False where none may leave."""
        while len(self._writing) >= self.writeback_batch_size:
            await self._wait_for_a_write()
        return self._can_write()

    async def _finish_cleaning(self, nursery: trio.Nursery) -> None:
        """Complete the segment that is being gathered, and send off what was gathered."""
        while self.cleaner.busy:
            if self.cleaner.step():
                await trio.lowlevel.checkpoint()
            elif not await self._wait_for_a_write():
                self.cleaner.give_up()
        while segment := self._log.departures.next_gathered():
            if not await self._has_a_place():
                self._log.departures.add(segment, first=True)
                return
            if self._log.live[segment] and self._log.bases[segment] >= 0:
                self._send(nursery, segment)

    async def _make_room(self, nursery: trio.Nursery) -> None:
        """Clean and write back until the pool is at ``accept_threshold_percent`` again."""
        frames = self._log.frames
        goal = max(1, frames.limit * (100 - self.accept_threshold_percent) // 100)
        while frames.available < goal:
            if frames.available + len(self._writing) >= goal:
                going = await self._wait_for_a_write()
            else:
                going = await self._make_some(nursery)
            if not going:
                break
            if not frames.exhausted:
                self._waiters.unpark_all()
        if frames.exhausted:
            self._hopeless_until = trio.current_time() + _HOPELESS_S
        self._waiters.unpark_all()

    async def _make_some(self, nursery: trio.Nursery) -> bool:
        """One bounded piece of work; False where nothing can be done."""
        if self.cleaner.busy or self._can_clean():
            if self.cleaner.step() or self._seal_dead_heads():
                await trio.lowlevel.checkpoint()
                return True
            if self.cleaner.busy:  # no frame to copy to until a write ends
                if await self._wait_for_a_write():
                    return True
                self.cleaner.give_up()
        if len(self._writing) >= self.writeback_batch_size:
            return await self._wait_for_a_write()
        if self._can_write():
            if self._evict_oldest(nursery):
                await trio.lowlevel.checkpoint()
                return True
        elif self._rests_briefly():
            await trio.sleep_until(self._rests_until)
            return True
        return await self._wait_for_a_write()

    async def _wait_for_a_write(self) -> bool:
        """Wait until one of the writes in flight ends; False where there is none."""
        if not self._writing:
            return False
        await self._write_ended.wait()
        return True

    def _can_clean(self) -> bool:
        """Whether enough of the pool is dead for the cleaner to gain by it."""
        if not self._log.frames.has_spare:
            return False
        dead, in_frames = self._log.dead_bytes()
        return dead >= max(2 * SEGMENT_BYTES, int(in_frames * _DEAD_SHARE))

    def _can_write(self) -> bool:
        """Whether another segment may go to the tier now."""
        if self._tier is None or not self._log.extents.available:
            return False
        limit = self.writeback_limit_bytes
        if limit is not None and limit < SEGMENT_BYTES:
            return False
        return trio.current_time() >= self._rests_until

    def _seal_dead_heads(self) -> bool:
        """Let the cleaner at open segments that are mostly dead; False where there are none."""
        sealed = False
        for head in self._log.heads:
            if head.segment and not self.cleaner.busy:
                used = head.tail + SEGMENT_BYTES - head.bound
                if self._log.live_bytes[head.segment] < used * _DEAD_HEAD_SHARE:
                    self._log.seal(head)
                    sealed = True
        return sealed

    def _rests_briefly(self) -> bool:
        """Whether the tier failed, but stores should wait for its next try."""
        resting = self._tier is not None and trio.current_time() < self._rests_until
        return resting and self._backoff_s <= _WORTH_WAITING_S

    # -- one segment on its way out --------------------------------------------------

    def _evict_oldest(self, nursery: trio.Nursery) -> bool:
        """Send the next segment off, or begin to gather its cold objects."""
        log_ = self._log
        segment = log_.departures.next()
        if not segment:  # all that is left is open
            for head in log_.heads:
                log_.seal(head)
            segment = log_.departures.next()
            if not segment:
                return False
        self._evict(nursery, segment)
        return True

    def _evict(self, nursery: trio.Nursery, segment: int) -> None:
        """Send ``segment`` off as it is, or begin to gather its cold objects."""
        log_ = self._log
        if segment and not log_.departures.leaves_as_it_is(segment):
            share = log_.live_bytes[segment] / SEGMENT_BYTES
            loaded = self._cache.loaded_share(segment)
            worth_it = share < _DENSE_SHARE or loaded > _FEW_LOADED
            if worth_it and log_.frames.has_spare and not self.cleaner.busy:
                self.cleaner.begin(segment, evict=True, second_chance=loaded < _MANY_LOADED)
                return
        if segment:
            self._send(nursery, segment)

    def _send(self, nursery: trio.Nursery, segment: int) -> None:
        """Start to write ``segment``; what it is now is taken down here, before any wait."""
        extent = self._log.extents.take()
        if extent == NO_EXTENT:
            self._log.departures.add(segment, first=True)
            return
        sequence = self._log.age_of(segment)[0]
        self._writing.add((segment, sequence))
        self._attempted += 1
        self._charge(SEGMENT_BYTES)
        view = self._log.view(segment)
        nursery.start_soon(self._write_back, segment, sequence, view, extent)

    async def _write_back(self, segment: int, sequence: int, view: memoryview, extent: int) -> None:
        """Write, look again, flip."""
        assert self._tier is not None
        try:
            await self._tier.write(extent, view)
        except OSError as exc:
            self._log.extents.give_back(extent)
            self._charge(-SEGMENT_BYTES)
            if self._log.live[segment] and self._log.age_of(segment)[0] == sequence:
                self._log.departures.add(segment, first=True)
            self._rest(exc)
        else:
            self._backoff_s = _FIRST_BACKOFF_S
            self._writes += SEGMENT_BYTES // PAGE_SIZE
            if self._log.live[segment] and self._log.age_of(segment)[0] == sequence:
                self._pages += self._log.live[segment]
                self._log.move_to_tier(segment, extent)
            else:  # it died on the way
                self._log.extents.give_back(extent)
        finally:
            view.release()
            self._writing.discard((segment, sequence))
            self._write_ended.set()
            self._write_ended = trio.Event()

    def _charge(self, count: int) -> None:
        """Take ``count`` bytes off the budget, if there is one."""
        if self.writeback_limit_bytes is not None:
            self.writeback_limit_bytes -= count
            self.note_limit(self.writeback_limit_bytes)

    def _rest(self, exc: OSError) -> None:
        """A write failed: leave the tier alone for a while, longer each time."""
        self._failed += 1
        if trio.current_time() < self._rests_until:
            return  # another of the same batch
        self._rests_until = trio.current_time() + self._backoff_s
        log.error("writeback failed, next try in %.1f s: %s", self._backoff_s, exc)
        self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)

    def statistics(self) -> WritebackStatistics:
        """A snapshot."""
        return WritebackStatistics(
            outstanding_writebacks=len(self._writing),
            writeback_attempted=self._attempted,
            writeback_failed=self._failed,
            written_back_pages=self._pages,
            saved_by_writeback=self._saved,
            bd_count=self._log.extents.in_use * (SEGMENT_BYTES // PAGE_SIZE),
            bd_reads=self._reads,
            bd_writes=self._writes,
            read_errors=self._read_errors,
        )
