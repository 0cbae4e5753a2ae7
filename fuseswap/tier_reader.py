"""Reads from a tier, made again where they fail.

A page that cannot be read costs the process it belongs to its life, so an error is not
believed at once: a read is tried `1 + len(_PAUSES_S)` times in all.  What came back with
a wrong checksum is asked for once more by ``slowpath.py`` (and by ``writeback.py``, for a
whole segment), which knows the checksum; it is counted here.
"""

from __future__ import annotations

import logging

import trio

from fuseswap.tiers import Tier
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

_PAUSES_S = (0.01, 0.1)  # an answer of EIO took the kernel's driver its own tries already
_LOGGED_IN_A_ROW = 20


class TierReader:
    """Reads ``tier``, and counts: ``units`` of 4096 bytes, ``retries``, ``errors``."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self.units = 0
        self.retries = 0
        self.errors = 0
        self._failed_in_a_row = 0

    async def read(self, extent: int, offset: int, length: int, *, again: bool = False) -> bytes:
        """As `Tier.read`, patiently; ``again`` counts it as a retry of its own."""
        self.retries += again
        for pause_s in _PAUSES_S:
            try:
                return await self._read(extent, offset, length)
            except OSError:
                await trio.sleep(pause_s)
                self.retries += 1
        try:
            return await self._read(extent, offset, length)
        except OSError as exc:
            self.errors += 1
            self._failed_in_a_row += 1
            if self._failed_in_a_row <= _LOGGED_IN_A_ROW:
                log.error(
                    "extent %d cannot be read (%d bytes at %d): %s", extent, length, offset, exc
                )
            raise

    async def _read(self, extent: int, offset: int, length: int) -> bytes:
        self.units += -(-(offset % PAGE_SIZE + length) // PAGE_SIZE)
        data = await self._tier.read(extent, offset, length)
        self._failed_in_a_row = 0
        return data
