"""What a segment can be: its state, the stream it was filled from, and marks.

All are stored in word 0 of its table entry; numbers never change.  This word alone knows where a
segment is, so it has a check of 16 bits: CRC-16, polynomial 0x1021.  Any two words with their
checks differ in four bits or more:

    63        32 31    16 15    8 7     0
    +-----------+--------+-------+-------+
    | location  | check  |stream*| state |
    +-----------+--------+-------+-------+

    *  bits 8-10; marks from bit 11 on

The location of a segment in memory is its frame.  That of one on a tier is the number of the
tier (8 bits, the highest) and of the extent there (24 bits).

One bit that turned over is put right (`repaired`); a word with more of them is found, and all
pages of the segment are corrupt.  Every word has an even number of bits set, so that a look at
that is enough where words are read often.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from enum import IntEnum

from fuseswap.units import MAX_EXTENTS, Location


class SegmentState(IntEnum):
    """Bits 0-7."""

    FREE = 0
    OPEN = 1
    SEALED = 2
    ON_TIER = 3
    LOST = 4  # its entry was corrupt: nobody knows where it is


class Stream(IntEnum):
    """Bits 8-15.  Each stream has one open segment at most."""

    STORE = 0
    INCOMPRESSIBLE = 1
    SURVIVORS = 2  # what was copied forward: live, or loaded since it was stored
    EVICTED = 3  # gathered densely on the way to a tier
    RECOMPRESSED = 4  # cold, and compressed as hard as it gets


class Mark(IntEnum):
    """Single bits, set beside the stream.  A mark stays until the segment is freed."""

    TRIED = 0x08  # nothing in it can be recompressed
    SHARED = 0x10  # an object in it may have more than one page


LOCATION_SHIFT = 32
EXTENT_BITS = 24
EXTENT_MASK = MAX_EXTENTS - 1

_STREAM_BITS = 0x07
_KNOWN_MARKS = Mark.TRIED | Mark.SHARED

_checked = struct.Struct("<BBI").pack  # state, stream and marks, location


def entry_word(state: SegmentState, stream: int, location: int) -> int:
    """Word 0 of an entry; 0 for a free segment.  ``stream`` has the marks with it."""
    check = crc_hqx(_checked(state, stream, location), 0)
    return location << 32 | check << 16 | stream << 8 | state


def location_bits(location: Location | int) -> int:
    """The 32 bits for a place on a tier, or for a frame."""
    if isinstance(location, Location):
        return location.tier << EXTENT_BITS | location.extent
    return location


def location_in(word: int) -> Location | int | None:
    """Where word 0 says the segment is: a place on a tier, or a frame; None: nowhere."""
    state, bits = word & 0xFF, word >> LOCATION_SHIFT
    if state == SegmentState.ON_TIER:
        return Location(bits >> EXTENT_BITS, bits & EXTENT_MASK)
    return bits if state in (SegmentState.OPEN, SegmentState.SEALED) else None


def stream_and_marks(word: int) -> int:
    """Of word 0: as `entry_word` takes them."""
    return word >> 8 & 0xFF


def stream_in(word: int) -> Stream:
    """The stream of word 0."""
    stream = word >> 8 & _STREAM_BITS
    return Stream(stream) if stream < len(Stream) else Stream.STORE


def is_known_stream(stream: int) -> bool:
    """Whether ``stream``, with its marks, is one that `entry_word` is given."""
    return (stream & ~_KNOWN_MARKS) < len(Stream)


def is_sound(word: int) -> bool:
    """Whether ``word`` is one that `entry_word` returns."""
    state, stream = word & 0xFF, stream_and_marks(word)
    check = crc_hqx(_checked(state, stream, word >> 32), 0)
    known = is_known_stream(stream) and state <= SegmentState.LOST
    return word >> 16 & 0xFFFF == check and known


def repaired(word: int) -> int:
    """``word`` as it was before one of its bits turned over; that of a lost one for more bits."""
    if is_sound(word):
        return word
    for bit in range(64):
        if is_sound(word ^ 1 << bit):
            return word ^ 1 << bit
    return entry_word(SegmentState.LOST, Stream.STORE, 0)
