"""Segments that are being written to the tiers, a task each.

Those on their way to a tier that is late (``tier_health.py``) are left out: no task waits for them.
Each of them keeps its frame, and there are no more of them than of the others.
"""

from __future__ import annotations

import trio

from fuseswap.tiers.tier_health import TierHealth
from fuseswap.units import SegmentRef


class WritesInFlight:
    """Which segments are being written: `batch_size` at most, or more where that was lowered.

    And as many again on their way to each tier that is late.
    """

    def __init__(self) -> None:
        self.batch_size = 4
        # Of where it goes.  At most the largest `batch_size` for each tier.
        self._refs: dict[SegmentRef, TierHealth] = {}
        self._ended = trio.Event()

    @property
    def count(self) -> int:
        """How many there are that may end soon."""
        return sum(not health.is_late for health in self._refs.values())

    @property
    def is_full(self) -> bool:
        """Whether no other may begin."""
        return len(self._refs) >= self.batch_size and self.count >= self.batch_size

    def begin(self, ref: SegmentRef, health: TierHealth) -> None:
        """A write begins to the place of ``health``."""
        self._refs[ref] = health

    def end(self, ref: SegmentRef) -> None:
        """A write has ended, however it did."""
        self._refs.pop(ref, None)
        self._ended.set()
        self._ended = trio.Event()

    async def wait_for_one(self) -> bool:
        """Wait until one ends, or is not waited for any more; False where there is none."""
        expected = [health.late_at for health in self._refs.values() if not health.is_late]
        if not expected:
            return False
        with trio.move_on_at(min(expected)):
            await self._ended.wait()
        return True
