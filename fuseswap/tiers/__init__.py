"""Tiers: where sealed segments go when they leave memory.

A tier knows extents (1 MiB places, by number) and bytes; it knows neither pages nor
words.  Its calls are trio's: they wait, and the caller looks again afterwards.
"""

from __future__ import annotations

from typing import Protocol


class Tier(Protocol):
    """What writeback needs of a tier.  Every call raises `OSError` where the device fails."""

    extent_count: int

    async def write(self, extent: int, segment: memoryview) -> None:
        """Write a whole segment (1 MiB, page-aligned); durable as far as the device says."""

    async def read(self, extent: int, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` within ``extent``."""
