"""Sealed segments in memory, oldest first: found in steps, since there may be many.

A step looks at a thousand, up to 2 ms.  A segment that is sealed or moved meanwhile may be missed.
One that has gone may be found, so each is looked at again in its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import cast

from fuseswap.store.segment_places import IN_MEMORY
from fuseswap.store.segment_table import SegmentTable
from fuseswap.units import MAX_SEGMENTS, SegmentId

STEP_SEGMENTS = 1024


def _any(segment: SegmentId) -> bool:
    return True


class SealedByAge:
    """Those of ``table`` that are ``wanted``."""

    def __init__(self, table: SegmentTable, wanted: Callable[[SegmentId], bool] = _any) -> None:
        self._table = table
        self._wanted = wanted
        self._next = 1
        # Each sequence and its segment in one number, in runs of which each is longer than the
        # next: so each number is merged a dozen times at most.
        self._runs: list[list[int]] = []

    def step(self) -> bool:
        """Look at some more; False: that was all."""
        table, run, last = self._table, [], self._next
        looked = 0
        for segment in islice(table.places.walk(IN_MEMORY, self._next), STEP_SEGMENTS):
            looked += 1
            last = segment + 1
            if table.is_live(segment) and table.is_movable(segment) and self._wanted(segment):
                run.append(table.sequence_of(segment) * MAX_SEGMENTS + segment)
        self._next = last
        run.sort()
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-1]) >= len(self._runs[-2]):
            self._merge()
        return looked == STEP_SEGMENTS

    def _merge(self) -> None:
        self._runs[-2:] = [sorted(self._runs[-2] + self._runs[-1])]

    def found(self) -> list[SegmentId]:
        """All that were found."""
        while len(self._runs) > 1:
            self._merge()
        numbers = self._runs[0] if self._runs else []
        return cast("list[SegmentId]", [number % MAX_SEGMENTS for number in numbers])
