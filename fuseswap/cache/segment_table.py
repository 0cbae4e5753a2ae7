"""The segment table: one 32-byte entry a segment, four 64-bit words.

    0  state, stream, marks, location (frame or extent), and a check (``segment_kinds.py``)
    1  tail (bits 32-63: end of the objects) and bound (bits 0-31: start of the directory)
    2  sequence: counts segments in the order they were opened, so it is their age
    3  time it was sealed, CLOCK_BOOTTIME in seconds

A bit that turns over costs no page: word 0 is mended, what is in memory is found through
`SegmentLog.bases` and the heads, and no decision about a page is made by words 1 to 3.
"""

from __future__ import annotations

import logging
from functools import partial

from fuseswap.cache.feeder import AtOnce, Feeder
from fuseswap.cache.segment_kinds import (
    Mark,
    SegmentState,
    Stream,
    entry_word,
    mended,
    stream_and_marks,
    stream_in,
)
from fuseswap.cache.state import SEGMENT_BYTES, SEGMENT_ENTRY_BYTES, SharedState
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

OWNER_BYTES = 4
WORDS = SEGMENT_ENTRY_BYTES // 8
_AHEAD_BYTES = 64 << 10  # 2048 entries: 2 GiB of segments

_DONE = (Stream.EVICTED, Stream.RECOMPRESSED)


class SegmentTable:
    """Entries by segment id; and which segments are pinned, which only this worker knows."""

    def __init__(self, state: SharedState, feeder: Feeder | None = None) -> None:
        self._region = state.segments
        self._table = state.segments.buffer.cast("Q")
        self._segment_count = state.geometry.segment_count
        self._feeder: Feeder = feeder or AtOnce()
        self._ready_bytes = 0  # from the start of the region: resident
        self._ordering = False
        if self._feeder.deferred:
            self._get_ready_now()
        self._pinned: set[int] = set()
        self.tried_segments = 0  # marked so

    def _get_ready_now(self) -> None:
        """Before anything is served: what a former worker used, and `_AHEAD_BYTES`."""
        used = max((end for _, end in self._region.extents()), default=0)
        wanted = min(used + _AHEAD_BYTES, self._region.size_bytes)
        self._region.populate(0, wanted)
        self._ready_bytes = wanted

    def entries_ahead(self, known: int) -> int:
        """How many entries beyond the first ``known`` may be used: their memory is there."""
        left = self._segment_count - known
        if not self._feeder.deferred:
            return left
        ahead = self._ready_bytes // SEGMENT_ENTRY_BYTES - known
        if ahead < min(left, _AHEAD_BYTES // SEGMENT_ENTRY_BYTES // 2) and not self._ordering:
            self._ordering = True
            at = self._ready_bytes
            length = min(_AHEAD_BYTES, self._region.size_bytes - at)
            self._feeder.populate(self._region, at, length, partial(self._made, length))
        return min(left, ahead)

    def _made(self, length: int, made: bool) -> None:
        self._ordering = False
        self._ready_bytes += length if made else 0

    def ready_bytes(self, known: int) -> int:
        """Memory of entries that are not among the first ``known``."""
        return max(0, self._ready_bytes - -(-known * SEGMENT_ENTRY_BYTES // PAGE_SIZE) * PAGE_SIZE)

    def state_of(self, segment: int) -> SegmentState:
        """State of ``segment`` in the table."""
        state = self._entry(segment) & 0xFF
        return SegmentState(state) if state <= SegmentState.LOST else SegmentState.LOST

    def stream_of(self, segment: int) -> Stream:
        """What ``segment`` was filled with."""
        return stream_in(self._entry(segment))

    def location_of(self, segment: int) -> int:
        """Frame or extent of ``segment``, as its state says."""
        return self._entry(segment) >> 32

    def _entry(self, segment: int) -> int:
        """Word 0 of ``segment``, mended where a bit of it turned over."""
        word = self._table[segment * WORDS]
        return self._mend(segment, word) if word.bit_count() & 1 else word

    def _mend(self, segment: int, word: int) -> int:
        """Put word 0 of ``segment`` right if it is not, and say so."""
        right = mended(word)
        if right != word:
            self._table[segment * WORDS] = right
            state = SegmentState(right & 0xFF)
            log.error("segment %d: corrupt entry %#x, now %s", segment, word, state.name)
        return right

    def mark(self, segment: int, mark: Mark) -> None:
        """Set ``mark`` of ``segment``."""
        word = self._entry(segment)
        stream = stream_and_marks(word)
        self.tried_segments += mark & ~stream & Mark.TRIED != 0
        marked = entry_word(self.state_of(segment), stream | mark, word >> 32)
        self._table[segment * WORDS] = marked

    def is_marked(self, segment: int, mark: Mark) -> bool:
        """Whether ``mark`` of ``segment`` is set."""
        return stream_and_marks(self._entry(segment)) & mark != 0

    def is_recompressed(self, segment: int) -> bool:
        """Whether its objects are as small as they get, or too soon gone to be made so."""
        return self.stream_of(segment) in _DONE or self.is_marked(segment, Mark.TRIED)

    def extent_of(self, segment: int) -> tuple[int, int]:
        """``(tail, bound)``: end of the objects and start of the directory, in bytes.

        With a bit that turned over the directory is another, but one of whole entries.
        """
        word = self._table[segment * WORDS + 1]
        return word >> 32, min(word & 0xFFFFFFFF & -OWNER_BYTES, SEGMENT_BYTES)

    def age_of(self, segment: int) -> tuple[int, int]:
        """``(sequence, seconds)``: opening order, and CLOCK_BOOTTIME of the seal."""
        at = segment * WORDS
        return self._table[at + 2], self._table[at + 3]

    def is_movable(self, segment: int) -> bool:
        """Whether ``segment`` is sealed, and not pinned."""
        sealed = self._entry(segment) & 0xFF == SegmentState.SEALED
        return sealed and segment not in self._pinned

    def is_pinned(self, segment: int) -> bool:
        """Whether `pin` was called for ``segment``."""
        return segment in self._pinned

    def pin(self, segment: int) -> None:
        """Never offer ``segment`` again: something in it is corrupt and can't be moved."""
        self._pinned.add(segment)

    def unpin(self, segment: int) -> None:
        """Offer ``segment`` again."""
        self._pinned.discard(segment)

    def _highest_id(self) -> int:
        """Highest segment id that was ever opened (its sequence is not 0) or is in use."""
        extents = list(self._region.extents())
        end = extents[-1][1] // SEGMENT_ENTRY_BYTES if extents else 1
        for segment in range(min(end, self._segment_count) - 1, 0, -1):
            at = segment * WORDS
            if self._table[at] or self._table[at + 2]:
                return segment
        return 0
