"""Which dictionaries the pages of each segment need: counts that are never too low.

A word says that its object needs a dictionary (codec 7), and the object says which.  An object
that dies is not looked at: on a tier it can't be, and in memory a bit of it may have turned over.
So two things are counted for each segment.  One is such pages, exactly, by their words.  The other
is the most of them that each dictionary can have:

    a page comes    its object was just written, or read and found sound: both grow
    a page goes     the first shrinks, and no dictionary can have more than are left

With one dictionary in a segment that is exact.  With several it is too high by those that went,
until all that live in it are looked at (`recount`).  The task of recompression does that with a few
of the `inexact` segments each second (``dictionary_mover.py``).

For the next worker the set of each segment that goes to a tier stands in its entry
(``segment_table.py``).  The objects of those in memory are read.  A segment that has such pages
takes 0.3 KiB here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fuseswap.codecs.dictionary import MAX_DICTIONARIES
from fuseswap.units import SegmentId


class DictionaryUse:
    """``pages``: at most so many pages need each dictionary, by number; 0 is certain.

    ``inexact``: segments with several, pages of which went since they were counted.
    """

    def __init__(self) -> None:
        self.pages = [0] * MAX_DICTIONARIES
        self.inexact: set[SegmentId] = set()
        # segment -> its pages, then pages << 8 | number for each dictionary
        self._of: dict[SegmentId, list[int]] = {}

    def add(self, segment: SegmentId, numbers: Iterable[int]) -> None:
        """Another page of ``segment`` needs one of ``numbers``."""
        of = self._of.setdefault(segment, [0])
        of[0] += 1
        for number in numbers:
            self.pages[number] += 1
            for at in range(1, len(of)):
                if of[at] & 0xFF == number:
                    of[at] += 1 << 8
                    break
            else:
                of.append(1 << 8 | number)

    def release(self, segment: SegmentId, known: int | None = None) -> None:
        """A page of ``segment`` is gone; ``known``: its dictionary, where its object was sound."""
        of = self._of.get(segment)
        if of is None:  # more than one bit of a word turned over
            return
        of[0] = left = of[0] - 1
        if len(of) > 2 and known is None:
            self.inexact.add(segment)
        for at in range(len(of) - 1, 0, -1):
            pages, number = of[at] >> 8, of[at] & 0xFF
            if pages > left or number == known:
                self.pages[number] -= 1
                of[at] -= 1 << 8
                if pages == 1:
                    del of[at]
        if left <= 0:
            self.forget(segment)

    def recount(self, segment: SegmentId, pages: Mapping[int, int]) -> None:
        """``pages`` of ``segment`` need each dictionary; no others of it do."""
        self.forget(segment)
        if pages:
            self._of[segment] = [sum(pages.values())]
        for number, count in pages.items():
            self._of[segment].append(count << 8 | number)
            self.pages[number] += count

    def forget(self, segment: SegmentId) -> None:
        """No page of ``segment`` needs any."""
        self.inexact.discard(segment)
        for entry in self._of.pop(segment, [0])[1:]:
            self.pages[entry & 0xFF] -= entry >> 8

    def clear(self) -> None:
        """Begin anew."""
        self._of.clear()
        self.inexact.clear()
        self.pages[:] = [0] * MAX_DICTIONARIES

    def of(self, segment: SegmentId) -> dict[int, int]:
        """At most so many pages of ``segment`` need each dictionary."""
        return {entry & 0xFF: entry >> 8 for entry in self._of.get(segment, [0])[1:]}

    def pages_in(self, segment: SegmentId) -> int:
        """How many pages of ``segment`` need a dictionary: exactly."""
        return self._of.get(segment, [0])[0]

    def segments(self) -> list[SegmentId]:
        """Those with such pages."""
        return list(self._of)
