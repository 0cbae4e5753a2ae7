"""What is stored takes so much memory: now, and at most since the device came up.

The bulk is frames, counted where they are taken (`FramePool.most_used`), so that no peak
between two looks is missed.  The tables (slot words, segment entries, dictionaries, index,
references) grow slowly and are measured at each look, which housekeeping takes once a
second.  The peak stands in the header and so outlives the worker.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.superblock import SharedState
from fuseswap.units import SEGMENT_SHIFT


class MemoryUsage:
    """Memory of one store, in bytes."""

    def __init__(
        self, state: SharedState, log: SegmentLog, ready_table_bytes: Callable[[], int]
    ) -> None:
        """``ready_table_bytes``: what of the tables is there though nothing is stored in it."""
        self._state = state
        self._ready_table_bytes = ready_table_bytes
        self._frames = log.frames
        self._references = log.references
        self._tables = (state.slots, state.segments, state.dictionaries, state.index)

    @property
    def pool_bytes(self) -> int:
        """Frames whose memory is held because of what is stored."""
        return self._frames.used << SEGMENT_SHIFT

    @property
    def ready_bytes(self) -> int:
        """Frames, and parts of the tables, that are kept ready whatever is stored."""
        frames = self._frames.held - self._frames.used << SEGMENT_SHIFT
        return frames + self._ready_table_bytes()

    @property
    def table_bytes(self) -> int:
        """All that grows with what is stored and is no frame, as allocated."""
        tables = sum(region.allocated_bytes() for region in self._tables)
        return tables - self._ready_table_bytes() + self._references.allocated_bytes

    def used_bytes(self) -> int:
        """Both."""
        return self.pool_bytes + self.table_bytes

    def note_peak(self) -> int:
        """Look, and keep the most there ever was; returns it."""
        frames, state = self._frames, self._state
        peak = (frames.most_used << SEGMENT_SHIFT) + self.table_bytes
        frames.most_used = frames.used
        if peak > state.peak_bytes:
            state.peak_bytes = peak
        return state.peak_bytes
