"""The tables of a device as another process sees them, which serves nothing and changes nothing.

Reads the files of the slot table and the segment table, and maps neither: a read of a hole takes
no memory.  The worker goes on meanwhile, so a page may have moved between two looks.  Words
are taken for what they may be, and nothing is followed that is out of bounds.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from fuseswap.store.geometry import CLUSTER_PAGES, SEGMENT_ENTRY_BYTES
from fuseswap.store.segment_entry import (
    Mark,
    SegmentState,
    location_in,
    repaired,
    stream_and_marks,
)
from fuseswap.store.slot_table import CLUSTER_SHIFT
from fuseswap.store.slot_word import is_object, object_key, segment_of
from fuseswap.store.superblock import tier_names_in
from fuseswap.units import PAGE_SIZE, Location, PageNumber, SegmentId

_TIME_MASK = 0xFFFFFFFF
_HOLES = array("Q", bytes(PAGE_SIZE))


@dataclass(frozen=True, slots=True)
class SegmentView:
    """``tier``: its number, None in memory.  ``sealed_at``: CLOCK_BOOTTIME in s, None: open."""

    tier: int | None
    sealed_at: int | None
    shared: bool


class TableView:
    """Of one device; ``tier_names`` by number."""

    def __init__(self, header: int, slots: int, segments: int) -> None:
        """Takes descriptors, which stay the caller's.  Raises `StateMismatch`."""
        noted = tier_names_in(header)  # each with its policy
        self.tier_names = {number: text.split(" ", 1)[0] for number, text in noted.items()}
        self._slots = slots
        self._segments = segments
        self._clusters: dict[int, array[int]] = {}
        self._seen: dict[SegmentId, SegmentView | None] = {}

    def word(self, page: PageNumber) -> int:
        """The slot word of ``page``; 0 for a hole, and beyond the end."""
        cluster = page >> CLUSTER_SHIFT
        words = self._clusters.get(cluster)
        if words is None:
            words = self._clusters[cluster] = self.words(cluster)
        return words[page % CLUSTER_PAGES]

    def words(self, cluster: int) -> array[int]:
        """All 512 words of a cluster, as they are now."""
        read = os.pread(self._slots, PAGE_SIZE, cluster * PAGE_SIZE)
        return array("Q", read) if len(read) == PAGE_SIZE else _HOLES

    def clusters(self, most: int) -> list[int] | None:
        """The clusters that have memory, which may be empty; None where these are more than
        ``most``.
        """
        found: list[int] = []
        for start, end in self._extents():
            if len(found) + end - start > most:
                return None
            found += range(start, end)
        return found

    def cluster_end(self) -> int:
        """The first cluster from which on none has memory, found in some 25 looks."""
        low, high = 0, -(-os.fstat(self._slots).st_size // PAGE_SIZE)
        while low < high:
            middle = (low + high) // 2
            try:
                found = os.lseek(self._slots, middle * PAGE_SIZE, os.SEEK_DATA) // PAGE_SIZE
            except OSError:  # ENXIO: nothing more
                high = middle
            else:
                low = found + 1
        return low

    def segment(self, segment: SegmentId) -> SegmentView | None:
        """What the table says of ``segment``; None where it is free or lost."""
        if segment not in self._seen:
            self._seen[segment] = self._look(segment)
        return self._seen[segment]

    def _look(self, segment: SegmentId) -> SegmentView | None:
        at = segment * SEGMENT_ENTRY_BYTES
        entry = array("Q", os.pread(self._segments, SEGMENT_ENTRY_BYTES, at))
        if len(entry) * 8 != SEGMENT_ENTRY_BYTES:
            return None
        word = repaired(entry[0])
        location = location_in(word)
        if location is None:
            return None
        is_open = word & 0xFF == SegmentState.OPEN
        return SegmentView(
            tier=location.tier if isinstance(location, Location) else None,
            sealed_at=None if is_open else entry[3] & _TIME_MASK,
            shared=bool(stream_and_marks(word) & Mark.SHARED),
        )

    def sharers(self) -> Counter[int]:
        """How many pages have each object that may have several, by `object_key`.

        Looks through all words: about 0.1 s a million pages.
        """
        found: Counter[int] = Counter()
        for words in self._all_clusters():
            for word in words:
                if is_object(word) and (view := self.segment(segment_of(word))) and view.shared:
                    found[object_key(word)] += 1
        return found

    def stored_pages(self) -> int:
        """Pages with a word."""
        return sum(CLUSTER_PAGES - words.count(0) for words in self._all_clusters())

    def _all_clusters(self) -> Iterator[array[int]]:
        for start, end in self._extents():
            for cluster in range(start, end):
                yield self.words(cluster)

    def _extents(self) -> Iterator[tuple[int, int]]:
        """Runs of clusters that have memory: the first, and the one behind the last."""
        at = 0
        while True:
            try:
                start = os.lseek(self._slots, at, os.SEEK_DATA)
                at = os.lseek(self._slots, start, os.SEEK_HOLE)
            except OSError:  # ENXIO: nothing more
                return
            yield start // PAGE_SIZE, -(-at // PAGE_SIZE)
