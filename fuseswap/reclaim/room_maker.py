"""The room maker: cleans, writes back and recompresses until stores find room again.

    much dead space   the cleaner merges sparse segments
    a backing file    the oldest segment leaves (``evictor.py``)
    a full tier       sparse segments there are merged (``tier_merging.py``)
    nothing else      recompression makes segments smaller, then the cleaner takes the last
                      dead space.  Not where it is others who have nothing left: the machine would
                      crawl on, a MiB at a time, and its OOM killer never be asked

`expects_room` foresees all of this, for a store that asks whether to wait.
"""

from __future__ import annotations

from typing import Protocol

import trio

from fuseswap.reclaim.cleaning_policy import CleaningPolicy
from fuseswap.reclaim.evictor import Evictor
from fuseswap.reclaim.recompression import Recompression
from fuseswap.reclaim.room import Room
from fuseswap.reclaim.tier_merging import TierMerging
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.store import Store

# So long stores wait where no frame becomes free for them and nothing is written.  Making one is
# three segments that shrink by a third, 0.15 s; where it takes 40 of them it is not worth a
# reclaim that stands still.
LONGEST_S = 2.0


class Rest(Protocol):
    """Of what was just failed to be written to (``destinations.py``, ``tier_health.py``)."""

    @property
    def rests_briefly(self) -> bool:
        """Whether nothing may be written now, but soon."""

    async def rest(self) -> None:
        """Wait until then."""


class RoomMaker:
    """Makes room in ``cache`` for those who wait for ``room``."""

    def __init__(
        self,
        cache: Store,
        room: Room,
        cleaner: Cleaner,
        cleaning: CleaningPolicy,
        evictor: Evictor,
        health: Rest,
        merging: TierMerging | None,
        recompression: Recompression,
    ) -> None:
        self._cache = cache
        self._frames = cache.log.frames
        self._room = room
        self._cleaner = cleaner
        self._cleaning = cleaning
        self._evictor = evictor
        self._in_flight = evictor.in_flight
        self._health = health
        self._merging = merging
        self._recompression = recompression
        self._patient_until = 0.0

    def expects_room(self) -> bool:
        """Asked by a store that finds the pool full: is it worth waiting?"""
        if self._cache.adopting:  # the task comes to it
            self._room.want()
            return True
        if self._room.is_hopeless:
            return False
        cleans = self._cleaner.busy or self._cleaning.pays()  # busy, it may hold the last frame
        writes = self._evictor.can_write or self._in_flight.count or self._health.rests_briefly
        if cleans or writes or self._can_merge() or self._can_make_last_room():
            self._room.want()
            return True
        return False

    async def make(self, nursery: trio.Nursery, threshold_percent: int) -> None:
        """Clean and write back until the pool is at ``threshold_percent`` again."""
        frames, room = self._frames, self._room
        goal = max(1, frames.limit * (100 - threshold_percent) // 100)
        self._patient_until = trio.current_time() + LONGEST_S
        while frames.available < goal or frames.is_short:
            if frames.available + self._in_flight.count >= goal and not frames.is_short:
                going = await self._in_flight.wait_for_one()
            else:
                going = await self._make_some(nursery)
            if not going:
                break
            if room.exists:
                self._patient_until = trio.current_time() + LONGEST_S
                room.wake()
        room.end_attempt()

    async def _make_some(self, nursery: trio.Nursery) -> bool:
        """One bounded piece of work; False where nothing can be done."""
        if self._cleaner.busy or self._cleaning.pays():
            if self._cleaning.step(urgent=self._room.is_awaited):
                await trio.lowlevel.checkpoint()
                return True
            if self._cleaner.busy:  # no frame to copy to until a write ends
                if await self._in_flight.wait_for_one():
                    return True
                self._cleaner.give_up()
        if self._in_flight.is_full:
            return await self._in_flight.wait_for_one()
        if self._evictor.can_write:
            if self._evictor.evict_oldest(nursery):
                await trio.lowlevel.checkpoint()
                return True
        elif self._health.rests_briefly:
            await self._health.rest()
            return True
        elif self._can_merge() and await self._merge(nursery):
            return True
        return await self._in_flight.wait_for_one() or await self._make_last_room()

    def _can_merge(self) -> bool:
        return self._merging is not None and self._merging.can_merge()

    async def _merge(self, nursery: trio.Nursery) -> bool:
        return self._merging is not None and await self._merging.merge(nursery)

    def _can_make_last_room(self) -> bool:
        """Whether `_make_last_room` can do anything."""
        if self._frames.is_spent:
            return False
        return self._recompression.can_make_room or self._cleaning.pays(thoroughly=True)

    async def _make_last_room(self) -> bool:
        """Nothing may leave: have a segment made smaller, then clean what is hardly worth it.

        For stores that wait, and no others, and not for longer than `LONGEST_S`.
        """
        needed = self._room.is_awaited or not self._room.exists
        if not needed or self._frames.is_spent or trio.current_time() >= self._patient_until:
            return False
        if self._recompression.can_make_room:
            with trio.move_on_at(self._patient_until):
                if await self._recompression.make_room():
                    return True
        if not self._cleaning.pays(thoroughly=True):
            return False
        going = self._cleaning.step(urgent=True)
        await trio.lowlevel.checkpoint()
        return going
