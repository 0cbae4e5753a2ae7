"""Count what a former worker left: all that is derived from the slot table.

Counting the live objects of every segment means reading every word, 0.3 us each.  A worker
need not wait for that: loads need no counts.  So it adopts the tables as they are and
serves at once; the clusters of the slot table are counted in the background, and one that
is about to be changed is counted first:

    attach -> serve, `Adoption.step` between requests -> all counted: segments without a live
              object are freed, cleaner and writeback begin

Until then no segment is freed, cleaned or written back: its count is not complete.

Of a segment with shared objects all references to each object are counted, since a page may
go before the next one is found; in the end the first of each is taken off again (`settle`).

A word that cannot be right (odd parity, a segment that does not exist) stays, with odd
parity, so that a load of that page says EIO instead of zeros, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.cache.segments import SegmentLog
from fuseswap.cache.slot_word import (
    is_corrupt,
    is_in_place,
    is_object,
    is_same_filled,
    segment_of,
    spoiled,
)
from fuseswap.cache.slots import UNCOUNTED, SlotTable


@dataclass(slots=True)
class Recovered:
    """What was found that is no object: pages by kind, and words that cannot be right."""

    fill_words: int = 0
    in_place_pages: int = 0
    corrupt_words: int = 0


class Adoption:
    """Counts what a former worker left, cluster by cluster."""

    def __init__(self, slots: SlotTable, log: SegmentLog, *, in_place: bool = False) -> None:
        """Adopt the tables.  ``in_place``: words of that kind are somebody's, and not corrupt."""
        self._slots = slots
        self._log = log
        self._in_place = in_place
        self._next = 0
        self.found = Recovered()
        log.adopt()

    def step(self, clusters: int) -> bool:
        """Count some more; False where all are counted (then the log is complete)."""
        used = self._slots.used
        while self._next < len(used):
            if used[self._next] == UNCOUNTED:
                if not clusters:
                    return True
                clusters -= 1
                self.count(self._next)
            self._next += 1
        while self._log.settle_one():
            clusters -= 1
            if clusters < 0:
                return True
        if self._log.adopting:
            self._log.finish_adoption()
        return False

    def count(self, cluster: int) -> None:
        """Count one cluster, if that was not done."""
        if self._slots.used[cluster] != UNCOUNTED:
            return
        log = self._log
        words = self._slots.count(cluster)
        objects = [word for word in words if is_object(word)]
        for word in objects:
            if not is_corrupt(word) and log.table.exists(segment_of(word)):
                log.adopt_word(word)
        if len(objects) != len(words) - words.count(0):
            self._count_others(words)
        self._mark_corrupt(cluster << 9, words)

    def _count_others(self, words: list[int]) -> None:
        found = self.found
        for word in words:
            if is_object(word) or not word or is_corrupt(word):
                continue
            if is_same_filled(word):
                found.fill_words += 1
            elif is_in_place(word) and self._in_place:
                found.in_place_pages += 1
            else:
                found.corrupt_words += 1

    def _mark_corrupt(self, first: int, words: list[int]) -> None:
        """Count words of odd parity, and give odd parity to those of no segment."""
        for index, word in enumerate(words):
            if is_corrupt(word):
                self.found.corrupt_words += 1
            elif is_object(word) and not self._log.table.exists(segment_of(word)):
                self.found.corrupt_words += 1
                self._slots.words[first + index] = spoiled(word)  # EIO now, and whoever gets the id
