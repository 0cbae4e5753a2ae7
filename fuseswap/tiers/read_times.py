"""How long the last reads of a tier took, in classes a quarter of a power of two wide.

A class costs 8 bytes, there are 96, and a percentile is at most 19 % too large.  At `_MOST`
reads all classes are halved, so that what was long ago counts less and less.
"""

from __future__ import annotations

from array import array

_CLASSES = 96  # up to 16 s
_MOST = 4096


class ReadTimes:
    """Of one tier."""

    def __init__(self) -> None:
        self._counts = array("Q", [0] * _CLASSES)
        self._total = 0

    def add(self, duration_ns: int) -> None:
        """Another read took so long."""
        us = max(1, duration_ns // 1000)
        power = us.bit_length() - 1
        quarter = (us << 2 >> power) & 3
        self._counts[min(power << 2 | quarter, _CLASSES - 1)] += 1
        self._total += 1
        if self._total >= _MOST:
            self._halve()

    def _halve(self) -> None:
        for index, count in enumerate(self._counts):
            self._counts[index] = count >> 1
        self._total = sum(self._counts)

    def below(self, share: float) -> int:
        """At least ``share`` of the reads took less than this, in microseconds; 0: none yet."""
        wanted, seen = share * self._total, 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                power, quarter = index >> 2, index & 3
                return -(-((5 + quarter) << power) // 4)
        return 0
