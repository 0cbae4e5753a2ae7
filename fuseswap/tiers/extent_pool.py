"""Extents: the 1 MiB places of a tier, by number.  Derived, as frames are.

An extent is free, or holds a segment, or is being written to.  Numbers only: what an
extent is, the tier knows.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection
from itertools import compress, repeat

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import format_size
from fuseswap.units import MAX_EXTENTS, MIB

NO_EXTENT = -1


class ExtentPool:
    """Free extents, lowest first as long as none was given back."""

    def __init__(self, extent_count: int = 0) -> None:
        self.extent_count = extent_count
        self.in_use = 0
        self._free = array("I")
        self._next = 0

    def adopt(self, used: Collection[int]) -> None:
        """Take over a tier on which just ``used`` extents hold segments."""
        self._next = max(used, default=-1) + 1
        is_free = bytearray(b"\1") * self._next
        deque(map(is_free.__setitem__, used, repeat(0)), maxlen=0)  # half a loop's time
        self.in_use = is_free.count(0)
        is_free.reverse()
        self._free = array("I", compress(range(self._next - 1, -1, -1), is_free))

    def take(self) -> int:
        """A free extent, or `NO_EXTENT`."""
        if self._free:
            extent = self._free.pop()
        elif self._next < self.extent_count:
            extent = self._next
            self._next += 1
        else:
            return NO_EXTENT
        self.in_use += 1
        return extent

    def give_back(self, extent: int) -> None:
        """``extent`` holds nothing any more."""
        self.in_use -= 1
        self._free.append(extent)

    @property
    def available(self) -> int:
        """Extents `take` can still hand out."""
        return len(self._free) + max(0, self.extent_count - self._next)


def check_extents(extent_count: int, what: str) -> None:
    """Raise `InvalidArgument` where ``what`` has more extents than a location can name."""
    if extent_count > MAX_EXTENTS:
        most = format_size(MAX_EXTENTS * MIB)
        raise InvalidArgument(f"{what} is larger than {most}, the most that a tier may have")
