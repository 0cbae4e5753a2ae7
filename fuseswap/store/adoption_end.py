"""The end of an adoption: all words are counted, and the segment log makes use of that.

In steps, since a tier of 1 TiB has a million segments:

    references of shared objects are settled -> `SegmentLog.adopting` is False: counts are right
        -> segments without a live page are freed -> those in memory stand in line to leave
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from operator import not_

from fuseswap.store.sealed_by_age import SealedByAge
from fuseswap.store.segment_log import SegmentLog
from fuseswap.units import segment_range

SETTLED_AT_ONCE = 4
LOOKED_AT_ONCE = 8192  # 0.3 ms, where few are free
FREED_AT_ONCE = 128
LINED_UP_AT_ONCE = 512


class AdoptionEnd:
    """Of one segment log."""

    def __init__(self, segment_log: SegmentLog) -> None:
        self._log = segment_log
        self._steps: Iterator[None] | None = self._all_steps()  # refers to this until it ends

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self._steps is None

    def step(self) -> bool:
        """Do some more; False: that was all."""
        for _ in self._steps or ():
            return True
        self._steps = None
        return False

    def _all_steps(self) -> Iterator[None]:
        segment_log = self._log
        settled = 0
        while segment_log.settle_one():
            settled += 1
            if settled % SETTLED_AT_ONCE == 0:
                yield
        segment_log.adopting = False
        yield from self._free_dead()
        sealed = SealedByAge(segment_log.table)
        while sealed.step():
            yield
        # The newest first, and each before all others: what was sealed meanwhile stays behind.
        for number, segment in enumerate(reversed(sealed.found()), 1):
            segment_log.eviction_queue.add(segment, first=True)
            if number % LINED_UP_AT_ONCE == 0:
                yield

    def _free_dead(self) -> Iterator[None]:
        """Free the segments that no word points to."""
        live = self._log.table.live
        freed = 0
        for first in range(1, len(live), LOOKED_AT_ONCE):
            ids = segment_range(first, min(first + LOOKED_AT_ONCE, len(live)))
            for segment in list(compress(ids, map(not_, live[first : first + len(ids)]))):
                freed += self._log.free_dead(segment)
                if freed == FREED_AT_ONCE:
                    freed = 0
                    yield
            yield
