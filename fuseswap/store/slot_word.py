"""The slot word: the 64 bits that say where a page is.

     63    47 46      35  34  33   30  29  28     8 7     0
    +--------+----------+---+-------+---+---------+-------+
    | offset | length-1 | R | codec | 1 | segment | check |  object
    +--------+----------+---+-------+---+---------+-------+
     63               32 31       27 26  25 24    16
    +-------------------+-----------+---+-----+---+-------+
    | fill: low 32 bits |     0     | W | 01  |  H| check |  same-filled (H: bits 16 to 19)
    +-------------------+-----------+---+-----+---+-------+
    |      cookie       |     0     | 0 | 10  |  N| check |  foreign (N: bits 16 to 23)
    +-------------------+-----------+---+-----+---+-------+
    |                        0                            |  hole
    +-----------------------------------------------------+

    segment     its id, 21 bits, never 0 for an object
    offset      of the object from the start of its segment (1 MiB), in units of 8 bytes
    length-1    stored bytes less one (1 to 4096)
    codec       see ``codecs/registry.py``
    R           loaded since it was stored (second chance for the cleaner)
    N           number of the backend: whoever keeps the page apart from the compressed cache
    cookie      32 bits of its own: the checksum of a page at its place (``raw_file.py``)
    W           0: fill is the 64-bit word, zero-extended, with H on top; 1: a 32-bit word, twice
    check       makes the whole word a multiple of 213

A bit that turns over adds or takes away a power of two.  No power of two below 2**64 is a multiple
of 213, nor is the sum or the difference of any two.  So a word in which one bit or two turned over
is no multiple, whichever they are, and is found before it is used.  That holds for holes, fills and
foreign words too.  Of three bits 1.4 % are missed, of more about one in 213.  Rejected: parity,
which misses every pair; a Hamming code, 6 bits that take 180 ns instead of 40.

R keeps the word a multiple: it comes with 35 more in the check, which has room for that.

Every operation on the bits is a function here.  Three hot ways write them out, since a call costs
60 ns.  They are the loads and stores of the front end and the compressed cache, and `append` and
`release` of the segment log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuseswap.units import COMPILED, NO_SEGMENT, SegmentId

MODULUS: Final = 213
CHECK_MASK: Final = 0xFF

SEGMENT_ID_SHIFT: Final = 8
SEGMENT_ID_BITS: Final = 21
if TYPE_CHECKING and not COMPILED:

    class SegmentIdMask(int):
        """The type of `SEGMENT_ID_MASK`: a word shifted, and masked by it, is a segment."""

        def __rand__(self, word: int, /) -> SegmentId:
            """The segment of ``word``, which was shifted by `SEGMENT_ID_SHIFT`."""
            return SegmentId(word & int(self))

    SEGMENT_ID_MASK: SegmentIdMask
else:
    SEGMENT_ID_MASK: Final = (1 << SEGMENT_ID_BITS) - 1

OBJECT: Final = 1 << 29
CODEC_SHIFT: Final = 30
CODEC_MASK: Final = 0xF
REFERENCED: Final = 1 << 34
LENGTH_SHIFT: Final = 35
LENGTH_MASK: Final = 0xFFF
OFFSET_SHIFT: Final = 44  # what is left of a length there is masked off
OFFSET_MASK: Final = 0xFFFF8
ALIGNMENT: Final = 8  # of objects in their segment

LOADED: Final = REFERENCED + 35  # added to the word of an object: a multiple of 213

SEGMENT_ID_BYTE: Final = SEGMENT_ID_SHIFT // 8  # its lowest byte is this one of the word

SAME_FILLED: Final = 1 << 24
FOREIGN: Final = 1 << 25
KIND_MASK: Final = OBJECT | SAME_FILLED | FOREIGN  # an object has `OBJECT`, whatever else
FILL_REPEATS_32: Final = 1 << 26

_VALUE_SHIFT: Final = 32
_FILL_BITS: Final = 36
_HIGH_SHIFT: Final = 16
_HIGH_MASK: Final = 0xF
_COOKIE_MASK: Final = 0xFFFFFFFF
_NUMBER_SHIFT: Final = 16
_NUMBER_MASK: Final = 0xFF
_OF_FILLS: Final = (
    _COOKIE_MASK << _VALUE_SHIFT | _HIGH_MASK << _HIGH_SHIFT | FILL_REPEATS_32 | CHECK_MASK
)
_OBJECT_BITS: Final = (1 << 64) - 1 & ~(REFERENCED | CHECK_MASK)
_SEGMENT_BITS: Final = SEGMENT_ID_MASK << SEGMENT_ID_SHIFT


def with_check(word: int) -> int:
    """``word`` with the right check, whatever it had."""
    if word & OBJECT and word & REFERENCED:
        return with_check(word ^ REFERENCED) + LOADED
    word &= ~CHECK_MASK
    return word | -word % MODULUS


def is_corrupt(word: int) -> bool:
    """Whether bits of it turned over: one, any two, and most of what is more."""
    return word % MODULUS != 0


def spoiled(word: int) -> int:
    """``word``, to be found corrupt by the next reader; or what it was before that."""
    return word ^ 1


# -- objects -----------------------------------------------------------------------------


def object_word(segment: SegmentId, offset: int, length: int, codec: int) -> int:
    """Word of ``length`` stored bytes at ``offset``, a multiple of 8, in ``segment``."""
    word = segment << SEGMENT_ID_SHIFT | offset << OFFSET_SHIFT
    word |= length - 1 << LENGTH_SHIFT | codec << CODEC_SHIFT | OBJECT
    return word | -word % MODULUS


def is_object(word: int) -> bool:
    """Whether it names an object, sound or not."""
    return word & OBJECT != 0


def is_object_of(word: int, segment: SegmentId) -> bool:
    """Whether it names an object of ``segment``, sound or not."""
    return word & (OBJECT | _SEGMENT_BITS) == OBJECT | segment << SEGMENT_ID_SHIFT


def segment_of(word: int) -> SegmentId:
    """Id of the segment of an object; 0 for all else."""
    return word >> SEGMENT_ID_SHIFT & SEGMENT_ID_MASK if word & OBJECT else NO_SEGMENT


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
    return word if word & REFERENCED else word + LOADED


def as_stored(word: int) -> int:
    """The word of an object as if it had not been loaded."""
    return word - LOADED if word & REFERENCED else word


def is_same_object(one: int, other: int) -> bool:
    """Whether two sound words name one object, loaded or not; or are the same."""
    return not (one ^ other) & _OBJECT_BITS if one & other & OBJECT else one == other


def object_key(word: int) -> int:
    """The bits that every word of one object has in common."""
    return word & _OBJECT_BITS


# -- pages without an object -------------------------------------------------------------


def is_same_filled(word: int) -> bool:
    """Whether it is a same-filled page, sound or not."""
    return word & KIND_MASK == SAME_FILLED


def fill_word(fill: int) -> int:
    """Word for a page of one repeated 64-bit ``fill``, or 0 where the fill does not fit in."""
    if fill >> _FILL_BITS == 0:
        word = (fill & _COOKIE_MASK) << _VALUE_SHIFT | fill >> 32 << _HIGH_SHIFT | SAME_FILLED
    elif fill >> 32 == fill & 0xFFFFFFFF:
        word = (fill >> 32) << _VALUE_SHIFT | FILL_REPEATS_32 | SAME_FILLED
    else:
        return 0
    return word | -word % MODULUS


def fill_of(word: int) -> int:
    """The 64-bit fill of a same-filled ``word``."""
    fill = word >> _VALUE_SHIFT
    if word & FILL_REPEATS_32:
        return fill << 32 | fill
    return (word >> _HIGH_SHIFT & _HIGH_MASK) << 32 | fill


def is_impossible_fill(word: int) -> bool:
    """Whether a same-filled ``word`` has bits that none has."""
    return word & ~_OF_FILLS != SAME_FILLED or (
        word & FILL_REPEATS_32 != 0 and word >> _HIGH_SHIFT & _HIGH_MASK != 0
    )


def is_foreign(word: int) -> bool:
    """Whether another backend than the compressed cache has its page, sound or not."""
    return word & KIND_MASK == FOREIGN


def foreign_word(number: int, cookie: int) -> int:
    """Word for a page that the backend of ``number`` finds by a 32-bit ``cookie``."""
    word = cookie << _VALUE_SHIFT | number << _NUMBER_SHIFT | FOREIGN
    return word | -word % MODULUS


def number_of(word: int) -> int:
    """The backend of a foreign ``word``."""
    return word >> _NUMBER_SHIFT & _NUMBER_MASK


def cookie_of(word: int) -> int:
    """The cookie of a foreign ``word``."""
    return word >> _VALUE_SHIFT & _COOKIE_MASK


ZERO_FILLED = fill_word(0)  # the word of a page of zeros
