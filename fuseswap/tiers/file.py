"""The file tier: segments in a regular file or on a block device.

On a descriptor opened by ``host/backing.py`` with O_DIRECT: a write goes straight from
the arena to the device.  Extent N lies at N MiB.

Extents that are free again are reused as they are.  They are not punched out: that
would give back the very blocks that were preallocated.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable

from fuseswap.cache.state import SEGMENT_BYTES, SEGMENT_SHIFT
from fuseswap.tiers.threads import IoThreads
from fuseswap.units import PAGE_SIZE

_BLOCK = PAGE_SIZE


class FileTier:
    """Segments on an opened backing file; ``pwrite`` is another only to be made to fail."""

    def __init__(
        self,
        fd: int,
        threads: IoThreads,
        pwrite: Callable[[int, memoryview, int], int] = os.pwrite,
    ) -> None:
        self._fd = fd
        self._pwrite = pwrite
        self._threads = threads
        self.extent_count = os.lseek(fd, 0, os.SEEK_END) >> SEGMENT_SHIFT

    async def write(self, extent: int, segment: memoryview) -> None:
        """See `Tier.write`; a short write is an `OSError`."""
        await self._threads.run(lambda: self._write(extent, segment))

    def _write(self, extent: int, segment: memoryview) -> None:
        at = extent << SEGMENT_SHIFT
        done = 0
        while done < SEGMENT_BYTES:
            count = self._pwrite(self._fd, segment[done:], at + done)
            if count <= 0 or count % _BLOCK:
                raise OSError(errno.EIO, f"short write: {done + count} of {SEGMENT_BYTES} bytes")
            done += count

    async def read(self, extent: int, offset: int, length: int) -> bytes:
        """See `Tier.read`; reads whole blocks around the range and no more."""
        return await self._threads.run(lambda: self._read(extent, offset, length))

    def _read(self, extent: int, offset: int, length: int) -> bytes:
        first = offset // _BLOCK * _BLOCK
        end = -(-(offset + length) // _BLOCK) * _BLOCK
        with mmap.mmap(-1, end - first) as buffer:  # page-aligned, as O_DIRECT wants it
            count = os.preadv(self._fd, [buffer], (extent << SEGMENT_SHIFT) + first)
            if count < offset + length - first:
                raise OSError(errno.EIO, f"short read: {count} of {end - first} bytes")
            return buffer[offset - first : offset - first + length]
