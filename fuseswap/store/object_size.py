"""What an object takes in its segment: check, payload, room to the next multiple of 8, owner.

`append` and `release` of the segment log write this out.
"""

from __future__ import annotations

from typing import Final

from fuseswap.codecs.codec import CHECK_BYTES
from fuseswap.store.slot_word import ALIGNMENT

OWNER_BYTES: Final = 4
OBJECT_OVERHEAD: Final = CHECK_BYTES + OWNER_BYTES  # and up to 7 bytes more
PADDED: Final = CHECK_BYTES + ALIGNMENT - 1
UNITS: Final = -ALIGNMENT


def footprint(length: int) -> int:
    """Bytes that an object of so many takes in its segment, with check and owner."""
    return (length + PADDED & UNITS) + OWNER_BYTES
