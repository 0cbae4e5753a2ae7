"""Tiers: where sealed segments go when they leave memory.

A tier knows extents (1 MiB places, by number) and bytes; it knows neither pages nor
words.  The caller looks again when an answer comes: anything may have happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Tier(Protocol):
    """What writeback needs of a tier.  Every call raises `OSError` where the device fails."""

    extent_count: int

    async def write(self, extent: int, segment: memoryview) -> None:
        """Write a whole segment (1 MiB, page-aligned); durable as far as the device says."""

    async def read(self, extent: int, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` within ``extent``."""

    def begin_read(
        self, extent: int, offset: int, length: int, done: Callable[[bytes | OSError], None]
    ) -> None:
        """As `read`, for a fault: no task is made, ``done`` is called with the outcome later."""
