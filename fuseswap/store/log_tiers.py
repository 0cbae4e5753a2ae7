"""The tiers as the segment log sees them, which tells them what becomes of their places."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Protocol

from fuseswap.units import Location


class Tiers(Protocol):
    """What the log tells the tiers (``tiers/tier_table.py``)."""

    def adopt(self, used: Mapping[int, array[int]]) -> None:
        """Just the extents ``used``, by the number of the tier, hold segments."""

    def note_pages(self, tier: int, pages: int) -> None:
        """There are so many ``pages`` more on ``tier``."""

    def release(self, location: Location, generation: int) -> None:
        """The segment with the sequence ``generation`` is not at ``location`` any more."""


class NoTiers:
    """Of a log that has none; a segment that is on one all the same cannot be read."""

    def adopt(self, used: Mapping[int, array[int]]) -> None:
        """See `Tiers`."""

    def note_pages(self, tier: int, pages: int) -> None:
        """See `Tiers`."""

    def release(self, location: Location, generation: int) -> None:
        """See `Tiers`."""
