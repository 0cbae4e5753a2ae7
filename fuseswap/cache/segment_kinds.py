"""What a segment can be: its state, the stream it was filled from, and marks.

All are stored in word 0 of its table entry (see ``segments.py``); numbers never change.
"""

from __future__ import annotations

from enum import IntEnum


class SegmentState(IntEnum):
    """Bits 0-7."""

    FREE = 0
    OPEN = 1
    SEALED = 2
    ON_TIER = 3


class Stream(IntEnum):
    """Bits 8-15.  Each stream has one open segment at most."""

    STORE = 0
    INCOMPRESSIBLE = 1
    SURVIVORS = 2  # what was copied forward: live, or loaded since it was stored
    EVICTED = 3  # gathered densely on the way to a tier
    RECOMPRESSED = 4  # cold, and compressed as hard as it gets


class Mark(IntEnum):
    """Single bits, 16 and up.  Once set, a mark stays until the segment is freed."""

    TRIED = 1 << 16  # nothing in it can be recompressed
    SHARED = 1 << 17  # an object in it may have more than one page
