"""Constants, and types that keep page numbers and segments apart.

Page numbers count 4096-byte pages from the start of the swapfile.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

PAGE_SIZE = 4096
PAGE_SHIFT = 12
KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

PageNumber = NewType("PageNumber", int)
SegmentId = NewType("SegmentId", int)


class SegmentRef(NamedTuple):
    """A segment from its opening to its end: ids are used again, sequences are not."""

    id: int
    sequence: int
