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
    places      where it is, in one byte (``segment_places.py``)

Ids are used again.  `SegmentRef` is one life of a segment, and `is_current` says whether that
goes on: the question after each wait.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fuseswap.errors import PoolFull
from fuseswap.linux.clocks import boot_s
from fuseswap.store.entries_ahead import EntriesAhead
from fuseswap.store.entry_columns import EntryColumns
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
from fuseswap.store.segment_places import LOST, NOWHERE, RECOMPRESSED, SegmentPlaces
from fuseswap.store.superblock import SharedState
from fuseswap.units import (
    NO_SEGMENT,
    SEGMENT_BYTES,
    SEGMENT_SHIFT,
    Location,
    SegmentId,
    SegmentRef,
    segment_range,
)

log = logging.getLogger(__name__)

WORDS: Final = SEGMENT_ENTRY_BYTES // 8
_PIECE = 2048  # entries adopted at once: 64 KiB
_GROW = 256
_TIME_MASK = 0xFFFFFFFF
_SETS = 16  # of dictionaries
_ANY = (1 << _SETS) - 1


@dataclass(frozen=True, slots=True)
class Adopted:
    """All a former worker left: frames with a segment, extents by tier, shared segments."""

    frames: set[int]
    extents: dict[int, array[int]]
    shared: set[SegmentId]


class SegmentTable:
    """Every column.  ``entries``, ``bases``, ``live``, ``live_bytes``, ``extra`` are hot."""

    def __init__(self, state: SharedState, feeder: Feeder | None = None) -> None:
        self._region = state.segments
        self.entries = state.segments.buffer.cast("Q")
        self._segment_count = state.geometry.segment_count
        used, ahead = self._highest_id() + 1, feeder or AtOnce()
        self._ahead = EntriesAhead(state.segments, self._segment_count, ahead, used)
        self.bases = array("q", [-1])
        self.live = array("I", [0])
        self.live_bytes = array("q", [0])
        self.extra = array("I", [0])
        self.places = SegmentPlaces()
        self._pinned: set[SegmentId] = set()  # of segments in use
        self._free_ids: list[SegmentId] = []  # as many as were ever in use at once
        self.in_use = 0
        self.tried_segments = 0  # marked so
        self.newest_sequence = 0

    @property
    def ready_bytes(self) -> int:
        """Memory of entries that no segment has used yet."""
        return self._ahead.ready_bytes(len(self.live))

    # -- one life of a segment -------------------------------------------------------

    def take_id(self) -> SegmentId:
        """The id of a free segment; raises `PoolFull` where all are in use."""
        if not self._free_ids:
            known = len(self.live)
            more = min(_GROW, self._ahead.usable(known))
            if more <= 0:
                raise PoolFull("the segment table is full")
            self.bases.extend([-1] * more)
            self.live.extend([0] * more)
            self.live_bytes.extend([0] * more)
            self.extra.extend([0] * more)
            self.places.kinds.extend(bytes(more))
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
        word = entry_word(SegmentState.OPEN, stream, frame)
        self.entries[at] = word  # crash point: open-commit
        self.places.note(segment, word)
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
        self.places.note(segment, moved)
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
        self.places.kinds[segment] = NOWHERE
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
        self.places.note(segment, marked)

    def is_marked(self, segment: SegmentId, mark: Mark) -> bool:
        """Whether ``mark`` of ``segment`` is set."""
        return stream_and_marks(self._entry(segment)) & mark != 0

    def is_recompressed(self, segment: SegmentId) -> bool:
        """Whether its objects are as small as they get, or too soon gone to be made so."""
        return self.stream_of(segment) in RECOMPRESSED or self.is_marked(segment, Mark.TRIED)

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
            if segment < len(self.places.kinds):
                self.places.note(segment, right)
            state = SegmentState(right & 0xFF)
            log.error("segment %d: corrupt entry %#x, now %s", segment, word, state.name)
        return right

    # -- attaching -------------------------------------------------------------------

    def adopt(self) -> Adopted:
        """Take over what a former process left, without counts.

        A segment that was open is sealed where it stood; what can't be repaired is lost.
        """
        known = self._highest_id() + 1
        self.bases[:] = array("q", [-1]) * known
        self.live[:] = array("I", [0]) * known
        self.live_bytes[:] = array("q", [0]) * known
        self.extra[:] = array("I", [0]) * known
        self.places.kinds[:] = bytes(known)
        self._free_ids.clear()
        self.in_use = self.tried_segments = 0
        adopted = Adopted(set(), {}, set())
        for first in range(1, known, _PIECE):
            self._adopt_piece(first, min(first + _PIECE, known), adopted)
        self._free_ids.reverse()
        return adopted

    def _adopt_piece(self, first: int, end: int, adopted: Adopted) -> None:
        """The same for the segments from ``first`` to before ``end``."""
        columns = self._columns(first, end)
        unsound = columns.unsound()
        for segment in unsound:
            self._mend(segment, self.entries[segment * WORDS])
        if unsound:
            columns = self._columns(first, end)
        self.newest_sequence = max(self.newest_sequence, columns.newest_sequence())
        free = columns.free()
        self._free_ids += free
        self.in_use += end - first - len(free)
        self.tried_segments += columns.tried_count()
        adopted.shared.update(columns.shared())
        for segment in columns.in_frames():
            frame = self._adopt_in_frame(segment)
            self.bases[segment] = frame << SEGMENT_SHIFT
            adopted.frames.add(frame)
        for tier, flags, extents in columns.on_tiers():
            adopted.extents.setdefault(tier, array("I")).extend(extents)
            self.places.note_on_tier(tier, first, flags)
        for segment in columns.lost():
            self.places.kinds[segment] = LOST

    def _columns(self, first: int, end: int) -> EntryColumns:
        at, until = first * SEGMENT_ENTRY_BYTES, end * SEGMENT_ENTRY_BYTES
        return EntryColumns(first, self._region.map[at:until])

    def _adopt_in_frame(self, segment: SegmentId) -> int:
        """Seal ``segment`` if it was open; returns its frame."""
        at = segment * WORDS
        word = self.entries[at]
        if word & 0xFF == SegmentState.OPEN:
            self.entries[at + 3] = _now_s()
            word = entry_word(SegmentState.SEALED, stream_and_marks(word), word >> 32)
            self.entries[at] = word
        self.places.note(segment, word)
        return word >> 32

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
    return int(boot_s())
