"""The file tier: segments in a regular file or on a block device.

On a descriptor opened by ``tiers/backing_file.py`` with O_DIRECT: a write goes straight from
the arena to the device.  Extent N lies at N MiB of what is between the ends.  Where an extent is
larger, as that of an encrypted segment is, it lies at N times its size.

Extents that are free again are reused as they are.  They are not punched out: that
would give back the blocks that were preallocated, and have the serving thread wait for the file
system (docs/decisions.md).  Generations are not kept: the kernel ends
the I/O of a process before it lets go of the lock of the state.
"""

from __future__ import annotations

from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.tiers.tier import BACKING_NAME, Read, Written
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES


class FileTier:
    """Segments on an opened backing file; a `fuseswap.tiers.tier.Tier`."""

    read_unit = PAGE_SIZE
    volatile = False
    is_remote = False
    is_readable = True

    def __init__(
        self, file: DirectFile, name: str = BACKING_NAME, extent_bytes: int = SEGMENT_BYTES
    ) -> None:
        """``extent_bytes``: whole pages."""
        self.name = name
        self._file = file
        self._extent_bytes = extent_bytes
        self.extent_count = file.size_bytes // extent_bytes

    def set_timeout(self, seconds: float) -> None:
        """See `Tier`; nothing is done."""

    def offset_of(self, extent: int, offset: int) -> int:
        """See `Tier`."""
        return FIRST_PAGE_AT + extent * self._extent_bytes + offset

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """See `Tier`; a short write is an `OSError`."""
        self._file.begin_write(extent * self._extent_bytes, segment, done)

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier`; reads whole blocks around the range and no more."""
        self._file.begin_read(extent * self._extent_bytes + offset, length, done)

    def release(self, extent: int, generation: int) -> None:
        """See `Tier`; nothing is done."""

    async def run(self) -> None:
        """See `Tier`: its engine's, which it may share with other files."""
        await self._file.engine.run()
