"""The check before each object: are the bytes a tier returned those that were stored?

``pool.py`` computes checks for itself: it does so for every page.
"""

from __future__ import annotations

import struct

import xxhash

CHECK_BYTES = 4

_check = struct.Struct("<I").unpack_from


def is_sound(stored: bytes, codec: int) -> bool:
    """Whether the check in ``stored`` is that of the payload behind it."""
    if len(stored) <= CHECK_BYTES:
        return False
    found = xxhash.xxh3_64_intdigest(stored[CHECK_BYTES:], codec) & 0xFFFFFFFF
    return bool(found == _check(stored)[0])
