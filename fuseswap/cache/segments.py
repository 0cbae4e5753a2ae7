"""The segment log: append, seal, count what lives, free whole segments.

A segment is 1 MiB.  Objects grow up from its start, the directory of their
owners grows down from its end:

    | check | payload | check | payload | ...  ->    free    <-  ... owner1 | owner0 |

    check   4 bytes, xxh3 of the payload (``pool.py``)
    owner   4 bytes, the page the object was stored for

and one entry of the segment table (``segment_table.py``), in which a segment is

    free -- open --> OPEN -- seal --> SEALED -- written back --> ON_TIER
             ^         |                |                           |
             `---------+- live count 0 -+---------------------------'

Order within an append: owner, payload, table entry; the caller then commits the
slot word.  Whatever a crash leaves behind a tail that no slot word points to is
dead space, nothing more.  From the seal on, the bytes of a segment never change, so it
is written back while it is read, overwritten and discarded: when the write is
acknowledged, table word 0 changes its state and location in one store, and the frame is
free.  Should the segment die meanwhile, the extent is simply free again.

An object may have several pages (``dedup.py``): their words are the same.  The directory
knows one of them; a segment with `Mark.SHARED` has owners that only a sweep of the slot table
finds.

`live` (pages) and `live_bytes` (of their objects, with both 4-byte records), `codec_pages`
and `codec_bytes` (pages, and payload bytes of objects, by codec) and the references of shared
objects are derived from the slot table by ``recovery.py``.  A segment with no live page is
free at once, wherever it lives.
"""

from __future__ import annotations

import struct
import time
from array import array

from fuseswap.cache.checks import CHECK_BYTES
from fuseswap.cache.departures import Departures
from fuseswap.cache.extents import ExtentPool
from fuseswap.cache.feeder import Feeder
from fuseswap.cache.frames import NO_FRAME, FramePool
from fuseswap.cache.log_head import LogHead
from fuseswap.cache.references import References
from fuseswap.cache.segment_kinds import (
    Mark,
    SegmentState,
    Stream,
    entry_word,
    stream_and_marks,
)
from fuseswap.cache.segment_table import OWNER_BYTES, WORDS, SegmentTable
from fuseswap.cache.slot_word import (
    CODEC_SHIFT,
    LENGTH_MASK,
    LENGTH_SHIFT,
    OBJECT,
    OFFSET_SHIFT,
    PARITY,
    SEGMENT_ID_SHIFT,
    codec_of,
    length_of,
    offset_of,
    segment_of,
)
from fuseswap.cache.state import SEGMENT_BYTES, SEGMENT_SHIFT, SharedState
from fuseswap.errors import PoolFull
from fuseswap.units import SegmentId

OBJECT_OVERHEAD = CHECK_BYTES + OWNER_BYTES

_GROW = 256
# May take the frames kept for the cleaner.
_COPYING = (Stream.SURVIVORS, Stream.EVICTED, Stream.RECOMPRESSED)

_put_u32 = struct.Struct("<I").pack_into
_get_u32 = struct.Struct("<I").unpack_from


class SegmentLog(SegmentTable):
    """Segments by id.  ``bases`` (arena offset of a segment, -1 where it is in no frame) is hot."""

    def __init__(self, state: SharedState, feeder: Feeder | None = None, ready: int = 0) -> None:
        """``ready`` frames are kept for stores, whatever is stored (``frames.py``)."""
        super().__init__(state, feeder)
        self._arena = state.arena.map
        self._arena_u32 = state.arena.buffer.cast("I")  # for owners, which are aligned
        self.frames = FramePool(state.arena, state.geometry.frame_count, feeder, ready)
        self.extents = ExtentPool()
        self.heads = tuple(LogHead(stream) for stream in Stream)
        self.bases = array("q", [-1])
        self.live = array("I", [0])
        self.live_bytes = array("q", [0])
        self.extra = array("I", [0])  # pages of a segment that share the object of another
        self.references = References()
        self.unsettled: set[int] = set()  # all references are counted, not only the extra ones
        self._closed: dict[int, int] = {}  # how many are at work to empty a segment
        self.duplicate_pages = 0
        self.duplicate_bytes = 0
        self.codec_pages = [0] * 16
        self.codec_bytes = [0] * 16
        self._free_ids: list[int] = []
        self.departures = Departures(self)
        self.live_in_frames = 0  # live bytes of all segments in memory
        self.newest_sequence = 0
        self.segments_in_use = 0
        self.adopting = False  # counts are not complete: nothing is freed

    # -- appending -----------------------------------------------------------------

    def append(self, head: LogHead, owner: int, payload: bytes, check: int, codec: int) -> int:
        """Append one object; return the slot word for it.

        Raises `PoolFull` where a new segment is needed and no frame is free.
        """
        length = len(payload)
        bound = head.bound - OWNER_BYTES
        if head.tail + length + CHECK_BYTES > bound:
            self._open_next(head)
            bound = head.bound - OWNER_BYTES
        offset = head.tail
        start = head.base + offset
        head.tail = end = offset + CHECK_BYTES + length
        head.bound = bound
        arena = self._arena
        self._arena_u32[head.base + bound >> 2] = owner  # crash point: append-owner
        _put_u32(arena, start, check)
        arena[start + CHECK_BYTES : head.base + end] = payload  # crash point: append-payload
        segment = head.segment
        self._table[segment * WORDS + 1] = end << 32 | bound  # crash point: append-tail
        self.live[segment] += 1  # crash point: append-count
        self.live_bytes[segment] += length + OBJECT_OVERHEAD
        self.live_in_frames += length + OBJECT_OVERHEAD
        self.codec_pages[codec] += 1
        self.codec_bytes[codec] += length
        word = segment << SEGMENT_ID_SHIFT | offset << OFFSET_SHIFT
        word |= length - 1 << LENGTH_SHIFT | codec << CODEC_SHIFT | OBJECT
        return word | PARITY if word.bit_count() & 1 else word

    def stored(self, word: int) -> bytes:
        """Check and payload of the object of ``word``, which is in memory."""
        start = self.bases[segment_of(word)] + offset_of(word)
        return self._arena[start : start + CHECK_BYTES + length_of(word)]

    def append_stored(self, head: LogHead, owner: int, stored: bytes, codec: int) -> int:
        """Append an object as it is: ``stored`` is its check and payload.  As `append`."""
        check = _get_u32(stored)[0]
        return self.append(head, owner, stored[CHECK_BYTES:], check, codec)

    def fits(self, head: LogHead, length: int) -> bool:
        """Whether an object of ``length`` bytes can be appended by a store now."""
        return head.tail + length + OBJECT_OVERHEAD <= head.bound or not self.frames.exhausted

    def share(self, word: int) -> bool:
        """Another page gets the object of ``word``; False where it may not.

        The mark comes before the second word, so that whoever comes after a crash knows.
        """
        segment = segment_of(word)
        if segment in self._closed or not self.references.add(word):
            return False
        self.mark(segment, Mark.SHARED)  # crash point: share-mark
        self.extra[segment] += 1  # crash point: share-done
        self.live[segment] += 1
        self.codec_pages[codec_of(word)] += 1
        self.duplicate_pages += 1
        self.duplicate_bytes += length_of(word)
        return True

    def close_to_shares(self, segment: int) -> None:
        """``segment`` is being emptied: who looks for its pages must not miss one that comes."""
        self._closed[segment] = self._closed.get(segment, 0) + 1

    def open_to_shares(self, segment: int) -> None:
        """Undo one `close_to_shares`."""
        self._closed[segment] -= 1
        if not self._closed[segment]:
            del self._closed[segment]

    def is_shared(self, word: int) -> bool:
        """Whether the object of ``word`` has more than one page."""
        return self.extra[segment_of(word)] > 0 and self.references.count(word) > 0

    def _drop_reference(self, word: int, segment: int) -> bool:
        """A page of an object in a segment with shared ones is gone; False: it was the last."""
        left = self.references.drop(word) if self.extra[segment] else -1
        if left < 0:
            return False
        self.extra[segment] -= 1
        if not left and segment in self.unsettled:
            return False
        self.duplicate_pages -= 1
        self.duplicate_bytes -= length_of(word)
        return True

    def release(self, word: int) -> None:
        """A page of the object of ``word`` is gone; the last one frees the segment."""
        segment = word >> SEGMENT_ID_SHIFT
        codec = word >> CODEC_SHIFT & 0xF
        self.codec_pages[codec] -= 1
        if not (self.duplicate_pages or self.adopting) or not self._drop_reference(word, segment):
            length = (word >> LENGTH_SHIFT & LENGTH_MASK) + 1
            self.codec_bytes[codec] -= length
            self.live_bytes[segment] -= length + OBJECT_OVERHEAD
            if self.bases[segment] >= 0:
                self.live_in_frames -= length + OBJECT_OVERHEAD
        live = self.live[segment] - 1
        self.live[segment] = live
        if not live and not self.adopting:
            self._free(segment)

    def seal(self, head: LogHead) -> None:
        """Close the open segment of ``head``; its bytes are immutable from here on."""
        if head.segment:
            at = head.segment * WORDS
            now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
            self._table[at + 3] = now  # crash point: seal-time
            stream = stream_and_marks(self._entry(head.segment))
            word = entry_word(SegmentState.SEALED, stream, head.base >> SEGMENT_SHIFT)
            self._table[at] = word  # crash point: seal-commit
            self.departures.add(head.segment)  # crash point: seal-done
            head.close()

    def _open_next(self, head: LogHead) -> None:
        segment = self._new_id()
        frame = self.frames.take(cleaning=head.stream in _COPYING)
        if frame == NO_FRAME:
            self._free_ids.append(segment)
            raise PoolFull("the pool is at its limit")
        self.seal(head)  # crash point: open-frame-taken
        at = segment * WORDS
        self.newest_sequence += 1
        self._table[at + 1] = SEGMENT_BYTES  # crash point: open-tail
        self._table[at + 2] = self.newest_sequence  # crash point: open-sequence
        word = entry_word(SegmentState.OPEN, head.stream, frame)
        self._table[at] = word  # crash point: open-commit
        self.bases[segment] = head.base = frame << SEGMENT_SHIFT
        head.segment = segment  # crash point: open-done
        head.tail = 0
        head.bound = SEGMENT_BYTES
        self.segments_in_use += 1

    def _free(self, segment: int) -> None:
        for head in self.heads:
            if head.segment == segment:
                head.close()
        base, entry = self.bases[segment], self._entry(segment)
        self._table[segment * WORDS] = SegmentState.FREE  # crash point: free-commit
        self.bases[segment] = -1  # crash point: free-done
        self._pinned.discard(segment)
        self.departures.remove(segment)
        self.references.forget(segment)
        self._free_ids.append(segment)
        self.segments_in_use -= 1
        self.tried_segments -= stream_and_marks(entry) & Mark.TRIED != 0
        if base >= 0:
            self.frames.give_back(base >> SEGMENT_SHIFT)  # crash point: free-frame
        elif entry & 0xFF == SegmentState.ON_TIER:
            self.extents.give_back(entry >> 32)  # crash point: free-extent

    def move_to_tier(self, segment: int, extent: int) -> None:
        """The bytes of sealed ``segment`` are on ``extent``: flip its location, free its frame."""
        frame = self.bases[segment] >> SEGMENT_SHIFT
        stream = stream_and_marks(self._entry(segment))
        moved = entry_word(SegmentState.ON_TIER, stream, extent)
        self._table[segment * WORDS] = moved  # crash point: flip-commit
        self.bases[segment] = -1
        self.departures.remove(segment)
        self.live_in_frames -= self.live_bytes[segment]
        self.frames.give_back(frame)  # crash point: flip-frame

    def dead_bytes(self) -> tuple[int, int]:
        """``(dead, all)``: bytes of the frames in use that nothing needs, and all of them."""
        held = self.frames.in_use << SEGMENT_SHIFT
        unfilled = sum(head.bound - head.tail for head in self.heads)
        return held - self.live_in_frames - unfilled, held

    def view(self, segment: int) -> memoryview:
        """The whole 1 MiB of a segment in memory, page-aligned; release it after use."""
        base = self.bases[segment]
        return memoryview(self._arena)[base : base + SEGMENT_BYTES]

    def _new_id(self) -> int:
        if not self._free_ids:
            known = len(self.live)
            more = min(_GROW, self.entries_ahead(known))
            if more <= 0:
                raise PoolFull("the segment table is full")
            self.bases.extend([-1] * more)
            self.live.extend([0] * more)
            self.live_bytes.extend([0] * more)
            self.extra.extend([0] * more)
            self._free_ids.extend(range(known + more - 1, known - 1, -1))
        return self._free_ids.pop()

    # -- reading -------------------------------------------------------------------

    def is_live(self, segment: int) -> bool:
        """Whether ``segment`` has a live object."""
        return segment < len(self.live) and self.live[segment] > 0

    def exists(self, segment: int) -> bool:
        """Whether the table knows ``segment`` as holding data."""
        return 0 < segment < len(self.live) and self._entry(segment) & 0xFF != SegmentState.FREE

    def owners(self, segment: int, stored: bytes = b"") -> array[int]:
        """Pages the objects of a segment were stored for, newest first.

        In memory, or in the 1 MiB that a tier had ``stored``.
        """
        bound = self.extent_of(segment)[1]
        base = self.bases[segment]
        owners = array("I")
        owners.frombytes(stored[bound:] or self._arena[base + bound : base + SEGMENT_BYTES])
        return owners

    def segments(self) -> list[SegmentId]:
        """Ids of all segments in use."""
        return [SegmentId(segment) for segment in range(1, len(self.live)) if self.live[segment]]

    # -- attaching -----------------------------------------------------------------

    def adopt(self) -> None:
        """Take over the table as a former process left it, without counts (``recovery.py``).

        A segment that was open is sealed where it stood; what can't be mended is lost.
        """
        known = self._highest_id() + 1
        self.adopting = True
        self.live_in_frames = 0
        self.bases = array("q", [-1]) * known
        self.live = array("I", [0]) * known
        self.live_bytes = array("q", [0]) * known
        self.extra = array("I", [0]) * known
        self.codec_pages[:] = self.codec_bytes[:] = [0] * 16
        self._free_ids = []
        self.segments_in_use = self.tried_segments = 0
        used: dict[bool, set[int]] = {False: set(), True: set()}  # frames, extents
        for segment in range(known - 1, 0, -1):
            at = segment * WORDS
            word = self._mend(segment, self._table[at]) if self._table[at] else 0
            state, location = word & 0xFF, word >> 32
            self.newest_sequence = max(self.newest_sequence, self._table[at + 2])
            if state == SegmentState.OPEN:
                self._table[at + 3] = int(time.clock_gettime(time.CLOCK_BOOTTIME))
                stream = stream_and_marks(word)
                self._table[at] = entry_word(SegmentState.SEALED, stream, location)
            if state == SegmentState.FREE:
                self._free_ids.append(segment)
                continue
            self.segments_in_use += 1
            self.tried_segments += stream_and_marks(word) & Mark.TRIED != 0
            if state == SegmentState.LOST:
                continue
            on_tier = state == SegmentState.ON_TIER
            used[on_tier].add(location)
            if stream_and_marks(word) & Mark.SHARED:
                self.unsettled.add(segment)
            if not on_tier:
                self.bases[segment] = location << SEGMENT_SHIFT
        self.frames.adopt(used[False])
        self.extents.adopt(used[True])

    def adopt_word(self, word: int) -> None:
        """Count a page of an object, as a former process left it."""
        segment = segment_of(word)
        codec = codec_of(word)
        length = length_of(word)
        self.live[segment] += 1
        self.codec_pages[codec] += 1
        if segment in self.unsettled:
            self.extra[segment] += 1
            if self.references.add(word, bounded=False) > 1:
                self.duplicate_pages += 1
                self.duplicate_bytes += length
                return
        self.codec_bytes[codec] += length
        self.live_bytes[segment] += length + OBJECT_OVERHEAD
        if self.bases[segment] >= 0:
            self.live_in_frames += length + OBJECT_OVERHEAD

    def settle_one(self) -> bool:
        """All words are counted: of one more segment keep the extra references only."""
        if not self.unsettled:
            return False
        segment = self.unsettled.pop()
        self.extra[segment] = self.references.settle(segment)
        return True

    def finish_adoption(self) -> None:
        """The counts are complete: free the segments no word points to, line up the others."""
        self.adopting = False
        for segment in range(1, len(self.live)):
            if not self.live[segment] and self.exists(segment):
                self._free(segment)
        self.departures.start_over()

    def close(self) -> None:
        """Release the views of the shared state."""
        self._arena_u32.release()
        self._table.release()
