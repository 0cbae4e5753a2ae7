"""Constants, and types that keep page numbers, segments and their places apart.

Page numbers count 4096-byte pages from the start of the swapfile.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

PAGE_SIZE = 4096
PAGE_SHIFT = 12
KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# What a `Location` of 32 bits can name (``store/segment_entry.py``).
MAX_TIERS = 1 << 8
MAX_EXTENTS = 1 << 24  # of 1 MiB: 16 TiB

PageNumber = NewType("PageNumber", int)
SegmentId = NewType("SegmentId", int)


class SegmentRef(NamedTuple):
    """A segment from its opening to its end: ids are used again, sequences are not."""

    id: int
    sequence: int


class Location(NamedTuple):
    """A place on a tier: the number of the tier, and of its extent (1 MiB)."""

    tier: int
    extent: int


SEGMENT_SHIFT = 20
SEGMENT_BYTES = 1 << SEGMENT_SHIFT
