"""Which segments are sealed and in memory."""

from __future__ import annotations

from fuseswap.store.sealed_by_age import SealedByAge
from fuseswap.store.segment_table import SegmentTable
from fuseswap.units import SegmentId


def all_sealed(table: SegmentTable) -> list[SegmentId]:
    """All of them, the oldest first."""
    sealed = SealedByAge(table)
    while sealed.step():
        pass
    return sealed.found()
