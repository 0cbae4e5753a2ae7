"""When cleaning pays: for a store that finds the pool full, and as tidying.

Cleaning to a live share u costs about 1/(1-u) copies a store, so not all dead space is worth it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from fuseswap.reclaim.room import Room
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.store import Store
from fuseswap.units import SEGMENT_BYTES, SegmentId

# Dead share of the memory held at which tidying starts and stops, under load and when idle; or
# where those who allocate wait: a guest had 24 MiB of dead objects, and 14 MiB to work with.
_TIDY_BUSY = (0.20, 0.12)
_TIDY_IDLE = (0.10, 0.05)
_BUSY_STEPS = 64  # at a look: 4 % of the time (without a bound, random writes lost 20 %)
# Cleaning pays while at least this share of the pool is dead.
_DEAD_SHARE = 0.05
# ... and where nothing else can be done, this much: 50 bytes are copied for each one stored.
_LEAST_DEAD_SHARE = 0.02
_DEAD_HEAD_SHARE = 0.5


class CleaningPolicy:
    """Has ``cleaner`` work where ``cache`` gains by it.

    ``is_due`` says which segments recompression is to rewrite: they are left to it when idle.
    """

    def __init__(
        self,
        cache: Store,
        cleaner: Cleaner,
        room: Room,
        is_due: Callable[[SegmentId], bool],
    ) -> None:
        self._cache = cache
        self._log = cache.log
        self._cleaner = cleaner
        self._room = room
        self._is_due = is_due
        self._opened = 0
        self.stores_go_on = False  # as of the last look

    def pays(self, *, thoroughly: bool = False) -> bool:
        """Whether enough of the pool is dead for the cleaner to gain by it.

        ``thoroughly``: where it gains anything.
        """
        if not self._log.frames.has_spare:
            return False
        dead, in_frames = self._log.dead_bytes()
        if thoroughly and self._cache.full_pool.mixes_streams:
            return dead >= in_frames * _LEAST_DEAD_SHARE
        return dead >= max(2 * SEGMENT_BYTES, int(in_frames * _DEAD_SHARE))

    def step(self, *, urgent: bool) -> bool:
        """Clean some more; False where nothing is worth it, or no frame is left to copy to.

        ``urgent``: a store waits, so nothing is recompressed.
        """
        return self._cleaner.step(urgent=urgent) or self._seal_dead_heads()

    def _seal_dead_heads(self) -> bool:
        """Let the cleaner at open segments that are mostly dead; False where there are none."""
        sealed = False
        for head in self._log.heads:
            if head.segment and not self._cleaner.busy:
                used = head.tail + SEGMENT_BYTES - head.bound
                if self._log.table.live_bytes[head.segment] < used * _DEAD_HEAD_SHARE:
                    self._log.seal(head)
                    sealed = True
        return sealed

    async def tidy(self) -> None:
        """Give back memory of dead objects: a part while stores go on, most when idle."""
        self.stores_go_on = self._log.table.newest_sequence > self._opened
        lazily = self.stores_go_on and not self._log.frames.is_dear
        start, stop = _TIDY_BUSY if lazily else _TIDY_IDLE
        dead, held = self._log.dead_bytes()
        if dead > max(2 * SEGMENT_BYTES, held * start):
            steps = _BUSY_STEPS if self.stores_go_on else dead
            skip = None if self.stores_go_on else self._is_due
            while dead > held * stop and not self._room.is_wanted:
                if not (self._cleaner.busy or self._log.frames.has_spare):
                    break
                steps -= 1
                if steps < 0 or not self._cleaner.step(skip=skip):
                    break
                await trio.lowlevel.checkpoint()
                dead, held = self._log.dead_bytes()
        self._opened = self._log.table.newest_sequence
