"""Departures: the order in which sealed segments leave memory.

Two lines: segments that leave as they are (incompressible pages, and what was gathered
on its way out) before the others; each oldest first.  All derived.  A segment that was
freed, moved, or given to a new life since it got in line is passed over when its turn
comes, so nothing has to be removed when a segment dies.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fuseswap.cache.segment_kinds import Stream

if TYPE_CHECKING:
    from fuseswap.cache.segments import SegmentLog

AS_THEY_ARE = (Stream.INCOMPRESSIBLE, Stream.EVICTED)


class Departures:
    """The lines of one log.  An entry is ``(segment, sequence)``: ids are used again."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._lines: tuple[deque[tuple[int, int]], ...] = (deque(), deque())

    def add(self, segment: int, *, first: bool = False) -> None:
        """Get in line: at the end, or ``first`` after a write that failed."""
        line = self._lines[not self.leaves_as_it_is(segment)]
        entry = (segment, self._log.age_of(segment)[0])
        (line.appendleft if first else line.append)(entry)

    def start_over(self) -> None:
        """Line up what is sealed and in memory, and nothing else."""
        for line in self._lines:
            line.clear()
        for segment in self.all_sealed():
            self.add(segment)

    def next(self) -> int:
        """Take the next one out of line; 0 where nobody stands in it."""
        for line in self._lines:
            while line:
                segment, sequence = line.popleft()
                if self._still_there(segment, sequence):
                    return segment
        return 0

    def take(self, segment: int) -> bool:
        """Take ``segment`` out of line; False where it is not in line any more."""
        for line in self._lines:
            for entry in line:
                if entry[0] == segment and self._still_there(*entry):
                    line.remove(entry)
                    return True
        return False

    def matching(self, wanted: Callable[[Stream, float], bool]) -> list[int]:
        """Sealed segments in memory, oldest first, for which ``wanted(stream, age in s)``."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        log = self._log
        return [s for s in self.all_sealed() if wanted(log.stream_of(s), now - log.age_of(s)[1])]

    def all_sealed(self) -> list[int]:
        """Every sealed segment in memory, oldest first."""
        log = self._log
        sealed = [int(s) for s in log.segments() if log.bases[s] >= 0 and log.is_movable(s)]
        return sorted(sealed, key=log.age_of)

    def next_gathered(self) -> int:
        """Take the next one that was gathered on its way out; 0 where there is none."""
        for segment, _ in list(self._lines[0]):
            if self._log.stream_of(segment) is Stream.EVICTED and self.take(segment):
                return segment
        return 0

    def oldest(self) -> tuple[int, float]:
        """``(segment, seconds since it was sealed)`` of the longest sealed; ``(0, 0.0)``: none."""
        best = (0, 0.0)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for line in self._lines:
            while line and not self._still_there(*line[0]):
                line.popleft()
            if line:
                age_s = now - self._log.age_of(line[0][0])[1]
                if not best[0] or age_s > best[1]:
                    best = (line[0][0], age_s)
        return best

    def leaves_as_it_is(self, segment: int) -> bool:
        """Whether nothing can be gained by gathering its live objects elsewhere first."""
        return self._log.stream_of(segment) in AS_THEY_ARE

    def _still_there(self, segment: int, sequence: int) -> bool:
        log = self._log
        same = log.live[segment] > 0 and log.age_of(segment)[0] == sequence
        return same and log.bases[segment] >= 0 and log.is_movable(segment)
