"""The evictor: sends segments off, and decides how each of them leaves.

    as it is   dense, not loaded lately, and recompressing it would gain nothing
    gathered   its cold objects go to the stream *evicted*, recompressed.  Loaded ones are copied
               to *survivors* (a second chance), and dead ones stay behind
    in place   page by page, none of this (``place_writer.py``)
    in part    objects that an order names go to the stream *evicted*; the others stay

``writeback.py`` and ``room_maker.py`` decide when.  Called from their task alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import trio

from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.reclaim.policy import (
    ADMIT,
    EVICT,
    MOST_CANDIDATES,
    SPARE,
    Choice,
    GuardedPolicy,
    candidates_of,
)
from fuseswap.reclaim.room import Room
from fuseswap.reclaim.segment_writer import SegmentWriter
from fuseswap.reclaim.writes_in_flight import WritesInFlight
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.pages_by_segment import PagesBySegment
from fuseswap.store.store import Store
from fuseswap.units import NO_SEGMENT, SEGMENT_BYTES, PageNumber, SegmentId

_DENSE_SHARE = 0.9
_FEW_LOADED = 0.1
_MANY_LOADED = 0.5


class PageWriter(Protocol):
    """Writes the pages of a segment each to its own place (``place_writer.py``)."""

    @property
    def has_tier(self) -> bool:
        """Always."""

    @property
    def units_taken(self) -> int:
        """Space taken on the backing file, in units of 4096 bytes."""

    def can_write(self) -> bool:
        """Whether another segment may leave now."""

    def send(
        self,
        nursery: trio.Nursery,
        segment: SegmentId,
        *,
        second_chance: bool,
        only: Sequence[PageNumber] | None = None,
    ) -> None:
        """Start to write; with a ``second_chance`` pages loaded since they were stored stay.

        With ``only`` so do all others.
        """


class Evictor:
    """Sends segments of ``cache`` to ``writer``."""

    def __init__(
        self,
        cache: Store,
        cleaner: Cleaner,
        room: Room,
        writer: SegmentWriter | PageWriter,
        in_flight: WritesInFlight,
        policies: Iterable[GuardedPolicy] = (),
    ) -> None:
        """``policies`` may say which segment leaves, and how large pages are that leave first."""
        self._cache = cache
        self._log = cache.log
        self._cleaner = cleaner
        self._room = room
        self._writer = writer
        self.in_flight = in_flight
        self.choice = Choice(EVICT, policies, SPARE)
        self.admission = Choice(ADMIT, policies)
        self.recompresses = True

    @property
    def recompresses(self) -> bool:
        """Whether what leaves for the tier is compressed again, quickly, while no store waits."""
        return self._cleaner.packer.is_on

    @recompresses.setter
    def recompresses(self, switch: bool) -> None:
        self._cleaner.packer.switch(switch)

    @property
    def has_backing_file(self) -> bool:
        """Whether there is something to leave for."""
        return self._writer.has_tier

    @property
    def units_taken(self) -> int:
        """Space taken on the backing file, in units of 4096 bytes."""
        return self._writer.units_taken

    @property
    def can_write(self) -> bool:
        """Whether another segment may leave now, but for the number of those in flight."""
        return self._writer.can_write()

    async def has_a_place(self) -> bool:
        """Wait until another segment may be in flight; False where none may leave."""
        while self.in_flight.is_full:
            await self.in_flight.wait_for_one()
        return self.can_write

    def evict_oldest(self, nursery: trio.Nursery) -> bool:
        """Send the next segment off, or begin to gather its cold objects; False: there is none."""
        queue = self._log.eviction_queue
        segment = self._pop()
        if not segment:  # all that is left is open
            for head in self._log.heads:
                self._log.seal(head)
            segment = queue.pop()
            if not segment:
                return False
        self.evict(nursery, segment)
        return True

    def _pop(self) -> SegmentId:
        """Take the next one out of line: the oldest, or whichever a policy takes; 0: none."""
        queue = self._log.eviction_queue
        if not self.admission.is_default:
            self._ask_for_bound()
        if self.choice.is_default:
            return queue.pop()
        for _ in range(MOST_CANDIDATES):
            candidates = candidates_of(self._cache, queue.first(MOST_CANDIDATES))
            if not candidates:
                return NO_SEGMENT
            chosen = candidates[self.choice.place(candidates)]
            if not self.choice.spares(chosen):
                return chosen.segment if queue.remove(chosen.segment) else queue.pop()
            queue.add(chosen.segment)
        return queue.pop()

    def _ask_for_bound(self) -> None:
        candidates = candidates_of(self._cache, self._log.eviction_queue.first(MOST_CANDIDATES))
        if candidates:
            bound = self.admission.bound(candidates, MAX_COMPRESSED_BYTES)
            self._cache.largest_kept = bound

    def reset_admission(self) -> None:
        """Another policy was selected: all that compress are alike until it is asked."""
        self._cache.largest_kept = MAX_COMPRESSED_BYTES

    def evict(self, nursery: trio.Nursery, segment: SegmentId) -> None:
        """Send off ``segment``, which was taken out of line, or begin to gather its objects."""
        writer = self._writer
        if not isinstance(writer, SegmentWriter):
            spare = self._cache.loaded_share(segment) < _MANY_LOADED
            writer.send(nursery, segment, second_chance=spare)
        elif not self._begin_to_gather(segment):
            writer.send(nursery, segment)

    def evict_some(self, nursery: trio.Nursery, segment: SegmentId, wanted: PagesBySegment) -> bool:
        """Send off the pages of ``segment`` that are ``wanted``, or begin to gather them.

        False where there is no frame to gather them in.  Pages that share their object with one of
        these leave with it.
        """
        queue, writer = self._log.eviction_queue, self._writer
        pages = wanted.of(segment) if segment in queue else []
        if not pages:  # they have moved meanwhile, or are on their way
            return True
        if not isinstance(writer, SegmentWriter):
            if queue.remove(segment):
                writer.send(nursery, segment, second_chance=False, only=pages)
            return True
        if self._leaves_as_a_whole(segment, len(pages)) and queue.remove(segment):
            writer.send(nursery, segment)
            return True
        if self._cleaner.busy or not self._log.frames.ensure_spare():
            return False
        self._cleaner.begin_eviction_of(segment, wanted.keys_of(pages))
        return True

    def _leaves_as_a_whole(self, segment: SegmentId, pages: int) -> bool:
        """Whether so many ``pages`` are all there is, and gathering them would gain nothing."""
        table = self._log.table
        if pages < table.live[segment]:
            return False
        if self._log.eviction_queue.leaves_as_it_is(segment):
            return True
        is_dense = table.live_bytes[segment] >= _DENSE_SHARE * SEGMENT_BYTES
        return is_dense and not self._cleaner.packer.gains(segment)

    def _begin_to_gather(self, segment: SegmentId) -> bool:
        """Whether ``segment`` is worth it, and there is a frame to gather its objects in."""
        if self._log.eviction_queue.leaves_as_it_is(segment):
            return False
        share = self._log.table.live_bytes[segment] / SEGMENT_BYTES
        loaded = self._cache.loaded_share(segment)
        if self._cleaner.busy or not self._log.frames.ensure_spare():
            return False
        worth_it = share < _DENSE_SHARE or loaded > _FEW_LOADED
        if not worth_it and (self._room.is_awaited or not self._cleaner.packer.gains(segment)):
            return False
        self._cleaner.begin_eviction(segment, second_chance=loaded < _MANY_LOADED)
        return True

    async def finish(self, nursery: trio.Nursery) -> None:
        """Complete the segment that is being cleaned, and send off what was gathered."""
        cleaner, queue = self._cleaner, self._log.eviction_queue
        while cleaner.busy:
            if cleaner.step(urgent=self._room.is_awaited):
                await trio.lowlevel.checkpoint()
            elif not await self.in_flight.wait_for_one():
                cleaner.give_up()
        while segment := queue.pop_gathered():
            if not await self.has_a_place():
                queue.add(segment, first=True)
                return
            if self._log.table.live[segment] and self._log.table.bases[segment] >= 0:
                assert isinstance(self._writer, SegmentWriter)
                self._writer.send(nursery, segment)
