"""Records: a few bytes with a check behind them, of which one bit may turn over.

    | data | CRC-32 of data |

For what is read seldom and guessed by nobody: the header.  Any two records of one length up
to 11 KB differ in four bits or more, so one bit is put right, and more of them are found
(three could be taken for another record).  Zeros are a record of zeros: nothing was written.
"""

from __future__ import annotations

import struct
import zlib

CHECK_BYTES = 4

_check = struct.Struct("<I")
_ALL = 0xFFFFFFFF


def check_of(data: bytes | bytearray) -> int:
    """32 bits; 0 for zeros."""
    return zlib.crc32(data, _ALL) ^ _ALL


def is_sound(record: bytes | bytearray) -> bool:
    """Whether no bit of it has turned over."""
    return bool(
        check_of(record[:-CHECK_BYTES]) == _check.unpack_from(record, len(record) - CHECK_BYTES)[0]
    )


def sealed(data: bytes) -> bytes:
    """The record of ``data``."""
    return data + _check.pack(check_of(data))


def opened(record: bytes) -> bytes | None:
    """The data as it was before one bit of ``record`` turned over; None for more bits."""
    if is_sound(record):
        return record[:-CHECK_BYTES]
    tried = bytearray(record)
    for bit in range(8 * len(record)):
        tried[bit // 8] ^= 1 << bit % 8
        if is_sound(tried):
            return bytes(tried[:-CHECK_BYTES])
        tried[bit // 8] ^= 1 << bit % 8
    return None
