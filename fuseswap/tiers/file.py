"""The file tier: segments in a regular file or on a block device.

On a descriptor opened by ``host/backing.py`` with O_DIRECT: a write goes straight from
the arena to the device.  Extent N lies at N MiB of what is between the ends.

Extents that are free again are reused as they are.  They are not punched out: that
would give back the blocks that were preallocated.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.cache.state import SEGMENT_SHIFT
from fuseswap.tiers.direct import DirectFile


class FileTier:
    """Segments on an opened backing file."""

    def __init__(self, file: DirectFile) -> None:
        self._file = file
        self.extent_count = file.size_bytes >> SEGMENT_SHIFT

    async def write(self, extent: int, segment: memoryview) -> None:
        """See `Tier.write`; a short write is an `OSError`."""
        await self._file.write(extent << SEGMENT_SHIFT, segment)

    def begin_read(
        self, extent: int, offset: int, length: int, done: Callable[[bytes | OSError], None]
    ) -> None:
        """See `Tier.begin_read`; reads whole blocks around the range and no more."""
        self._file.begin_read((extent << SEGMENT_SHIFT) + offset, length, done)
