"""Whose the objects of a segment are, and how many of them were loaded.

By the directory at its end (``segment_log.py``), or by all slot words where an object may be of
several pages.  For those who clean, recompress or evict a segment: never on the way of a request.
"""

from __future__ import annotations

from fuseswap.store.segment_entry import Mark
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import is_loaded, is_object_of
from fuseswap.units import FIRST_PAGE, PageNumber, SegmentId

_ASKED_PAGES = 64  # for the share of those that were loaded: 8 us; within 6 % or so


class SegmentOwners:
    """Of one segment log, whose words are in ``slots``."""

    def __init__(self, slots: SlotTable, segment_log: SegmentLog, page_count: int) -> None:
        self._slots = slots
        self._log = segment_log
        self._page_count = page_count

    def owners_of(
        self, segment: SegmentId, first: PageNumber = FIRST_PAGE, stored: bytes = b""
    ) -> tuple[list[PageNumber], PageNumber]:
        """Pages that may have an object in a segment, in order, and where to go on.

        A bounded piece; all have been given where the second is ``page_count``.  ``stored``: the
        1 MiB of a segment that is on a tier.
        """
        if self._log.table.is_marked(segment, Mark.SHARED):
            return self._slots.sweep(segment, first)
        owners = self._log.owners(segment, stored)
        pages = {page for page in owners if page < self._page_count}
        return sorted(pages), PageNumber(self._page_count)

    def loaded_share(self, segment: SegmentId) -> float:
        """Share of the live objects of a segment in memory that were loaded since stored.

        Estimated: of some pages, spread over its directory.
        """
        loaded = found = 0
        owners = self._log.owners(segment)
        step = -(-len(owners) // _ASKED_PAGES) | 1  # odd: every second page may be of one kind
        for page in owners[::step]:
            word = self._slots.get(page) if page < self._page_count else 0
            mine = is_object_of(word, segment)
            found += mine
            loaded += mine and is_loaded(word)
        return loaded / max(1, found)
