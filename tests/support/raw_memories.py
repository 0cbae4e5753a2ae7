"""Memory of a raw backend that outlives whoever maps it."""

from __future__ import annotations

import os

from fuseswap.frontswap.raw_size import file_bytes
from fuseswap.store.region import Region


class RawSlots:
    """A file of ``slots`` slots; each `map` is another worker's."""

    def __init__(self, slots: int) -> None:
        self._fd = os.memfd_create("raw", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, file_bytes(slots))

    def map(self) -> Region:
        return Region(self._fd)

    def allocated_bytes(self) -> int:
        return os.fstat(self._fd).st_blocks * 512

    def close(self) -> None:
        os.close(self._fd)
