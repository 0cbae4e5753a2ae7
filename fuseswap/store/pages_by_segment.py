"""Which segments in memory have the objects of some pages: looked up in steps.

Those that are open are sealed, but for the one in which objects are being gathered for a tier: it
leaves anyway.  A page that moves meanwhile may be missed.  So each word is looked at again before
anything is done.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from itertools import chain, islice

from fuseswap.store.segment_entry import Stream
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import is_corrupt, is_object, is_object_of, object_key, segment_of
from fuseswap.units import PageNumber, SegmentId, page_array

STEP_PAGES = 1024  # about 1 ms


class PagesBySegment:
    """Of ``ranges`` of pages, which may lie beyond the end."""

    def __init__(
        self, slots: SlotTable, log: SegmentLog, ranges: Sequence[Sequence[PageNumber]]
    ) -> None:
        self._slots = slots
        self._log = log
        self._left = chain.from_iterable(ranges)
        # As many as the ranges have: an order names 4096 at most (``page_ranges.py``).
        self._pages: dict[SegmentId, MutableSequence[PageNumber]] = {}

    def step(self) -> bool:
        """Look some more pages up; False: that was all."""
        table = self._log.table
        looked = 0
        for page in islice(self._left, STEP_PAGES):
            looked += 1
            word = self._slots.get(page) if page < self._slots.page_count else 0
            if not is_object(word) or is_corrupt(word):
                continue
            segment = segment_of(word)
            if segment not in self._pages:
                self._seal(segment)
                if not table.is_live(segment) or not table.is_movable(segment):
                    continue
                self._pages[segment] = page_array()
            self._pages[segment].append(page)
        return looked == STEP_PAGES

    def _seal(self, segment: SegmentId) -> None:
        for head in self._log.heads:
            if head.segment == segment and head.stream is not Stream.EVICTED:
                self._log.seal(head)

    def found(self) -> list[SegmentId]:
        """Segments that have some of the pages, oldest first."""
        return sorted(self._pages, key=self._log.table.sequence_of)

    def of(self, segment: SegmentId) -> list[PageNumber]:
        """Those of ``segment`` that still have their objects there."""
        pages = dict.fromkeys(self._pages.get(segment, ()))
        return [page for page in pages if is_object_of(self._slots.get(page), segment)]

    def keys_of(self, pages: Sequence[PageNumber]) -> frozenset[int]:
        """The objects of ``pages``, by `object_key`."""
        return frozenset(object_key(self._slots.get(page)) for page in pages)
