"""The compressed cache: a frontswap backend that keeps pages compressed in memory.

``page_encoder.py`` decides what a page becomes; ``page_reader.py`` has what a slot word leads to.
Here is what changes.

Owns the segment log.  The front end owns the slot table and commits what `store` returns
(``chain.py``); cleaner and merger replace words of objects by others.  Called from the one
thread of the worker; nothing here waits, so every call is a critical section.

A store compresses first, looks whether there is room, and appends the object.  The object
is dead space until the front end commits its word.  A page whose contents are stored
already (``dedup/policy.py``) is counted as one more page of that object instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

from fuseswap.codecs.checksum import Decoder
from fuseswap.codecs.codec import Codec
from fuseswap.codecs.registry import LAST_RAW, LZ4, RAW, CodecRegistry
from fuseswap.counting import counter, zeros
from fuseswap.dedup.policy import Dedup
from fuseswap.errors import CompressesPoorly, NoMemory, OldInTheWay, PoolFull, StoreRefused
from fuseswap.frontswap.cache_statistics import CacheStatistics, take_snapshot
from fuseswap.frontswap.page_encoder import PageEncoder
from fuseswap.store.append_head import AppendHead
from fuseswap.store.dictionary_area import Dictionaries
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.memory_usage import MemoryUsage
from fuseswap.store.object_size import footprint
from fuseswap.store.page_reader import Defer, PageReader, no_reader
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.segment_log import SegmentLog, Tiers
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import (
    OBJECT,
    SEGMENT_ID_MASK,
    SEGMENT_ID_SHIFT,
    is_loaded,
    is_object,
    is_object_of,
    is_same_filled,
    segment_of,
)
from fuseswap.store.superblock import SharedState
from fuseswap.units import FIRST_PAGE, PAGE_SIZE, SEGMENT_SHIFT, PageNumber, SegmentId

_SETTLED_AT_ONCE = 4
_ASKED_PAGES = 64  # for the share of those that were loaded: 8 us; within 6 % or so

_checksum = xxhash.xxh3_64_intdigest


@dataclass(slots=True)
class StoreCounters:
    """What stores find; ``cache_statistics.py`` has what they leave behind."""

    pool_limit_hit: int = counter(
        "Stores that found the pool at its limit; they waited for room, or were refused.",
        like="zswap",
        after="duplicate_entry",
    )
    machine_limit_hit: int = counter(
        "The same below its limit, while others have 4 % of memory or less."
    )
    reject_alloc_fail: int = counter(
        "Stores refused because the system had no memory for another segment.",
        like="zswap",
    )
    reserve_empty: int = counter(
        "Tries of stores that found no segment ready below the limit: they wait for memory."
    )


class CompressedCache:
    """A frontswap backend that keeps pages compressed in memory."""

    name = "cache"

    number = None  # its words are those of objects and same-filled pages

    def __init__(
        self,
        state: SharedState,
        slots: SlotTable,
        compressor: str = "lz4",
        *,
        in_place: bool = False,
        feeder: Feeder | None = None,
        ready_frames: int = 0,
        defer: Defer = no_reader,
        tiers: Tiers | None = None,
        codecs: Iterable[Codec] = (),
    ) -> None:
        """Attach to ``state``, fresh or left by a former process; ``slots`` is the front end's.

        ``in_place``: pages may leave to their own places.  ``feeder`` makes memory ahead of need,
        and keeps ``ready_frames``; without one a store makes it.  ``defer`` says how a page
        on a tier is read.  ``tiers``: where segments go.  ``codecs`` are registered.
        """
        feeder = feeder or AtOnce()
        self.page_count = state.geometry.page_count
        self.slots = slots
        self.log = SegmentLog(state, feeder, ready_frames, tiers)
        self.codecs = known = CodecRegistry.of(state, codecs)
        self.decoder = Decoder(known)
        self.dictionaries = Dictionaries(state.dictionaries, self.decoder.learn, feeder)
        self.reader = PageReader(slots, self.log, state.arena.map, self.decoder, defer)
        self.load = self.reader.load
        self.dedup = Dedup(state.index, self.log.codec_pages, feeder)
        self.encoder = PageEncoder(slots, self.log, self.reader, self.dedup, known, compressor)
        self._encode = self.encoder.encode
        self._append = self.log.append
        self.memory_usage = MemoryUsage(state, self.log, self._ready_table_bytes)
        self._head = self.log.heads[Stream.STORE]
        self._raw_head = self.log.heads[Stream.INCOMPRESSIBLE]
        # Where nothing leaves, it does not matter which objects stand together.
        self.mixes_streams = not in_place  # `Device` says when there is a tier
        self._mixed_bytes = 0
        self._fill_words = 0
        self.counters = zeros(StoreCounters)
        self.log.adopt()

    def init(self, page_count: int) -> None:
        """Nothing: ``slots`` has all there is to know of an area."""

    def keep_ready(self) -> None:
        """Have the feeder make what stores will need next; see ``memory_reserve.py``."""
        frames = self.log.frames
        frames.reserve(frames.ready)
        frames.map_some()
        self.slots.get_ready()
        self.dictionaries.get_ready()

    # -- parameters ------------------------------------------------------------------

    @property
    def pool_limit_bytes(self) -> int:
        """The most memory the arena may hold, in bytes."""
        return self.log.frames.limit << SEGMENT_SHIFT

    @pool_limit_bytes.setter
    def pool_limit_bytes(self, limit: int) -> None:
        self.log.frames.set_limit(limit >> SEGMENT_SHIFT)

    # -- a frontswap backend ---------------------------------------------------------

    def store(
        self, page: PageNumber, data: bytes | memoryview, old: int, replace: bool = False
    ) -> int:
        """Keep ``data`` (4096 bytes) for ``page``; returns the word to commit.

        Raises `PoolFull`, `OldInTheWay`, `NoMemory` or another `StoreRefused`, and holds nothing
        then.
        """
        try:
            word, payload, codec = self._encode(page, data, old)
        except CompressesPoorly:
            if not replace:
                raise
            word, payload, codec = 0, bytes(data), RAW  # nobody else takes a part of a page
        if word:
            self._fill_words += len(payload) > 0  # else it is shared
            return word
        head = self._head if codec > LAST_RAW else self._raw_head
        check = _checksum(payload, codec) & 0xFFFFFFFF
        try:
            word = self._append(head, page, payload, check, codec)  # crash point: store-append
        except PoolFull:
            head = self._find_room(page, len(payload), 0 if replace else old)
            word = self._append(head, page, payload, check, codec)
        if codec < LZ4:
            self.encoder.count_raw(codec)
        return word

    def release(self, page: PageNumber, word: int) -> None:
        """The object or fill of ``word`` has lost its page."""
        if word & OBJECT:
            if self.log.table.is_live(word >> SEGMENT_ID_SHIFT & SEGMENT_ID_MASK):
                self.log.release(word)
        elif is_same_filled(word):
            self._fill_words -= 1

    def adopt(self, page: PageNumber, word: int) -> bool:
        """Count a word that a former worker left; False for one of no segment."""
        if is_object(word):
            exists = self.log.table.exists(segment_of(word))
            if exists:
                self.log.adopt_word(word)
            return exists
        self._fill_words += is_same_filled(word)
        return is_same_filled(word)

    def finish_adoption(self) -> bool:
        """All words were adopted: settle shared objects, then free segments without a live one."""
        for _ in range(_SETTLED_AT_ONCE):
            if not self.log.settle_one():
                break
        else:
            return False
        self.log.finish_adoption()
        self.dedup.get_ready()
        return True

    def invalidate_area(self) -> None:
        """Nothing: the last object of each segment freed it."""

    @property
    def adopting(self) -> bool:
        """Whether what a former worker left is yet to be counted: nothing is freed or cleaned."""
        return self.log.adopting

    @property
    def stored_pages(self) -> int:
        """Pages whose words name an object or a fill."""
        return sum(self.log.table.live) + self._fill_words

    def owners_of(
        self, segment: SegmentId, first: PageNumber = FIRST_PAGE, stored: bytes = b""
    ) -> tuple[list[PageNumber], PageNumber]:
        """Pages that may have an object in a segment, in order, and where to go on.

        A bounded piece; all have been given where the second is `page_count`.  ``stored``: the
        1 MiB of a segment that is on a tier.
        """
        if self.log.table.is_marked(segment, Mark.SHARED):
            return self.slots.sweep(segment, first)
        owners = self.log.owners(segment, stored)
        pages = {page for page in owners if page < self.page_count}
        return sorted(pages), PageNumber(self.page_count)

    def loaded_share(self, segment: SegmentId) -> float:
        """Share of the live objects of a segment in memory that were loaded since stored.

        Estimated: of some pages, spread over its directory.
        """
        loaded = found = 0
        owners = self.log.owners(segment)
        step = -(-len(owners) // _ASKED_PAGES) | 1  # odd: every second page may be of one kind
        for page in owners[::step]:
            word = self.slots.get(page) if page < self.page_count else 0
            mine = is_object_of(word, segment)
            found += mine
            loaded += mine and is_loaded(word)
        return loaded / max(1, found)

    # -- inside ----------------------------------------------------------------------

    def _other_head(self, length: int) -> AppendHead | None:
        """Where else an object may go, in a full pool: into what the cleaner has left open.

        Not while the cleaner has the last frame: it may need that room to free another.
        """
        if self.mixes_streams and self.log.frames.has_spare:
            for stream in (Stream.STORE, Stream.SURVIVORS, Stream.INCOMPRESSIBLE):
                head = self.log.heads[stream]
                if head.segment and self.log.fits(head, length):
                    return head
        return None

    @property
    def has_other_room(self) -> bool:
        """Whether a store finds room in a full pool, whatever becomes of its page."""
        return self._other_head(PAGE_SIZE) is not None

    def _find_room(self, page: PageNumber, length: int, old: int) -> AppendHead:
        """Where an object goes in a full pool.

        Raises `PoolFull`, or `OldInTheWay` where ``old`` is the last of its segment.  Below the
        limit it raises `NoMemory`: the reserve is used up.  Or `PoolFull` where others have next
        to nothing left, or `StoreRefused` where no feeder makes more.
        """
        if not self.log.frames.exhausted:
            self.counters.reject_alloc_fail += 1
            raise StoreRefused(f"the system has no memory for page {page}")
        head = self._other_head(length)
        if head is None:
            segment, table = segment_of(old), self.log.table
            is_last = is_object(old) and table.is_live(segment) and table.live[segment] == 1
            if is_last and table.bases[segment] >= 0:
                raise OldInTheWay(f"the old version of page {page} takes the last room")
            if self.log.frames.is_spent:
                self.counters.machine_limit_hit += 1
                raise PoolFull(f"others have no memory to give: no room for page {page}")
            if self.log.frames.is_short:
                self.counters.reserve_empty += 1
                raise NoMemory(f"no frame is ready for page {page}")
            self.counters.pool_limit_hit += 1
            raise PoolFull(f"the pool is at its limit: no room for page {page}")
        self._mixed_bytes += (head.stream is Stream.SURVIVORS) * footprint(length)
        return head

    def _ready_table_bytes(self) -> int:
        """Memory of the tables that a feeder made ahead of need."""
        tables = self.slots.ready_bytes + self.log.table.ready_bytes + self.dedup.index.ready_bytes
        return tables + self.dictionaries.ready_bytes

    # -- looking at it ---------------------------------------------------------------

    def statistics(self, in_place_pages: int = 0, uncounted_pages: int = 0) -> CacheStatistics:
        """A snapshot; sums over clusters and segments, not for the hot path.

        ``in_place_pages``: on the backing file.  ``uncounted_pages``: left by a former worker.
        """
        return take_snapshot(
            self.log,
            self.dedup,
            self.memory_usage,
            stored_pages=self.slots.stored_pages,
            uncounted_pages=uncounted_pages,
            fill_words=self._fill_words,
            in_place_pages=in_place_pages,
            mixed_bytes=self._mixed_bytes,
        )

    def close(self) -> None:
        """Release every view of the shared state."""
        self.slots.close()
        self.log.close()
