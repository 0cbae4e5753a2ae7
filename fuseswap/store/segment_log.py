"""The segment log: append, seal, count what lives, free whole segments.

A segment is 1 MiB.  Objects grow up from its start, the directory of their
owners grows down from its end:

    | check | payload | check | payload | ...  ->    free    <-  ... owner1 | owner0 |

    check   4 bytes, xxh3 of the payload (``compressed_cache.py``); at a multiple of 8
    owner   4 bytes, the page the object was stored for

and one entry of the segment table (``segment_table.py``), in which a segment is

    free -- open --> OPEN -- seal --> SEALED <-- relocated --> ON_TIER
             ^         |                |                         |
             `---------+- live count 0 -+-------------------------'

Order within an append: owner, payload, table entry; the caller then commits the slot word.
What a crash leaves behind a tail that no slot word points to is dead space.

From the seal on, the bytes of a segment never change.  So it moves between memory and tiers
(``reclaim/relocation.py``) while it is read, overwritten and discarded.  When its bytes are
there, one store of table word 0 changes its state and location, and the old place is free.
Should the segment die meanwhile, the new place is free again.

An object may have several pages (``dedup/policy.py``): their words are the same.  The directory
knows one of them; the others of a segment with `Mark.SHARED` are found by a sweep of all words.

Derived from the slot table (``frontswap/adoption.py``): live pages and bytes of each segment
(``segment_table.py``), references of shared objects, and pages and payload bytes by codec.
A segment with no live page is free at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, MutableSequence
from typing import Final, final

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.registry import CODECS, ZSTD_DICTIONARY
from fuseswap.errors import PoolFull
from fuseswap.store.append_head import AppendHead
from fuseswap.store.dictionary_use import DictionaryUse
from fuseswap.store.eviction_queue import EvictionQueue
from fuseswap.store.frame_pool import NO_FRAME, FramePool
from fuseswap.store.log_tiers import NoTiers, Tiers
from fuseswap.store.memory_reserve import Feeder
from fuseswap.store.object_size import OWNER_BYTES, PADDED, UNITS, footprint
from fuseswap.store.refcounts import Refcounts
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.segment_table import WORDS, SegmentTable
from fuseswap.store.slot_word import (
    CODEC_MASK,
    CODEC_SHIFT,
    LENGTH_MASK,
    LENGTH_SHIFT,
    MODULUS,
    OBJECT,
    OFFSET_SHIFT,
    SEGMENT_ID_MASK,
    SEGMENT_ID_SHIFT,
    codec_of,
    length_of,
    offset_of,
    segment_of,
)
from fuseswap.store.superblock import SharedState
from fuseswap.units import (
    SEGMENT_BYTES,
    SEGMENT_SHIFT,
    Location,
    PageNumber,
    SegmentId,
    page_array,
)

# May take the frames kept for the cleaner.
_COPYING = (Stream.SURVIVORS, Stream.EVICTED, Stream.RECOMPRESSED)

_put_u32: Final = struct.Struct("<I").pack_into
_get_u32: Final = struct.Struct("<I").unpack_from


@final
class SegmentLog:
    """The log: segments and what they hold; ``table`` knows each of them."""

    def __init__(
        self,
        state: SharedState,
        feeder: Feeder | None = None,
        ready: int = 0,
        tiers: Tiers | None = None,
    ) -> None:
        """``ready`` frames are kept for stores, whatever is stored (``frame_pool.py``)."""
        self.table = table = SegmentTable(state, feeder)
        self._entries, self._bases = table.entries, table.bases
        self._live, self._live_bytes, self._extra = table.live, table.live_bytes, table.extra
        self._arena = state.arena.map
        self._arena_u32 = state.arena.buffer.cast("I")  # for owners, which are aligned
        self.frames = FramePool(state.arena, state.geometry.frame_count, feeder, ready)
        self.tiers: Tiers = NoTiers() if tiers is None else tiers
        self.heads = tuple(AppendHead(stream) for stream in Stream)
        self.references = Refcounts()
        # All references of these are counted, not only the extra ones.
        self.unsettled: set[SegmentId] = set()
        self._closed: dict[SegmentId, int] = {}  # how many are at work to empty a segment
        self.duplicate_pages = self.duplicate_bytes = 0
        self.codec_pages = [0] * CODECS
        self.codec_bytes = [0] * CODECS
        self.dictionary_use = DictionaryUse()
        self.eviction_queue = EvictionQueue(table)
        self.live_bytes = self.live_on_tiers = 0  # of all segments, and of those on tiers
        self.adopting = False  # counts are not complete: nothing is freed

    # -- appending -----------------------------------------------------------------

    def append(
        self, head: AppendHead, owner: PageNumber, payload: bytes, check: int, codec: int
    ) -> int:
        """Append one object; return the slot word for it.

        Raises `PoolFull` where a new segment is needed and no frame is free.  One that needs a
        dictionary takes the way of `append_copy`.
        """
        length = len(payload)
        size = length + PADDED & UNITS
        bound = head.bound - OWNER_BYTES
        if head.tail + size > bound:
            self._open_next(head)
            bound = head.bound - OWNER_BYTES
        offset = head.tail
        start = head.base + offset
        head.tail = tail = offset + size
        head.bound = bound
        arena = self._arena
        self._arena_u32[head.base + bound >> 2] = owner  # crash point: append-owner
        _put_u32(arena, start, check)
        start += CHECK_BYTES
        arena[start : start + length] = payload  # crash point: append-payload
        segment = head.segment
        self._entries[segment * WORDS + 1] = tail << 32 | bound  # crash point: append-tail
        self._live[segment] += 1  # crash point: append-count
        size += OWNER_BYTES
        self._live_bytes[segment] += size
        self.live_bytes += size
        self.codec_pages[codec] += 1
        self.codec_bytes[codec] += length
        word = segment << SEGMENT_ID_SHIFT | offset << OFFSET_SHIFT
        word |= length - 1 << LENGTH_SHIFT | codec << CODEC_SHIFT | OBJECT
        return word | -word % MODULUS

    def stored(self, word: int) -> bytes:
        """Check and payload of the object of ``word``, which is in memory."""
        start = self._bases[segment_of(word)] + offset_of(word)
        return self._arena[start : start + CHECK_BYTES + length_of(word)]

    def append_stored(self, head: AppendHead, owner: PageNumber, stored: bytes, codec: int) -> int:
        """Append an object as it is: ``stored`` is its check and payload.  As `append`."""
        check = _get_u32(stored)[0]
        return self.append_copy(head, owner, stored[CHECK_BYTES:], check, codec)

    def append_copy(
        self, head: AppendHead, owner: PageNumber, payload: bytes, check: int, codec: int
    ) -> int:
        """As `append`, of any codec: an object compressed anew may need a dictionary."""
        word = self.append(head, owner, payload, check, codec)
        if codec == ZSTD_DICTIONARY:
            self.dictionary_use.add(segment_of(word), payload[:1])
        return word

    def fits(self, head: AppendHead, length: int) -> bool:
        """Whether an object of ``length`` bytes can be appended by a store now."""
        return head.tail + footprint(length) <= head.bound or not self.frames.exhausted

    def share(self, word: int) -> bool:
        """Another page gets the object of ``word``; False where it may not.

        The mark comes before the second word, so that the next worker knows after a crash.
        """
        segment = segment_of(word)
        if segment in self._closed or not self.references.add(word):
            return False
        self.table.mark(segment, Mark.SHARED)  # crash point: share-mark
        self._extra[segment] += 1  # crash point: share-done
        self._live[segment] += 1
        self.codec_pages[codec_of(word)] += 1
        self.duplicate_pages += 1
        self.duplicate_bytes += length_of(word)
        self._note_pages_on_tier(segment, 1)
        if codec_of(word) == ZSTD_DICTIONARY:
            self.dictionary_use.add(segment, self._dictionaries_of(word))
        return True

    def close_to_shares(self, segment: SegmentId) -> None:
        """``segment`` is being emptied: who looks for its pages must not miss one that comes."""
        self._closed[segment] = self._closed.get(segment, 0) + 1

    def open_to_shares(self, segment: SegmentId) -> None:
        """Undo one `close_to_shares`."""
        self._closed[segment] -= 1
        if not self._closed[segment]:
            del self._closed[segment]

    def is_shared(self, word: int) -> bool:
        """Whether the object of ``word`` has more than one page."""
        return self._extra[segment_of(word)] > 0 and self.references.count(word) > 0

    def _drop_reference(self, word: int, segment: SegmentId) -> bool:
        """A page of an object in a segment with shared ones is gone; False: it was the last."""
        left = self.references.drop(word) if self._extra[segment] else -1
        if left < 0:
            return False
        self._extra[segment] -= 1
        if not left and segment in self.unsettled:
            return False
        self.duplicate_pages -= 1
        self.duplicate_bytes -= length_of(word)
        self._note_pages_on_tier(segment, -1)
        return True

    def release(self, word: int, dictionary: int | None = None) -> None:
        """A page of the object of ``word`` is gone; the last one frees the segment.

        ``dictionary``: its number, where the object was found sound with it.
        """
        segment = word >> SEGMENT_ID_SHIFT & SEGMENT_ID_MASK
        codec = word >> CODEC_SHIFT & CODEC_MASK
        self.codec_pages[codec] -= 1
        if codec == ZSTD_DICTIONARY:
            self.dictionary_use.release(segment, dictionary)
        if not (self.duplicate_pages or self.adopting) or not self._drop_reference(word, segment):
            length = (word >> LENGTH_SHIFT & LENGTH_MASK) + 1
            self.codec_bytes[codec] -= length
            size = (length + PADDED & UNITS) + OWNER_BYTES
            self._live_bytes[segment] -= size
            self.live_bytes -= size
            if self._bases[segment] < 0:
                self.live_on_tiers -= size
                self._note_pages_on_tier(segment, -1)
        live = self._live[segment] - 1
        self._live[segment] = live
        if not live and not self.adopting:
            self._free(segment)

    def seal(self, head: AppendHead) -> None:
        """Close the open segment of ``head``; its bytes are immutable from here on."""
        if head.segment:
            self.table.seal(head.segment)
            self.eviction_queue.add(head.segment)  # crash point: seal-done
            head.close()

    def _open_next(self, head: AppendHead) -> None:
        segment = self.table.take_id()
        frame = self.frames.take(cleaning=head.stream in _COPYING)
        if frame == NO_FRAME:
            self.table.return_id(segment)
            raise PoolFull("the pool is at its limit")
        self.seal(head)  # crash point: open-frame-taken
        head.base = self.table.open(segment, head.stream, frame)
        head.segment = segment
        head.tail = 0
        head.bound = SEGMENT_BYTES

    def _free(self, segment: SegmentId) -> None:
        for head in self.heads:
            if head.segment == segment:
                head.close()
        where = self.table.free(segment)
        self.eviction_queue.drop(segment)
        self.references.forget(segment)
        self.dictionary_use.forget(segment)
        if isinstance(where, Location):
            self.tiers.release(where, self.table.sequence_of(segment))  # crash point: free-extent
        elif where is not None:
            self.frames.give_back(where)  # crash point: free-frame

    def relocate(self, segment: SegmentId, to: Location | int) -> None:
        """The bytes of a sealed segment are at ``to``: flip its location, free the old place.

        ``to`` is a place on a tier, or a frame that was taken for it.
        """
        if isinstance(to, Location):
            self.table.note_dictionaries(segment, self.dictionary_use.of(segment))
        self._note_pages_on_tier(segment, -self._live[segment])
        was = self.table.relocate(segment, to)
        self._note_pages_on_tier(segment, self._live[segment])
        if isinstance(was, Location):
            if not isinstance(to, Location):
                self.live_on_tiers -= self._live_bytes[segment]
                self.eviction_queue.add(segment)
            self.tiers.release(was, self.table.sequence_of(segment))  # crash point: flip-extent
        elif was is not None:
            self.eviction_queue.drop(segment)
            self.live_on_tiers += self._live_bytes[segment]
            self.frames.give_back(was)  # crash point: flip-frame

    def _note_pages_on_tier(self, segment: SegmentId, pages: int) -> None:
        """So many ``pages`` of ``segment`` more; nothing where it is in memory."""
        where = self.table.location_of(segment)
        if isinstance(where, Location):
            self.tiers.note_pages(where.tier, pages)

    @property
    def live_in_frames(self) -> int:
        """Live bytes of all segments in memory."""
        return self.live_bytes - self.live_on_tiers

    def _dictionaries_of(self, word: int) -> Iterable[int]:
        """The dictionary that an object in memory names; those it may need where it is not."""
        segment = segment_of(word)
        base = self._bases[segment]
        if base < 0:
            return self.table.dictionaries_of(segment)
        at = base + offset_of(word) + CHECK_BYTES
        return self._arena[at : at + 1]

    def dead_bytes(self) -> tuple[int, int]:
        """``(dead, all)``: bytes of the frames in use that nothing needs, and all of them."""
        held = self.frames.in_use << SEGMENT_SHIFT
        unfilled = sum(head.bound - head.tail for head in self.heads)
        return held - self.live_in_frames - unfilled, held

    def view(self, segment: SegmentId) -> memoryview:
        """The whole 1 MiB of a segment in memory, page-aligned; release it after use."""
        return self.frame_view(self._bases[segment] >> SEGMENT_SHIFT)

    def frame_view(self, frame: int) -> memoryview:
        """The 1 MiB of a frame, in use for a segment or for one on its way; as `view`."""
        base = frame << SEGMENT_SHIFT
        return memoryview(self._arena)[base : base + SEGMENT_BYTES]

    # -- reading -------------------------------------------------------------------

    def owners(self, segment: SegmentId, stored: bytes = b"") -> MutableSequence[PageNumber]:
        """Pages the objects of a segment were stored for, newest first.

        In memory, or in the 1 MiB that a tier had ``stored``.
        """
        bound = self.table.bounds_of(segment)[1]
        base = self._bases[segment]
        return page_array(stored[bound:] or self._arena[base + bound : base + SEGMENT_BYTES])

    # -- attaching -----------------------------------------------------------------

    def adopt(self) -> None:
        """Take over the table as a former process left it, without counts."""
        self.adopting = True
        self.live_bytes = self.live_on_tiers = 0
        self.codec_pages[:] = self.codec_bytes[:] = [0] * CODECS
        self.dictionary_use.clear()
        adopted = self.table.adopt()
        self.unsettled = adopted.shared
        self.frames.adopt(adopted.frames)
        self.tiers.adopt(adopted.extents)

    def adopt_word(self, word: int) -> None:
        """Count a page of an object, as a former process left it."""
        segment = segment_of(word)
        codec = codec_of(word)
        length = length_of(word)
        self._live[segment] += 1
        self.codec_pages[codec] += 1
        if codec == ZSTD_DICTIONARY:
            self.dictionary_use.add(segment, self._dictionaries_of(word))
        on_tier = self._bases[segment] < 0
        if on_tier:
            self._note_pages_on_tier(segment, 1)
        if segment in self.unsettled:
            self._extra[segment] += 1
            if self.references.add(word, bounded=False) > 1:
                self.duplicate_pages += 1
                self.duplicate_bytes += length
                return
        self.codec_bytes[codec] += length
        self._live_bytes[segment] += footprint(length)
        self.live_bytes += footprint(length)
        if on_tier:
            self.live_on_tiers += footprint(length)

    def settle_one(self) -> bool:
        """All words are counted: of one more segment keep the extra references only."""
        if not self.unsettled:
            return False
        segment = self.unsettled.pop()
        self._extra[segment] = self.references.settle(segment)
        return True

    def free_dead(self, segment: SegmentId) -> bool:
        """Free ``segment`` if no word points to it; whether that was so."""
        dead = not self._live[segment] and self.table.exists(segment)
        if dead:
            self._free(segment)
        return dead

    def close(self) -> None:
        """Release the views of the shared state."""
        self._arena_u32.release()
        self.table.close()
