"""Geometry: how large the regions of the shared state are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fuseswap.store.latency_histogram import LATENCY_BYTES
from fuseswap.units import MAX_SEGMENTS, PAGE_SHIFT, PAGE_SIZE, SEGMENT_BYTES, SEGMENT_SHIFT

CLUSTER_PAGES = 512
SEGMENT_ENTRY_BYTES: Final = 32
DICTIONARY_PLACES = 8
DICTIONARY_PLACE_BYTES = 128 << 10
RESERVE_FRAMES = 16  # kept ready by default, also on a small machine: fewer take longer there
_INDEX_ENTRY_BYTES = 8
_MAX_INDEX_ENTRIES = 1 << 22
HEADER_RECORDS_BYTES = 2 * PAGE_SIZE


# The read buffer, and more requests that wait than the kernel has in flight for a loop
# device (256, max_background), so that discards are read meanwhile.  Address space only.
_JOURNAL_SLOTS = 321
_JOURNAL_BYTES = PAGE_SIZE + _JOURNAL_SLOTS * (SEGMENT_BYTES + PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How large the regions are.  Segment 0 is reserved and never used."""

    page_count: int
    segment_count: int
    frame_count: int

    @classmethod
    def for_size(cls, size_bytes: int, memory_bytes: int, extent_count: int = 0) -> Geometry:
        """Geometry for a swapfile of ``size_bytes`` on a machine of ``memory_bytes`` of RAM.

        Frames are address space, not memory: enough for every page stored raw, but
        never more than the RAM there is.  ``extent_count`` adds segments that live on
        a tier.
        """
        page_count = size_bytes >> PAGE_SHIFT
        raw_frames = (size_bytes >> SEGMENT_SHIFT) * 258 // 256 + 16
        frame_count = max(16, min(raw_frames, memory_bytes >> SEGMENT_SHIFT))
        segment_count = min(frame_count + extent_count + 1, MAX_SEGMENTS)
        return cls(page_count, segment_count, frame_count)

    @property
    def index_entries(self) -> int:
        """The most entries the index of contents may have: a power of two."""
        wanted = 1 << (self.page_count - 1).bit_length()
        return max(CLUSTER_PAGES, min(wanted, _MAX_INDEX_ENTRIES))

    def region_bytes(self) -> dict[str, int]:
        """Size of each region in bytes, by name."""
        clusters = -(-self.page_count // CLUSTER_PAGES)
        entries = self.segment_count * SEGMENT_ENTRY_BYTES
        return {
            "header": HEADER_RECORDS_BYTES + LATENCY_BYTES,
            "slots": clusters * PAGE_SIZE,
            "segments": -(-entries // PAGE_SIZE) * PAGE_SIZE,
            "arena": self.frame_count << SEGMENT_SHIFT,
            "journal": _JOURNAL_BYTES,
            "dictionaries": DICTIONARY_PLACES * DICTIONARY_PLACE_BYTES,
            "index": self.index_entries * _INDEX_ENTRY_BYTES,
        }
