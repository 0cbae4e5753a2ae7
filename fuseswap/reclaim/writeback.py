"""Writeback: the loop that makes room, and sends off segments by request and by age.

One trio task (`run`).  First it counts what a former worker left (``frontswap/adoption.py``).
Then it sleeps until a store finds the pool full, and looks once a second, or sooner while
stores go on.  Segments leave by request, by age and by the machine's memory pressure.
Each segment on its way out is a task of its own, at most ``writeback_batch_size`` of them:

    pool full -> store waits (``pending_io.py``, ``room.py``) -> run: until
        accept_threshold_percent (``room_maker.py``)
    once a second -> sparse segments on a tier that is nearly full (``tier_merging.py``),
        requests, old segments (``evictor.py``), dead space (``cleaning_policy.py``)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from fuseswap.errors import InvalidArgument
from fuseswap.reclaim.cleaning_policy import CleaningPolicy
from fuseswap.reclaim.destinations import Destinations
from fuseswap.reclaim.evictor import Evictor
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.reclaim.room import Room
from fuseswap.reclaim.room_maker import RoomMaker
from fuseswap.reclaim.tier_merging import TierMerging
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.pages_by_segment import PagesBySegment
from fuseswap.store.segment_entry import Stream
from fuseswap.store.store import Store
from fuseswap.tiers.tier_reader import TierReader
from fuseswap.units import SEGMENT_SHIFT, SegmentId

_LOOK_EVERY_S = 1.0
_LOOK_SOON_S = 0.2  # while segments are being filled
_REMOTE_PATIENCE_S = 2.0  # so long a store waits for other machines to take a segment


class Writeback:
    """Sends off what is due; ``merging`` is None where there is no tier."""

    def __init__(
        self,
        cache: Store,
        room: Room,
        cleaner: Cleaner,
        cleaning: CleaningPolicy,
        evictor: Evictor,
        merging: TierMerging | None,
        destinations: Destinations,
        maker: RoomMaker,
        reader: TierReader,
        counters: WritebackStatistics,
        under_pressure: Callable[[], bool],
        adopt_some: Callable[[], bool],
    ) -> None:
        """``under_pressure``: whether memory is short.  ``adopt_some``: `Frontswap.adopt_some`."""
        self._destinations = destinations
        self._adopt_some = adopt_some
        self._cache = cache
        self._log = cache.log
        self._room = room
        self.cleaner = cleaner
        self._cleaning = cleaning
        self._evictor = evictor
        self._merging = merging
        self._maker = maker
        self._reader = reader
        self._counters = counters
        self._under_pressure = under_pressure
        self.accept_threshold_percent = 90
        self.writeback_age_seconds = 0
        self.shrinker_enabled = False
        self.request = ReclaimRequest()

    async def run(self) -> None:
        """Make room whenever it is wanted; once a second do all that is due.  Never returns."""
        while self._adopt_some():
            await trio.lowlevel.checkpoint()
        if not self._evictor.has_backing_file:
            self._log.frames.grant()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_long_waits)
            while True:
                soon = self._cleaning.stores_go_on
                if await self._room.next_call(_LOOK_SOON_S if soon else _LOOK_EVERY_S):
                    await self._maker.make(nursery, self.accept_threshold_percent)
                await self._write_due(nursery)
                await self._cleaning.tidy()

    async def _end_long_waits(self) -> None:
        """No swap-out depends on the network: the kernel keeps the page then."""
        while True:
            await trio.sleep(_LOOK_SOON_S)
            if self._destinations and self._destinations.are_remote:
                self._room.end_waits_of(_REMOTE_PATIENCE_S)

    def ask(self, request: ReclaimRequest) -> None:
        """Write back what ``request`` describes, in the background; see its ``left``."""
        if not self._evictor.has_backing_file:
            raise InvalidArgument("there is no tier to write back to")
        if request.tier is not None:
            self._destinations.require(request.tier)
        wanted = None
        if request.ranges is not None:
            wanted = PagesBySegment(self._cache.slots, self._log, request.ranges)
        else:
            for head in self._log.heads:
                if request.takes_all or head.stream is Stream.INCOMPRESSIBLE:
                    self._log.seal(head)
        table, now = self._log.table, not self._cache.adopting
        if request.begin_search(table, self._log.frames.in_use, now=now, wanted=wanted):
            self._end_search(request)
        self.request.search = None  # it refers to its request
        self.request = request
        self._room.call()

    def _end_search(self, request: ReclaimRequest) -> None:
        """What ``request`` means is known."""
        request.left = request.end_search()
        if request.most_bytes is not None:
            request.left = self._first_of(request.left, request.most_bytes)
        gathered = self._log.heads[Stream.EVICTED].segment
        if request.wanted is not None and gathered and not request.goes_on:
            request.left.append(gathered)  # what the orders before it left there
        request.total = len(request.left)

    async def _search(self) -> None:
        """Go on with the search of a request, of which the first step was not all."""
        request = self.request
        while request.search is not None and self.request is request:
            if not request.search.step():
                self._end_search(request)
            await trio.lowlevel.checkpoint()

    def _first_of(self, segments: list[SegmentId], most_bytes: int) -> list[SegmentId]:
        """The first of ``segments``, as long as their objects are ``most_bytes`` at most."""
        for count, segment in enumerate(segments):
            most_bytes -= self._log.table.live_bytes[segment]
            if most_bytes < 0:
                return segments[:count]
        return segments

    def shrink(self, to_bytes: int) -> None:
        """Write back, oldest first, until the pool is at ``to_bytes``; see `ask`."""
        most = max(0, self._log.frames.used - (to_bytes >> SEGMENT_SHIFT))
        self.ask(ReclaimRequest("shrink", most=most))

    async def _write_due(self, nursery: trio.Nursery) -> None:
        """Send off requested and old segments, and some under memory pressure."""
        pressed = self.shrinker_enabled and self._under_pressure()
        if pressed:
            self._log.frames.trim(self._log.frames.ready)
        if not self._evictor.has_backing_file:
            return
        if self._merging is not None:
            await self._merging.merge(nursery)
        await self._search()
        with self._destinations.only(self.request.tier if self.request.left else None):
            await self._write_requested(nursery)
        queue, evictor = self._log.eviction_queue, self._evictor
        while self.writeback_age_seconds and await evictor.has_a_place():
            segment, age_s = queue.oldest()
            if age_s <= self.writeback_age_seconds or not queue.remove(segment):
                break
            evictor.evict(nursery, segment)
            await evictor.finish(nursery)
            if self._room.is_wanted:
                break
        for _ in range(evictor.in_flight.batch_size if pressed else 0):
            if await evictor.has_a_place():
                evictor.evict_oldest(nursery)
                await evictor.finish(nursery)

    async def _write_requested(self, nursery: trio.Nursery) -> None:
        """Send off requested segments; a later request takes the place of an earlier one."""
        request, evictor = self.request, self._evictor
        if not request.left:
            return
        if request.wanted is not None:
            await self._write_wanted(nursery, request, request.wanted)
            return
        while await evictor.has_a_place() and self.request is request and request.left:
            segment = request.left.pop(0)
            if self._log.eviction_queue.remove(segment):
                evictor.evict(nursery, segment)
                await evictor.finish(nursery)
            if self._room.is_wanted:  # only `RoomMaker.make` wakes stores; go on after it
                return
        if self.request is request and not request.left:
            self._log.seal(self._log.heads[Stream.EVICTED])
            await evictor.finish(nursery)

    async def _write_wanted(
        self, nursery: trio.Nursery, request: ReclaimRequest, wanted: PagesBySegment
    ) -> None:
        """Send off the pages that are named, or gather them; a segment is done when that is."""
        evictor = self._evictor
        while await evictor.has_a_place() and self.request is request:
            begun = evictor.evict_some(nursery, request.left[0], wanted)
            if not begun or (len(request.left) == 1 and not request.goes_on):
                await evictor.finish(nursery)
                self._log.seal(self._log.heads[Stream.EVICTED])
            await evictor.finish(nursery)
            if begun:
                request.left.pop(0)
            elif not await evictor.in_flight.wait_for_one():  # no frame to gather in
                return
            if not request.left:
                request.wanted = None
                return
            if self._room.is_wanted:
                return

    def statistics(self) -> WritebackStatistics:
        """A snapshot."""
        ahead = self._reader.ahead
        return replace(
            self._counters,
            outstanding_writebacks=self._evictor.in_flight.count,
            bd_count=self._evictor.units_taken,
            bd_reads=self._reader.units,
            tier_ra=ahead.reads if ahead else 0,
            tier_ra_hit=ahead.hits if ahead else 0,
            tier_loads=self._reader.loads,
            tier_read_retries=self._reader.retries,
            tier_read_errors=self._reader.errors,
        )
