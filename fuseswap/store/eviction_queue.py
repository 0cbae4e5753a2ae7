"""The eviction queue: the order in which sealed segments leave memory.

Two lines, each oldest first.  Segments that leave as they are (incompressible pages, and pages
gathered on their way out) come before the others.  All derived.

    sealed -> `add` -> in line -> `pop`, `remove`: on its way out, or to the cleaner
                          `-----> `drop`: it died, or has left

A segment that lives in memory stands in line once at most.  One that does not is taken out.  So
the lines have at most one entry a frame.  Each step takes the same time, however long they are.
A pinned segment may not leave: it is dropped when its turn comes.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from fuseswap.linux.clocks import boot_s
from fuseswap.store.segment_entry import Stream
from fuseswap.store.segment_table import SegmentTable
from fuseswap.units import NO_SEGMENT, SegmentId

AS_THEY_ARE = (Stream.INCOMPRESSIBLE, Stream.EVICTED)


class EvictionQueue:
    """The lines of one segment table."""

    def __init__(self, table: SegmentTable) -> None:
        self._table = table
        # Segments that live in memory, each in one line: together at most as many as frames.
        self._lines: tuple[OrderedDict[SegmentId, None], ...] = (OrderedDict(), OrderedDict())
        # Those of the first line that were gathered, in its order.
        self._gathered: OrderedDict[SegmentId, None] = OrderedDict()

    def add(self, segment: SegmentId, *, first: bool = False) -> None:
        """Get in line: at the end, or ``first`` after a write that failed.

        A segment that may not leave, since it died meanwhile, does not get in.
        """
        if not self._may_leave(segment):
            return
        stream = self._table.stream_of(segment)
        for line in (self._lines[stream not in AS_THEY_ARE], self._gathered):
            line[segment] = None
            line.move_to_end(segment, last=not first)
            if stream is not Stream.EVICTED:
                break

    def drop(self, segment: SegmentId) -> None:
        """``segment`` is no more, or is in memory no more."""
        for line in (*self._lines, self._gathered):
            line.pop(segment, None)

    def __contains__(self, segment: SegmentId) -> bool:
        """Whether ``segment`` is in line, and not on its way out."""
        return any(segment in line for line in self._lines)

    def pop(self) -> SegmentId:
        """Take the next one out of line; 0 where the line is empty."""
        for line in self._lines:
            if segment := self._first_of(line):
                self.drop(segment)
                return segment
        return NO_SEGMENT

    def first(self, most: int) -> list[SegmentId]:
        """Up to ``most`` segments that `pop` would take, in its order; they stay in line."""
        in_order = (s for line in self._lines for s in line if self._may_leave(s))
        return list(islice(in_order, most))

    def remove(self, segment: SegmentId) -> bool:
        """Take ``segment`` out of line; False where it is not in line any more."""
        found = any(segment in line for line in self._lines) and self._may_leave(segment)
        self.drop(segment)
        return found

    def pop_gathered(self) -> SegmentId:
        """Take the next one that was gathered on its way out; 0 where there is none."""
        segment = self._first_of(self._gathered)
        self.drop(segment)
        return segment

    def oldest(self) -> tuple[SegmentId, float]:
        """``(segment, seconds since it was sealed)`` of the longest sealed; ``(0, 0.0)``: none."""
        best = (NO_SEGMENT, 0.0)
        now = boot_s()
        for line in self._lines:
            if segment := self._first_of(line):
                age_s = now - self._table.sealed_at(segment)
                if not best[0] or age_s > best[1]:
                    best = (segment, age_s)
        return best

    def leaves_as_it_is(self, segment: SegmentId) -> bool:
        """Whether nothing can be gained by gathering its live objects elsewhere first."""
        return self._table.stream_of(segment) in AS_THEY_ARE

    def _first_of(self, line: OrderedDict[SegmentId, None]) -> SegmentId:
        """The first segment of ``line``, 0: none.  Drops those before it that may not leave."""
        while line:
            segment = next(iter(line))
            if self._may_leave(segment):
                return segment
            self.drop(segment)
        return NO_SEGMENT

    def _may_leave(self, segment: SegmentId) -> bool:
        table = self._table
        return table.live[segment] > 0 and table.bases[segment] >= 0 and table.is_movable(segment)
