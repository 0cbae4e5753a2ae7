"""The slot word: the 64 bits that say where a page is.

     63 62 61     40 39      20 19        8 7     4  3   2  1  0
    +-----+---------+----------+-----------+-------+---+---+----+
    |  0  | segment |  offset  | length-1  | codec | R | P | 10 |  object
    +-----+---------+----------+-----------+-------+---+---+----+
    |       0       |        fill (36 bits)        | W | P | 01 |  same-filled
    +---------------+------------------------------+---+---+----+
    |    0   | backend (36-43) |  cookie (4-35)  | 0 | P | 11 |  foreign
    +-----------------------------------------------------------+
    |                      0                                    |  hole
    +-----------------------------------------------------------+

    segment     its id, 22 bits, never 0 for an object: the top is 0 for all else
    offset      bytes from the start of the segment (1 MiB)
    length-1    stored bytes less one (1 to 4096)
    codec       see ``foreign_codec.py``
    R           loaded since it was stored (second chance for the cleaner)
    P           parity: every word has an even number of bits set, so that a
                flipped bit anywhere, also in a hole, is found on load
    backend     its number: whoever keeps the page apart from the compressed cache
    cookie      32 bits of its own: the checksum of a page at its place (``raw_file.py``)
    W           0: fill is the 64-bit word, zero-extended; 1: a 32-bit word, twice

Two bits are free at the top, so a word is below 2**62.  Every operation on the bits is a
function here.  Three hot ways write them out, since a call costs 60 ns.  They are the loads and
stores of the front end and the compressed cache, and `append` and `release` of the segment log.
"""

from __future__ import annotations

from typing import cast

from fuseswap.units import SegmentId


class SegmentIdShift(int):
    """The type of `SEGMENT_ID_SHIFT`: the word of an object shifted by it is a segment."""

    def __rrshift__(self, word: int, /) -> SegmentId:
        """The segment of ``word``."""
        return SegmentId(word >> int(self))


KIND_MASK = 0b11
SAME_FILLED = 0b01
OBJECT = 0b10
FOREIGN = 0b11
PARITY = 0b100
REFERENCED = 0b1000
FILL_REPEATS_32 = 0b1000

CODEC_SHIFT = 4
LENGTH_SHIFT = 8
OFFSET_SHIFT = 20
SEGMENT_ID_SHIFT = cast("SegmentIdShift", 40)  # a plain int as it runs
CODEC_MASK = 0xF
LENGTH_MASK = 0xFFF
OFFSET_MASK = 0xFFFFF
MAX_SEGMENTS = 1 << 22

SEGMENT_ID_BYTE = SEGMENT_ID_SHIFT // 8  # its lowest byte is this one of the word

_FILL_SHIFT = 4
_FILL_BITS = 36
_COOKIE_SHIFT = 4
_COOKIE_MASK = 0xFFFFFFFF
_NUMBER_SHIFT = 36
_NUMBER_MASK = 0xFF
_LOADED = REFERENCED | PARITY


def with_parity(word: int) -> int:
    """``word``, whose parity bit is 0, with the right one."""
    return word | PARITY if word.bit_count() & 1 else word


def is_corrupt(word: int) -> bool:
    """Whether an odd number of its bits turned over."""
    return word.bit_count() & 1 != 0


def spoiled(word: int) -> int:
    """``word``, to be found corrupt by the next reader; or what it was before that."""
    return word ^ PARITY


# -- objects -----------------------------------------------------------------------------


def object_word(segment: SegmentId, offset: int, length: int, codec: int) -> int:
    """Word of ``length`` stored bytes at ``offset`` in ``segment``."""
    word = segment << SEGMENT_ID_SHIFT | offset << OFFSET_SHIFT
    return with_parity(word | length - 1 << LENGTH_SHIFT | codec << CODEC_SHIFT | OBJECT)


def is_object(word: int) -> bool:
    """Whether it names an object, sound or not."""
    return word & KIND_MASK == OBJECT


def is_object_of(word: int, segment: SegmentId) -> bool:
    """Whether it names an object of ``segment``, sound or not."""
    return word & KIND_MASK == OBJECT and word >> SEGMENT_ID_SHIFT == segment


def segment_of(word: int) -> SegmentId:
    """Id of the segment of an object; 0 for a same-filled page that is sound, and for a hole."""
    return word >> SEGMENT_ID_SHIFT


def offset_of(word: int) -> int:
    """Where in its segment an object begins, in bytes."""
    return word >> OFFSET_SHIFT & OFFSET_MASK


def length_of(word: int) -> int:
    """Payload of an object in bytes, 1 to 4096."""
    return (word >> LENGTH_SHIFT & LENGTH_MASK) + 1


def codec_of(word: int) -> int:
    """Codec of an object."""
    return word >> CODEC_SHIFT & CODEC_MASK


def is_loaded(word: int) -> bool:
    """Whether an object was loaded since it was stored."""
    return word & REFERENCED != 0


def as_loaded(word: int) -> int:
    """The word of an object once it was loaded."""
    return word if word & REFERENCED else word ^ _LOADED


def as_stored(word: int) -> int:
    """The word of an object as if it had not been loaded."""
    return word ^ _LOADED if word & REFERENCED else word


def is_same_object(one: int, other: int) -> bool:
    """Whether two words name one object, loaded or not."""
    return not (one ^ other) & ~_LOADED


def object_key(word: int) -> int:
    """The bits that every word of one object has in common."""
    return word & ~_LOADED


# -- pages without an object -------------------------------------------------------------


def is_same_filled(word: int) -> bool:
    """Whether it is a same-filled page, sound or not."""
    return word & KIND_MASK == SAME_FILLED


def fill_word(fill: int) -> int:
    """Word for a page of one repeated 64-bit ``fill``, or 0 where the fill does not fit in."""
    if fill >> _FILL_BITS == 0:
        word = fill << _FILL_SHIFT | SAME_FILLED
    elif fill >> 32 == fill & 0xFFFFFFFF:
        word = (fill >> 32) << _FILL_SHIFT | FILL_REPEATS_32 | SAME_FILLED
    else:
        return 0
    return with_parity(word)


def fill_of(word: int) -> int:
    """The 64-bit fill of a same-filled ``word``; more than 64 bits where it is impossible."""
    fill = word >> _FILL_SHIFT
    return fill << 32 | fill if word & FILL_REPEATS_32 else fill


def is_zero_filled(word: int) -> bool:
    """Whether a same-filled ``word`` has zeros only."""
    return word & ~(PARITY | FILL_REPEATS_32) == SAME_FILLED


def is_foreign(word: int) -> bool:
    """Whether another backend than the compressed cache has its page, sound or not."""
    return word & KIND_MASK == FOREIGN


def foreign_word(number: int, cookie: int) -> int:
    """Word for a page that the backend of ``number`` finds by a 32-bit ``cookie``."""
    return with_parity(number << _NUMBER_SHIFT | cookie << _COOKIE_SHIFT | FOREIGN)


def number_of(word: int) -> int:
    """The backend of a foreign ``word``."""
    return word >> _NUMBER_SHIFT & _NUMBER_MASK


def cookie_of(word: int) -> int:
    """The cookie of a foreign ``word``."""
    return word >> _COOKIE_SHIFT & _COOKIE_MASK
