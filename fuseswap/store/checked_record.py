"""Records: a few bytes with a check behind them.

    | data | CRC-32 of data |

For the header, which is read seldom.  Any two records of one length up to 11 KB differ in four
bits or more.  So up to three flipped bits are found.  Zeros are a record of zeros: nothing was
written.
"""

from __future__ import annotations

import struct
import zlib

CHECK_BYTES = 4

_check = struct.Struct("<I")
_ALL = 0xFFFFFFFF


def check_of(data: bytes) -> int:
    """32 bits; 0 for zeros."""
    return zlib.crc32(data, _ALL) ^ _ALL


def sealed(data: bytes) -> bytes:
    """The record of ``data``."""
    return data + _check.pack(check_of(data))


def opened(record: bytes) -> bytes | None:
    """The data of ``record``; None where it is damaged."""
    data = record[:-CHECK_BYTES]
    return data if record == sealed(data) else None
