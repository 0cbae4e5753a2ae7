"""A backend: pages that do not compress, as they are, in memory that outlives the worker."""

from __future__ import annotations

import mmap
import zlib

from fuseswap.frontswap.plugin_backend import STORED_BYTES


class RawPages:
    """``memory`` in frames of `STORED_BYTES`; the cookie of a page is its frame."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._used = bytearray(len(memory) // STORED_BYTES)  # by frame: 0 or 1

    def put(self, data: bytes) -> int | None:
        """The frame ``data`` is in; None: it compresses, or no frame is free."""
        frame = self._used.find(0)
        if frame < 0 or len(zlib.compress(data[512:1024], 1)) < 448:
            return None
        self._memory[frame * STORED_BYTES : (frame + 1) * STORED_BYTES] = data
        self._used[frame] = 1
        return frame

    def get(self, cookie: int) -> bytes:
        """What was put there."""
        return self._memory[cookie * STORED_BYTES : (cookie + 1) * STORED_BYTES]

    def drop(self, cookie: int) -> None:
        """The frame is free."""
        self._used[cookie] = 0

    def adopt(self, cookie: int) -> bool:
        """A former worker put a page there."""
        self._used[cookie] = 1
        return True
