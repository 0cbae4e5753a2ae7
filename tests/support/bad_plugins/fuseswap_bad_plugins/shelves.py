"""Backends: frames in memory, and what comes back of every so many calls is spoiled."""

from __future__ import annotations

import mmap
import time

FAULTY_EVERY = 50  # gets; a put has one, too
FRAME_BYTES = 4100


class _Frames:
    """Whatever is put here is kept, while there is room."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._used = bytearray(len(memory) // FRAME_BYTES)
        self._calls = 0

    def spoil(self, data: bytes) -> bytes:
        """What is returned instead."""
        raise NotImplementedError

    def put(self, data: bytes) -> int | None:
        frame = self._used.find(0)
        if frame < 0:
            return None
        self._memory[frame * FRAME_BYTES : frame * FRAME_BYTES + len(data)] = data
        self._used[frame] = 1
        return frame

    def get(self, cookie: int) -> bytes:
        data = self._memory[cookie * FRAME_BYTES : (cookie + 1) * FRAME_BYTES]
        self._calls += 1
        return data if self._calls % FAULTY_EVERY else self.spoil(data)

    def drop(self, cookie: int) -> None:
        self._used[cookie] = 0

    def adopt(self, cookie: int) -> bool:
        self._used[cookie] = 1
        return True


class RaisingFrames(_Frames):
    """Raises what few catch."""

    def spoil(self, data: bytes) -> bytes:
        raise SystemExit("a backend wants to go home")


class BlockingFrames(_Frames):
    """Blocks for a second."""

    def spoil(self, data: bytes) -> bytes:
        time.sleep(1)
        return data


class LyingFrames(_Frames):
    """Returns other bytes of the right length."""

    def spoil(self, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])


class HangingFrames(_Frames):
    """Never returns."""

    def spoil(self, data: bytes) -> bytes:
        while True:
            time.sleep(1)
