"""Tiers: where sealed segments go when they leave memory.

A tier knows extents (1 MiB places, by number) and bytes; it knows neither pages nor
words.  The caller looks again when an answer comes: anything may have happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Tier(Protocol):
    """What writeback needs of a tier.  Where the device fails it is an `OSError`."""

    extent_count: int

    async def write(self, extent: int, segment: memoryview) -> None:
        """Write a whole segment (1 MiB, page-aligned); durable as far as the device says."""

    def begin_read(
        self, extent: int, offset: int, length: int, done: Callable[[bytes | OSError], None]
    ) -> None:
        """Read ``length`` bytes from ``offset`` within ``extent``; ``done`` is called later.

        It gets the bytes or the error.  No task is made: a fault waits for this.
        """
