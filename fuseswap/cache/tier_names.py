"""The names of tiers by number, in the header: the next worker gives each its number again.

    | JSON, zeros, CRC-32 |  twice, one after the other

The second is written after the first.  So one of them is whole whenever a worker dies, and a
reader takes the first that is.
"""

from __future__ import annotations

import json
import logging

from fuseswap.cache.records import CHECK_BYTES, opened, sealed
from fuseswap.cache.region import Region
from fuseswap.errors import InvalidArgument

log = logging.getLogger(__name__)

TIER_NAMES_AT = 576  # of the header (``state.py``)
TIER_NAMES_BYTES = 320
_COPY_BYTES = TIER_NAMES_BYTES // 2
_COPIES = (TIER_NAMES_AT, TIER_NAMES_AT + _COPY_BYTES)
_TEXT_BYTES = _COPY_BYTES - CHECK_BYTES


class TierNames:
    """Those in ``header``."""

    def __init__(self, header: Region) -> None:
        self._header = header

    def read(self) -> dict[int, str]:
        """Names by number; none where both copies are damaged."""
        for at in _COPIES:
            data = opened(bytes(self._header.buffer[at : at + _COPY_BYTES]))
            if data is not None:
                text = data.rstrip(b"\0")
                found: dict[str, str] = json.loads(text) if text else {}
                return {int(number): name for number, name in found.items()}
        log.error("the names of tiers in the header are corrupt: numbers are given anew")
        return {}

    def write(self, names: dict[int, str]) -> None:
        """Keep ``names``; raises `InvalidArgument`, and keeps the old ones, where they are long."""
        text = json.dumps(names, separators=(",", ":")).encode()
        if len(text) > _TEXT_BYTES:
            raise InvalidArgument(f"{len(text)} bytes of names of tiers; {_TEXT_BYTES} have room")
        record = sealed(text.ljust(_TEXT_BYTES, b"\0"))
        first, second = _COPIES
        self._header.buffer[first : first + _COPY_BYTES] = record  # crash point: names-first
        self._header.buffer[second : second + _COPY_BYTES] = record  # crash point: names-second
