"""The segment table: all that is known of each segment, by its id.

In shared memory, four 64-bit words (32 bytes) a segment:

    0  state, stream, marks, location (frame, or tier and extent), a check (``segment_entry.py``)
    1  tail (bits 32-63: end of the objects) and bound (bits 0-31: start of the directory)
    2  sequence: counts segments in the order they were opened, so it is their age
    3  time it was sealed, CLOCK_BOOTTIME in seconds (bits 0-31); of one on a tier also which
       dictionaries its objects may need (bits 32-47: number n has bit n % 16), and the same
       upside down (bits 48-63): where a bit of them turned over it may be any

A flipped bit costs no page.  Word 0 is repaired.  Segments in memory are found through `bases` and
the heads.  What words 1 to 3 decide about a page holds with any one bit of them wrong.

In this process, derived from it and from the slot table (``frontswap/adoption.py``):

    bases       where in the arena a segment begins, in bytes; -1: it is in no frame
    live        pages that need it
    live_bytes  of their objects, with check and owner
    extra       pages that share the object of another page of the segment
    pinned      what can't be moved: something in it is corrupt

Ids are used again.  `SegmentRef` is one life of a segment, and `is_current` says whether that
goes on: the question after each wait.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Iterable
from functools import partial
from typing import Final

from fuseswap.errors import PoolFull
from fuseswap.store.geometry import DICTIONARY_PLACES, SEGMENT_ENTRY_BYTES
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.object_size import OWNER_BYTES
from fuseswap.store.segment_entry import (
    EXTENT_BITS,
    EXTENT_MASK,
    LOCATION_SHIFT,
    Mark,
    SegmentState,
    Stream,
    entry_word,
    location_bits,
    location_in,
    repaired,
    stream_and_marks,
    stream_in,
)
from fuseswap.store.superblock import SharedState
from fuseswap.units import (
    NO_SEGMENT,
    PAGE_SIZE,
    SEGMENT_BYTES,
    SEGMENT_SHIFT,
    Location,
    SegmentId,
    SegmentRef,
    segment_range,
)

log = logging.getLogger(__name__)

WORDS: Final = SEGMENT_ENTRY_BYTES // 8
_AHEAD_BYTES = 64 << 10  # 2048 entries: 2 GiB of segments
_GROW = 256
_TIME_MASK = 0xFFFFFFFF
_SETS = 16  # of dictionaries
_ANY = (1 << _SETS) - 1

_DONE = (Stream.EVICTED, Stream.RECOMPRESSED)


class SegmentTable:
    """Every column.  ``entries``, ``bases``, ``live``, ``live_bytes``, ``extra`` are hot."""

    def __init__(self, state: SharedState, feeder: Feeder | None = None) -> None:
        self._region = state.segments
        self.entries = state.segments.buffer.cast("Q")
        self._segment_count = state.geometry.segment_count
        self._feeder: Feeder = feeder or AtOnce()
        self._ready_bytes = 0  # from the start of the region: resident
        self._ordering = False
        if self._feeder.deferred:
            self._get_ready_now()
        self.bases = array("q", [-1])
        self.live = array("I", [0])
        self.live_bytes = array("q", [0])
        self.extra = array("I", [0])
        self._pinned: set[SegmentId] = set()  # of segments in use
        self._free_ids: list[SegmentId] = []  # as many as were ever in use at once
        self.in_use = 0
        self.tried_segments = 0  # marked so
        self.newest_sequence = 0

    # -- memory of the entries -------------------------------------------------------

    def _get_ready_now(self) -> None:
        """Before anything is served: what a former worker used, and `_AHEAD_BYTES`."""
        used = max((end for _, end in self._region.extents()), default=0)
        wanted = min(used + _AHEAD_BYTES, self._region.size_bytes)
        self._region.populate(0, wanted)
        self._ready_bytes = wanted

    def _entries_ahead(self, known: int) -> int:
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

    @property
    def ready_bytes(self) -> int:
        """Memory of entries that no segment has used yet."""
        known = len(self.live) * SEGMENT_ENTRY_BYTES
        return max(0, self._ready_bytes - -(-known // PAGE_SIZE) * PAGE_SIZE)

    # -- one life of a segment -------------------------------------------------------

    def take_id(self) -> SegmentId:
        """The id of a free segment; raises `PoolFull` where all are in use."""
        if not self._free_ids:
            known = len(self.live)
            more = min(_GROW, self._entries_ahead(known))
            if more <= 0:
                raise PoolFull("the segment table is full")
            self.bases.extend([-1] * more)
            self.live.extend([0] * more)
            self.live_bytes.extend([0] * more)
            self.extra.extend([0] * more)
            self._free_ids.extend(reversed(segment_range(known, known + more)))
        return self._free_ids.pop()

    def return_id(self, segment: SegmentId) -> None:
        """``segment`` was taken and not opened."""
        self._free_ids.append(segment)

    def open(self, segment: SegmentId, stream: Stream, frame: int) -> int:
        """A new life of ``segment`` begins, in ``frame``; returns its base."""
        at = segment * WORDS
        self.newest_sequence += 1
        self.entries[at + 1] = SEGMENT_BYTES  # crash point: open-tail
        self.entries[at + 2] = self.newest_sequence  # crash point: open-sequence
        self.entries[at] = entry_word(SegmentState.OPEN, stream, frame)  # crash point: open-commit
        self.bases[segment] = base = frame << SEGMENT_SHIFT  # crash point: open-done
        self.in_use += 1
        return base

    def seal(self, segment: SegmentId) -> None:
        """Its bytes are immutable from here on."""
        at = segment * WORDS
        self.entries[at + 3] = _now_s()  # crash point: seal-time
        word = self._entry(segment)
        sealed = entry_word(SegmentState.SEALED, stream_and_marks(word), word >> 32)
        self.entries[at] = sealed  # crash point: seal-commit

    def relocate(self, segment: SegmentId, to: Location | int) -> Location | int | None:
        """The bytes of a sealed segment are at ``to`` now, a place on a tier or a frame.

        Returns where they were.
        """
        was, word = self.location_of(segment), self._entry(segment)
        state = SegmentState.ON_TIER if isinstance(to, Location) else SegmentState.SEALED
        moved = entry_word(state, stream_and_marks(word), location_bits(to))
        self.entries[segment * WORDS] = moved  # crash point: flip-commit
        self.bases[segment] = -1 if isinstance(to, Location) else to << SEGMENT_SHIFT
        return was

    def note_dictionaries(self, segment: SegmentId, numbers: Iterable[int]) -> None:
        """Objects of ``segment`` need none but ``numbers``: for the next worker, before it flips.

        Only the segment's life on a tier needs it: objects in memory are read.
        """
        found = 0
        for number in numbers:
            found |= 1 << number % _SETS
        found |= (found ^ _ANY) << _SETS
        noted = found << 32 | self.sealed_at(segment)
        self.entries[segment * WORDS + 3] = noted  # crash point: flip-dictionaries

    def dictionaries_of(self, segment: SegmentId) -> list[int]:
        """The dictionaries that objects of ``segment``, on a tier, may need."""
        found = self.entries[segment * WORDS + 3] >> 32
        if found & _ANY ^ found >> _SETS != _ANY:
            found = _ANY
        return [number for number in range(DICTIONARY_PLACES) if found >> number % _SETS & 1]

    def free(self, segment: SegmentId) -> Location | int | None:
        """The end of a segment without a live page; returns its frame or its place on a tier."""
        where, entry = self.location_of(segment), self._entry(segment)
        self.entries[segment * WORDS] = SegmentState.FREE  # crash point: free-commit
        self.bases[segment] = -1  # crash point: free-done
        self._pinned.discard(segment)
        self._free_ids.append(segment)
        self.in_use -= 1
        self.tried_segments -= stream_and_marks(entry) & Mark.TRIED != 0
        return where

    # -- what it is ------------------------------------------------------------------

    def ref(self, segment: SegmentId) -> SegmentRef:
        """The life ``segment`` has now."""
        return SegmentRef(segment, self.entries[segment * WORDS + 2])

    def is_current(self, ref: SegmentRef) -> bool:
        """Whether the segment is still that one: it holds data and was not opened again."""
        at = ref.id * WORDS
        return self.entries[at] != 0 and self.entries[at + 2] == ref.sequence

    def sequence_of(self, segment: SegmentId) -> int:
        """Its age: segments count in the order they were opened."""
        return self.entries[segment * WORDS + 2]

    def sealed_at(self, segment: SegmentId) -> int:
        """When it was sealed, CLOCK_BOOTTIME in seconds."""
        return self.entries[segment * WORDS + 3] & _TIME_MASK

    def bounds_of(self, segment: SegmentId) -> tuple[int, int]:
        """``(tail, bound)``: end of the objects and start of the directory, in bytes.

        With a bit that turned over the directory is another, but one of whole entries.
        """
        word = self.entries[segment * WORDS + 1]
        return word >> 32, min(word & 0xFFFFFFFF & -OWNER_BYTES, SEGMENT_BYTES)

    def state_of(self, segment: SegmentId) -> SegmentState:
        """State of ``segment`` in the table."""
        state = self._entry(segment) & 0xFF
        return SegmentState(state) if state <= SegmentState.LOST else SegmentState.LOST

    def stream_of(self, segment: SegmentId) -> Stream:
        """What ``segment`` was filled with."""
        return stream_in(self._entry(segment))

    def location_of(self, segment: SegmentId) -> Location | int | None:
        """Where ``segment`` is: its frame, its place on a tier, or None."""
        base = self.bases[segment]
        if base >= 0:
            return base >> SEGMENT_SHIFT
        where = location_in(self._entry(segment))
        return where if isinstance(where, Location) else None

    def on_tier(self, segment: SegmentId) -> tuple[SegmentRef, Location] | None:
        """The life of ``segment`` and its place, where it is on a tier."""
        if not 0 < segment < len(self.live):
            return None
        word = self._entry(segment)
        if word & 0xFF != SegmentState.ON_TIER:
            return None
        where = Location(word >> LOCATION_SHIFT + EXTENT_BITS, word >> LOCATION_SHIFT & EXTENT_MASK)
        return SegmentRef(segment, self.entries[segment * WORDS + 2]), where

    def is_at(self, ref: SegmentRef, location: Location) -> bool:
        """Whether the segment is still that one, and there: the question after a read."""
        at = ref.id * WORDS
        tier, extent = location
        word = self._entry(ref.id)
        if word >> LOCATION_SHIFT != tier << EXTENT_BITS | extent:
            return False
        return word & 0xFF == SegmentState.ON_TIER and self.entries[at + 2] == ref.sequence

    def exists(self, segment: SegmentId) -> bool:
        """Whether ``segment`` holds data, as far as the table knows."""
        return 0 < segment < len(self.live) and self._entry(segment) & 0xFF != SegmentState.FREE

    def is_live(self, segment: SegmentId) -> bool:
        """Whether ``segment`` has a live object."""
        return segment < len(self.live) and self.live[segment] > 0

    def segments(self) -> list[SegmentId]:
        """Ids of all segments with a live object."""
        return [segment for segment in segment_range(1, len(self.live)) if self.live[segment]]

    def mark(self, segment: SegmentId, mark: Mark) -> None:
        """Set ``mark`` of ``segment``."""
        word = self._entry(segment)
        stream = stream_and_marks(word)
        self.tried_segments += mark & ~stream & Mark.TRIED != 0
        marked = entry_word(self.state_of(segment), stream | mark, word >> 32)
        self.entries[segment * WORDS] = marked

    def is_marked(self, segment: SegmentId, mark: Mark) -> bool:
        """Whether ``mark`` of ``segment`` is set."""
        return stream_and_marks(self._entry(segment)) & mark != 0

    def is_recompressed(self, segment: SegmentId) -> bool:
        """Whether its objects are as small as they get, or too soon gone to be made so."""
        return self.stream_of(segment) in _DONE or self.is_marked(segment, Mark.TRIED)

    def is_movable(self, segment: SegmentId) -> bool:
        """Whether ``segment`` is sealed, and not pinned."""
        sealed = self._entry(segment) & 0xFF == SegmentState.SEALED
        return sealed and segment not in self._pinned

    def is_pinned(self, segment: SegmentId) -> bool:
        """Whether `pin` was called for ``segment``."""
        return segment in self._pinned

    def pin(self, segment: SegmentId) -> None:
        """Never offer ``segment`` again: something in it is corrupt and can't be moved."""
        self._pinned.add(segment)

    def unpin(self, segment: SegmentId) -> None:
        """Offer ``segment`` again."""
        self._pinned.discard(segment)

    def _entry(self, segment: SegmentId) -> int:
        """Word 0 of ``segment``, repaired where a bit of it turned over."""
        word = self.entries[segment * WORDS]
        return self._mend(segment, word) if word.bit_count() & 1 else word

    def _mend(self, segment: SegmentId, word: int) -> int:
        """Put word 0 of ``segment`` right if it is not, and say so."""
        right = repaired(word)
        if right != word:
            self.entries[segment * WORDS] = right
            state = SegmentState(right & 0xFF)
            log.error("segment %d: corrupt entry %#x, now %s", segment, word, state.name)
        return right

    # -- attaching -------------------------------------------------------------------

    def adopt(self) -> tuple[set[int], set[Location]]:
        """Take over what a former process left, without counts.

        Returns frames, and places on tiers, that hold segments.  One that was open is sealed
        where it stood; what can't be repaired is lost.
        """
        known = self._highest_id() + 1
        self.bases[:] = array("q", [-1]) * known
        self.live[:] = array("I", [0]) * known
        self.live_bytes[:] = array("q", [0]) * known
        self.extra[:] = array("I", [0]) * known
        self._free_ids.clear()
        self.in_use = self.tried_segments = 0
        frames: set[int] = set()
        on_tiers: set[Location] = set()
        for segment in reversed(segment_range(1, known)):
            at = segment * WORDS
            word = self._mend(segment, self.entries[at]) if self.entries[at] else 0
            state, location = word & 0xFF, word >> 32
            self.newest_sequence = max(self.newest_sequence, self.entries[at + 2])
            if state == SegmentState.OPEN:
                self.entries[at + 3] = _now_s()
                stream = stream_and_marks(word)
                self.entries[at] = entry_word(SegmentState.SEALED, stream, location)
            if state == SegmentState.FREE:
                self._free_ids.append(segment)
                continue
            self.in_use += 1
            self.tried_segments += stream_and_marks(word) & Mark.TRIED != 0
            where = location_in(word)
            if isinstance(where, Location):
                on_tiers.add(where)
            elif state != SegmentState.LOST:
                frames.add(location)
                self.bases[segment] = location << SEGMENT_SHIFT
        return frames, on_tiers

    def all_marked(self, mark: Mark) -> set[SegmentId]:
        """Segments that hold data, where it is known where, with ``mark``."""
        return {
            segment
            for segment in segment_range(1, len(self.live))
            if self.exists(segment)
            and self.state_of(segment) is not SegmentState.LOST
            and self.is_marked(segment, mark)
        }

    def _highest_id(self) -> SegmentId:
        """Highest segment id that was ever opened (its sequence is not 0) or is in use."""
        extents = list(self._region.extents())
        end = extents[-1][1] // SEGMENT_ENTRY_BYTES if extents else 1
        for segment in reversed(segment_range(1, min(end, self._segment_count))):
            at = segment * WORDS
            if self.entries[at] or self.entries[at + 2]:
                return segment
        return NO_SEGMENT

    def close(self) -> None:
        """Release the view of the shared state."""
        self.entries.release()


def _now_s() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))
