"""The check before each object: are the bytes a tier returned those that were stored?

``pool.py`` computes checks for itself: it does so for every page.
"""

from __future__ import annotations

import struct

import xxhash

CHECK_BYTES = 4

_check = struct.Struct("<I").unpack_from


def checksum_of(payload: bytes, codec: int) -> int:
    """The 32-bit check of a payload; the codec is part of it."""
    return int(xxhash.xxh3_64_intdigest(payload, codec)) & 0xFFFFFFFF


def is_sound(stored: bytes, codec: int) -> bool:
    """Whether the check in ``stored`` is that of the payload behind it."""
    if len(stored) <= CHECK_BYTES:
        return False
    return bool(checksum_of(stored[CHECK_BYTES:], codec) == _check(stored)[0])
