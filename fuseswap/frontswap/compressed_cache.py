"""The compressed cache: a frontswap backend that keeps pages compressed in memory.

``page_encoder.py`` decides what a page becomes; ``page_reader.py`` has what a slot word leads to.
``full_pool.py`` knows where an object goes once the pool is full.  Here is what changes.

Owns the segment log.  The front end owns the slot table and commits what `store` returns
(``chain.py``); cleaner and merger replace words of objects by others.  Called from the one
thread of the worker; nothing here waits, so every call is a critical section.

A store compresses first, looks whether there is room, and appends the object.  The object
is dead space until the front end commits its word.  A page whose contents are stored
already (``dedup/policy.py``) is counted as one more page of that object instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import xxhash

from fuseswap.codecs.checksum import Decoder
from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES, Codec
from fuseswap.codecs.registry import LAST_RAW, LZ4, RAW, CodecRegistry
from fuseswap.dedup.policy import Dedup
from fuseswap.errors import CompressesPoorly, PoolFull
from fuseswap.frontswap.cache_statistics import CacheStatistics, take_snapshot
from fuseswap.frontswap.page_encoder import PageEncoder
from fuseswap.store.adoption_end import AdoptionEnd
from fuseswap.store.dictionary_area import Dictionaries
from fuseswap.store.full_pool import FullPool
from fuseswap.store.log_tiers import Tiers
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.memory_usage import MemoryUsage
from fuseswap.store.page_reader import Defer, PageReader, no_reader
from fuseswap.store.segment_entry import Stream
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.segment_owners import SegmentOwners
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import (
    OBJECT,
    SEGMENT_ID_MASK,
    SEGMENT_ID_SHIFT,
    is_object,
    is_same_filled,
    segment_of,
)
from fuseswap.store.superblock import SharedState
from fuseswap.store.tables_ahead import TablesAhead
from fuseswap.units import SEGMENT_SHIFT, PageNumber

_checksum: Final = xxhash.xxh3_64_intdigest


@final
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
        self._encode, self._append = self.encoder.encode, self.log.append
        owners = SegmentOwners(slots, self.log, self.page_count)
        self.owners_of, self.loaded_share = owners.owners_of, owners.loaded_share
        ahead = TablesAhead(slots, self.log, self.dictionaries, self.dedup.index)
        self.keep_ready = ahead.keep_ready
        self.memory_usage = MemoryUsage(state, self.log, ahead.ready_bytes)
        self._head = self.log.heads[Stream.STORE]
        self._raw_head = self.log.heads[Stream.INCOMPRESSIBLE]
        self.largest_kept = MAX_COMPRESSED_BYTES  # bytes; larger pages leave first
        self.full_pool = FullPool(self.log, mixes_streams=not in_place)  # `Device` knows of tiers
        self.fill_words = 0
        self.log.adopt()
        self._adoption_end = AdoptionEnd(self.log)

    def init(self, page_count: int) -> None:
        """Nothing: ``slots`` has all there is to know of an area."""

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
            self.fill_words += len(payload) > 0  # else it is shared
            return word
        large = codec <= LAST_RAW or len(payload) > self.largest_kept
        head = self._raw_head if large else self._head
        check = _checksum(payload, codec) & 0xFFFFFFFF
        try:
            word = self._append(head, page, payload, check, codec)  # crash point: store-append
        except PoolFull:
            head = self.full_pool.find_room(page, len(payload), 0 if replace else old)
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
            self.fill_words -= 1

    def adopt(self, page: PageNumber, word: int) -> bool:
        """Count a word that a former worker left; False for one of no segment."""
        if is_object(word):
            exists = self.log.table.exists(segment_of(word))
            if exists:
                self.log.adopt_word(word)
            return exists
        self.fill_words += is_same_filled(word)
        return is_same_filled(word)

    def finish_adoption(self) -> bool:
        """All words were adopted: free segments without a live one, and so on, step by step."""
        if self._adoption_end.step():
            return False
        self.dedup.get_ready()
        return True

    def invalidate_area(self) -> None:
        """Nothing: the last object of each segment freed it."""

    @property
    def adopting(self) -> bool:
        """Whether what a former worker left is yet to be counted: nothing is freed or cleaned."""
        return not self._adoption_end.is_done

    def tier_of(self, word: int) -> int:
        """1 and the number of the tier that has the object of ``word``, or 0."""
        found = self.log.table.on_tier(segment_of(word)) if is_object(word) else None
        return found[1].tier + 1 if found else 0

    @property
    def stored_pages(self) -> int:
        """Pages whose words name an object or a fill."""
        return sum(self.log.codec_pages) + self.fill_words

    # -- looking at it ---------------------------------------------------------------

    def statistics(self, in_place_pages: int = 0, uncounted_pages: int = 0) -> CacheStatistics:
        """A snapshot; of running counts, so it takes as long however much there is.

        ``in_place_pages``: on the backing file.  ``uncounted_pages``: left by a former worker.
        """
        return take_snapshot(self, in_place_pages, uncounted_pages)

    def close(self) -> None:
        """Release every view of the shared state."""
        self.slots.close()
        self.log.close()
