"""Segments that are being written to the backing file, a task each."""

from __future__ import annotations

import trio

from fuseswap.units import SegmentRef


class WritesInFlight:
    """Which segments are being written: `batch_size` at most, or more where that was lowered."""

    def __init__(self) -> None:
        self.batch_size = 4
        self._refs: set[SegmentRef] = set()  # at most the largest `batch_size`
        self._ended = trio.Event()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._refs)

    @property
    def is_full(self) -> bool:
        """Whether no other may begin."""
        return len(self._refs) >= self.batch_size

    def begin(self, ref: SegmentRef) -> None:
        """A write begins."""
        self._refs.add(ref)

    def end(self, ref: SegmentRef) -> None:
        """A write has ended, however it did."""
        self._refs.discard(ref)
        self._ended.set()
        self._ended = trio.Event()

    async def wait_for_one(self) -> bool:
        """Wait until one ends; False where there is none."""
        if not self._refs:
            return False
        await self._ended.wait()
        return True
