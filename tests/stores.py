"""Stores over anonymous memory: what the supervisor holds, without a supervisor.

`SharedMemory` owns the files; every `attach` maps them anew, as the next worker
would, so a test crashes a worker by attaching again.
"""

from __future__ import annotations

import os

from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.region import Region
from fuseswap.cache.state import Geometry, SharedState

# 5 MiB of pages in two clusters and a half; eight frames.
SMALL = Geometry(page_count=1280, segment_count=9, frame_count=8)


class SharedMemory:
    """The four files of one device, with a fresh header."""

    def __init__(self, geometry: Geometry = SMALL) -> None:
        self.geometry = geometry
        self.fds: dict[str, int] = {}
        for name, size_bytes in geometry.region_bytes().items():
            self.fds[name] = os.memfd_create(name, os.MFD_CLOEXEC)
            os.ftruncate(self.fds[name], size_bytes)
        SharedState.create(self.regions(), geometry).close()

    def regions(self) -> dict[str, Region]:
        """New mappings of all files."""
        return {name: Region(fd) for name, fd in self.fds.items()}

    def attach(self) -> SharedState:
        """What a new process sees."""
        return SharedState(self.regions())

    def attach_cache(self) -> CompressedCache:
        """The cache of a new worker."""
        return CompressedCache(self.attach())

    def allocated_bytes(self, name: str) -> int:
        """Memory the file ``name`` really takes."""
        return os.fstat(self.fds[name]).st_blocks * 512

    def close(self) -> None:
        """Close the files; mappings stay valid until they are collected."""
        for fd in self.fds.values():
            os.close(fd)
