"""What a store of pages is to those who reclaim its memory and look for duplicates in it.

The compressed cache (``compressed_cache.py``) is the one there is.  Writeback, cleaning,
recompression and the sweep for duplicates know this much of it, so they stand below it and are
tried without it. Each call is a critical section of the worker's one thread.
"""

from __future__ import annotations

from typing import Protocol

from fuseswap.codecs.checksum import Decoder
from fuseswap.store.dictionary_area import Dictionaries
from fuseswap.store.full_pool import FullPool
from fuseswap.store.page_reader import PageReader
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.units import FIRST_PAGE, PageNumber, SegmentId


class Store(Protocol):
    """Pages in a segment log, and the words that lead to them."""

    slots: SlotTable
    log: SegmentLog
    reader: PageReader
    decoder: Decoder
    dictionaries: Dictionaries
    page_count: int
    full_pool: FullPool
    largest_kept: int  # bytes; larger pages leave memory before all others

    @property
    def adopting(self) -> bool:
        """Whether what a former worker left is yet to be counted: nothing is freed or cleaned."""

    def keep_ready(self) -> None:
        """Have the feeder make what stores will need next; see ``memory_reserve.py``."""

    def owners_of(
        self, segment: SegmentId, first: PageNumber = FIRST_PAGE, stored: bytes = b""
    ) -> tuple[list[PageNumber], PageNumber]:
        """Pages that may have an object in a segment, in order, and where to go on.

        A bounded piece; all have been given where the second is `page_count`.  ``stored``: the
        1 MiB of a segment that is on a tier.
        """

    def loaded_share(self, segment: SegmentId) -> float:
        """Share of the live objects of a segment in memory that were loaded since stored."""
