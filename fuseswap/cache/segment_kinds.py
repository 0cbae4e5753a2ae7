"""What a segment can be: its state, and the stream it was filled from.

Both are stored in word 0 of its table entry (see ``segments.py``); numbers never change.
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
