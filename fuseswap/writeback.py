"""Writeback: makes room in the pool, by cleaning and by moving segments to a tier.

One trio task (`run`) that first counts what a former worker left (``cache/recovery.py``),
then sleeps until a store finds the pool full, and looks once a second (sooner while stores
go on) for what is due: by demand, by age, by the machine's memory pressure, and dead objects
that hold too much memory.  Plus one task for each segment on its way out, at most
``writeback_batch_size`` of them:

    pool full -> store waits (``slowpath.py``) -> run: until accept_threshold_percent
        much dead space:  the cleaner merges sparse segments
        else, with a tier: the oldest segment leaves
            dense, not loaded lately, not to be recompressed: as it is
            else: loaded objects are copied forward (second chance), cold ones are
            gathered, recompressed, in a segment of their own, dead ones stay behind
            in place (``inplace.py``): page by page, none of this
        else:  recompression makes segments smaller, then the cleaner takes the last that is dead
    and ``tier_writer.py`` does the writing
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from fuseswap.cache.cleaner import LAST_RESORT_BYTES, SPARSE_BYTES, Cleaner
from fuseswap.cache.codecs import quick_recompressor
from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.segment_kinds import Stream
from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.demand import Demand
from fuseswap.errors import InvalidArgument
from fuseswap.inplace import InPlace
from fuseswap.recompression import Recompression
from fuseswap.tier_reader import TierReader
from fuseswap.tier_writer import TierWriter
from fuseswap.tiers import Tier

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_LOOK_SOON_S = 0.2  # while segments are being filled
_HOPELESS_S = 0.1  # after nothing could be done, stores are refused for so long
# Dead share of the memory held at which tidying starts and stops, under load and when idle.
_TIDY_BUSY = (0.20, 0.12)
_TIDY_IDLE = (0.10, 0.05)
_BUSY_STEPS = 64  # at a look: 4 % of the time (without a bound, random writes lost 20 %)
# Cleaning pays while at least this share of the pool is dead.
_DEAD_SHARE = 0.05
# ... and where nothing else can be done, this much: 50 bytes are copied for each one stored.
_LEAST_DEAD_SHARE = 0.02
# So long stores wait where no frame becomes free for them and nothing is written.  Making one is
# three segments that shrink by a third, 0.15 s; where it takes 40 of them it is not worth a
# reclaim that stands still.
_LONGEST_S = 2.0
_DENSE_SHARE = 0.9
_DEAD_HEAD_SHARE = 0.5
_MERGES_AT_ONCE = 4
_SHORT_PERCENT = 5  # of the extents are free: sparse ones are merged
_FEW_LOADED = 0.1
_MANY_LOADED = 0.5


class Writeback(TierWriter):
    """Room in the pool of ``cache``; ``tier`` may be None, then only the cleaner makes it."""

    def __init__(
        self,
        cache: CompressedCache,
        tier: Tier | None,
        reader: TierReader,
        under_pressure: Callable[[], bool] = lambda: False,
        place: InPlace | None = None,
    ) -> None:
        self._cache = cache
        self._under_pressure = under_pressure
        super().__init__(cache.log, tier, reader, place)
        self.cleaner = Cleaner(cache.slots, cache.log, cache.decoder)
        self.accept_threshold_percent = 90
        self.writeback_age_seconds = 0
        self.shrinker_enabled = False
        self.demand = Demand()
        self.cleaner.recompress = quick_recompressor()
        self.recompression: Recompression | None = None  # what makes room where nothing may leave
        self._wanted = trio.Event()
        self._full = False
        self._opened = 0
        self._stores_go_on = False
        self._waiters = trio.lowlevel.ParkingLot()
        self._hopeless_until = 0.0
        self._patient_until = 0.0
        cache.on_full = self._expect_room
        cache.mixes_streams = tier is None and place is None

    @property
    def recompresses(self) -> bool:
        """Whether what leaves for the tier is compressed again, quickly, while no store waits."""
        return self.cleaner.recompress is not None

    @recompresses.setter
    def recompresses(self, switch: bool) -> None:
        self.cleaner.recompress = quick_recompressor() if switch else None

    # -- for the slow path -----------------------------------------------------------

    async def wait_for_room(self) -> None:
        """Wait until it is worth trying the store again (it may be refused then)."""
        self._want_room()
        await self._waiters.park()
        self.counters.saved_by_writeback += 1

    def _expect_room(self) -> bool:
        """Asked by a store that finds the pool full: is it worth waiting?"""
        if self._cache.adopting:  # `run` comes to it
            self._want_room()
            return True
        if trio.current_time() < self._hopeless_until:
            return False
        cleans = self.cleaner.busy or self._can_clean()  # busy, it may hold the last frame
        writes = self._can_write() or self._writing or self._rests_briefly()
        if cleans or writes or self._can_merge() or self._can_make_last_room():
            self._want_room()
            return True
        return False

    def want_memory(self) -> None:
        """A store finds the system's memory short: what can be freed is freed meanwhile."""
        self._want_room()

    def _want_room(self) -> None:
        self._full = True
        self._wanted.set()

    # -- the task --------------------------------------------------------------------

    async def run(self) -> None:
        """Make room whenever it is wanted, and what is due once a second, for ever."""
        while self._cache.adopt_some():
            await trio.lowlevel.checkpoint()
        if self._tier is None and self._place is None:
            self._log.frames.grant()
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(_LOOK_SOON_S if self._stores_go_on else _LOOK_EVERY_S):
                    await self._wanted.wait()
                full = self._full
                self._full = False
                self._wanted = trio.Event()
                if full:
                    await self._make_room(nursery)
                await self._write_due(nursery)
                await self._tidy()

    def ask(self, demand: Demand) -> None:
        """Write back what ``demand`` describes, in the background; see its ``left``."""
        if self._tier is None and self._place is None:
            raise InvalidArgument("there is no backing file to write back to")
        while self._cache.adopt_some():
            pass
        for head in self._log.heads:
            if demand.takes_all or head.stream is Stream.INCOMPRESSIBLE:
                self._log.seal(head)
        demand.left = self._log.eviction_queue.matching(demand.takes)
        demand.total = len(demand.left)
        self.demand = demand
        self._wanted.set()

    async def _write_due(self, nursery: trio.Nursery) -> None:
        """Send off what was asked for, what is old enough, and some under memory pressure."""
        pressed = self.shrinker_enabled and self._under_pressure()
        if pressed:
            self._log.frames.trim(self._log.frames.ready)
        if self._tier is None and self._place is None:
            return
        if self._tier is not None:
            await self._merge_on_tier(nursery)
        await self._write_demanded(nursery)
        queue = self._log.eviction_queue
        while self.writeback_age_seconds and await self._has_a_place():
            segment, age_s = queue.oldest()
            if age_s <= self.writeback_age_seconds or not queue.remove(segment):
                break
            self._evict(nursery, segment)
            await self._finish_cleaning(nursery)
            if self._full:
                break
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
            if self._log.eviction_queue.remove(segment):
                self._evict(nursery, segment)
                await self._finish_cleaning(nursery)
            if self._full:  # stores wait, and only `_make_room` wakes them; go on after it
                return
        if self.demand is demand and not demand.left:
            self._log.seal(self._log.heads[Stream.EVICTED])
            await self._finish_cleaning(nursery)

    def _can_merge(self) -> bool:
        """Whether the tier is full, but not of what lives."""
        if self._tier is None or self._log.extents.available or not self._log.frames.has_spare:
            return False
        return not self.cleaner.busy and self.cleaner.choose_on_tier(LAST_RESORT_BYTES) != 0

    async def _merge_on_tier(self, nursery: trio.Nursery) -> bool:
        """While extents are short: read the sparsest segments and write what lives again.

        Whether there was one.
        """
        extents = self._log.extents
        self._take_back()
        merged = False
        short = max(2, extents.extent_count * _SHORT_PERCENT // 100)
        for _ in range(_MERGES_AT_ONCE):
            if extents.available >= short or not self._log.frames.ensure_spare():
                break
            full = not extents.available
            segment = self.cleaner.choose_on_tier(LAST_RESORT_BYTES if full else SPARSE_BYTES)
            if not segment or self.cleaner.busy:
                break
            ref = self._log.table.ref(segment)
            stored = await self.read_segment(segment)
            if stored and self.cleaner.is_worth_another_read(ref, stored):
                stored = await self.read_segment(segment, again=True)
            if stored is None:
                break
            merged = True
            if self._log.table.is_current(ref):
                self.cleaner.begin_on_tier(segment, stored)
                await self._finish_cleaning(nursery)
        return merged

    async def _has_a_place(self) -> bool:
        """Wait until another segment may be in flight; False where none may leave."""
        while len(self._writing) >= self.writeback_batch_size:
            await self._wait_for_a_write()
        return self._can_write()

    async def _tidy(self) -> None:
        """Give back what dead objects hold: a part of it while stores go on, most when idle.

        Cleaning to u live costs about 1/(1-u) copies a store, so not all of it is worth it.
        """
        self._stores_go_on = self._log.table.newest_sequence > self._opened
        start, stop = _TIDY_BUSY if self._stores_go_on else _TIDY_IDLE
        dead, held = self._log.dead_bytes()
        if dead > max(2 * SEGMENT_BYTES, held * start):
            steps = _BUSY_STEPS if self._stores_go_on else dead
            self.cleaner.at_leisure = not self._stores_go_on
            while dead > held * stop and not self._full:
                if not (self.cleaner.busy or self._log.frames.has_spare):
                    break
                steps -= 1
                if steps < 0 or not self.cleaner.step():
                    break
                await trio.lowlevel.checkpoint()
                dead, held = self._log.dead_bytes()
            self.cleaner.at_leisure = False
        self._opened = self._log.table.newest_sequence

    async def _finish_cleaning(self, nursery: trio.Nursery) -> None:
        """Complete the segment that is being gathered, and send off what was gathered."""
        while self.cleaner.busy:
            self.cleaner.hurries = bool(self._waiters)
            if self.cleaner.step():
                await trio.lowlevel.checkpoint()
            elif not await self._wait_for_a_write():
                self.cleaner.give_up()
        while segment := self._log.eviction_queue.pop_gathered():
            if not await self._has_a_place():
                self._log.eviction_queue.add(segment, first=True)
                return
            if self._log.table.live[segment] and self._log.table.bases[segment] >= 0:
                self._send(nursery, segment)

    async def _make_room(self, nursery: trio.Nursery) -> None:
        """Clean and write back until the pool is at ``accept_threshold_percent`` again."""
        frames = self._log.frames
        goal = max(1, frames.limit * (100 - self.accept_threshold_percent) // 100)
        self._patient_until = trio.current_time() + _LONGEST_S
        while frames.available < goal or frames.is_short:
            if frames.available + len(self._writing) >= goal and not frames.is_short:
                going = await self._wait_for_a_write()
            else:
                going = await self._make_some(nursery)
            if not going:
                break
            if self._has_room():
                self._patient_until = trio.current_time() + _LONGEST_S
                self._waiters.unpark_all()
        self.cleaner.hurries = False
        if not self._has_room():
            self._hopeless_until = trio.current_time() + _HOPELESS_S
        self._waiters.unpark_all()

    async def _make_some(self, nursery: trio.Nursery) -> bool:
        """One bounded piece of work; False where nothing can be done."""
        if self.cleaner.busy or self._can_clean():
            self.cleaner.hurries = bool(self._waiters)
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
        elif self._can_merge() and await self._merge_on_tier(nursery):
            return True
        return await self._wait_for_a_write() or await self._make_last_room()

    def _can_make_last_room(self) -> bool:
        """What `_make_last_room` can do."""
        return self._can_shrink() or self._can_clean(thoroughly=True)

    async def _make_last_room(self) -> bool:
        """Nothing may leave: have a segment made smaller, then clean what is hardly worth it.

        For stores that wait, and no others; and not for ever.
        """
        needed = self._waiters or not self._has_room()
        if not needed or trio.current_time() >= self._patient_until:
            return False
        if self.recompression is not None and self._can_shrink():
            with trio.move_on_at(self._patient_until):
                if await self.recompression.make_room():
                    return True
        if not self._can_clean(thoroughly=True):
            return False
        self.cleaner.hurries = True
        going = self.cleaner.step() or self._seal_dead_heads()
        await trio.lowlevel.checkpoint()
        return going

    def _has_room(self) -> bool:
        """Whether the next store finds room."""
        return not self._log.frames.exhausted or self._cache.has_other_room

    def _can_shrink(self) -> bool:
        """Whether recompression has something left to make smaller."""
        return self.recompression is not None and self.recompression.can_make_room

    def _can_clean(self, *, thoroughly: bool = False) -> bool:
        """Whether enough of the pool is dead for the cleaner to gain by it.

        ``thoroughly``: where it gains anything.
        """
        if not self._log.frames.has_spare:
            return False
        dead, in_frames = self._log.dead_bytes()
        if thoroughly and self._cache.mixes_streams:
            return dead >= in_frames * _LEAST_DEAD_SHARE
        return dead >= max(2 * SEGMENT_BYTES, int(in_frames * _DEAD_SHARE))

    def _seal_dead_heads(self) -> bool:
        """Let the cleaner at open segments that are mostly dead; False where there are none."""
        sealed = False
        for head in self._log.heads:
            if head.segment and not self.cleaner.busy:
                used = head.tail + SEGMENT_BYTES - head.bound
                if self._log.table.live_bytes[head.segment] < used * _DEAD_HEAD_SHARE:
                    self._log.seal(head)
                    sealed = True
        return sealed

    # -- one segment on its way out --------------------------------------------------

    def _evict_oldest(self, nursery: trio.Nursery) -> bool:
        """Send the next segment off, or begin to gather its cold objects."""
        log_ = self._log
        segment = log_.eviction_queue.pop()
        if not segment:  # all that is left is open
            for head in log_.heads:
                log_.seal(head)
            segment = log_.eviction_queue.pop()
            if not segment:
                return False
        self._evict(nursery, segment)
        return True

    def _evict(self, nursery: trio.Nursery, segment: int) -> None:
        """Send ``segment`` off as it is, or begin to gather its cold objects."""
        log_ = self._log
        if segment and self._place is not None:
            spare = self._cache.loaded_share(segment) < _MANY_LOADED
            self._send_in_place(nursery, segment, second_chance=spare)
            return
        if segment and not log_.eviction_queue.leaves_as_it_is(segment):
            share = log_.table.live_bytes[segment] / SEGMENT_BYTES
            loaded = self._cache.loaded_share(segment)
            worth_it = share < _DENSE_SHARE or loaded > _FEW_LOADED
            free = not self.cleaner.busy and log_.frames.ensure_spare()
            if free and (worth_it or (not self._waiters and self.cleaner.gains(segment))):
                self.cleaner.begin(segment, evict=True, second_chance=loaded < _MANY_LOADED)
                return
        if segment:
            self._send(nursery, segment)
