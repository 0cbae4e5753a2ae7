"""The compressed cache: store, load and invalidate of single pages.

What a page becomes is decided in ``encoding.py``, and ``loading.py`` has what a slot word
leads to; here is what changes.

Owns the slot table and the segment log; only it, cleaner and merger write slot words.
A frontswap backend (see ``frontswap.py`` for the contract).  Called from the one
thread of the worker; nothing here waits, so every call is a critical section.

A store compresses first, which touches nothing, and looks whether there is room.  Then,
in the order that makes a crash at any line harmless:

    1. the old word becomes 0       the old version is out of reach, its object dead
    2. the object is appended       dead space until ...
    3. the new word is written      ... here: the commit

A page whose contents are stored already (``dedup.py``) has no step 2: it is counted as one more
page of that object before step 1, since its own old object may be the one that has them.

With ``replace`` (a partial write, whose resend after a crash needs the old bytes)
step 1 is left out and step 3 swaps one version for the other in a single write.
A refused store ends in a hole in both cases: never stale.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from fuseswap.cache.checks import Decoder
from fuseswap.cache.codecs import LAST_RAW, LZ4, RAW
from fuseswap.cache.dedup import Dedup
from fuseswap.cache.dictionaries import Dictionaries
from fuseswap.cache.encoding import PageEncoder
from fuseswap.cache.feeder import AtOnce, Feeder
from fuseswap.cache.footprint import Footprint
from fuseswap.cache.loading import Defer, PageReader, no_reader
from fuseswap.cache.log_head import LogHead
from fuseswap.cache.recovery import Adoption, Recovered
from fuseswap.cache.segment_kinds import Mark, Stream
from fuseswap.cache.segments import OBJECT_OVERHEAD, SegmentLog
from fuseswap.cache.slot_word import (
    in_place_word,
    is_corrupt,
    is_in_place,
    is_loaded,
    is_object,
    is_object_of,
    is_same_filled,
    segment_of,
)
from fuseswap.cache.slots import CLUSTER_SHIFT, UNCOUNTED, SlotTable
from fuseswap.cache.snapshot import CacheStatistics, take_snapshot
from fuseswap.cache.state import SEGMENT_SHIFT, SharedState
from fuseswap.counting import counter, zeros
from fuseswap.errors import CompressesPoorly, NoMemory, NoRoom, PoolFull
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

_ALL = 1 << 32
_ASKED_PAGES = 64  # for the share of those that were loaded: 8 us; within 6 % or so

_checksum = xxhash.xxh3_64_intdigest


@dataclass(slots=True)
class StoreCounters:
    """What stores find; ``snapshot.py`` has what they leave behind."""

    pool_limit_hit: int = counter(
        "Stores that found the pool at its limit; they waited for room, or were refused.",
        like="zswap",
        after="invalidates",
    )
    reject_alloc_fail: int = counter(
        "Stores refused because the system had no memory for another segment.",
        like="zswap",
    )
    reserve_empty: int = counter(
        "Tries of stores that found no segment ready below the limit: they wait for memory."
    )
    reserve_refused: int = counter("Stores refused because it did not come in time.")
    duplicate_entry: int = counter(
        "Stores to a page that was stored already; the old version went first.",
        like="zswap",
    )


class CompressedCache:
    """A frontswap backend that keeps pages compressed in memory."""

    name = "compressed_cache"

    def __init__(
        self,
        state: SharedState,
        compressor: str = "lz4",
        *,
        in_place: bool = False,
        lazy: bool = False,
        feeder: Feeder | None = None,
        ready_frames: int = 0,
        defer: Defer = no_reader,
        on_full: Callable[[], bool] | None = None,
        extent_count: int | None = None,
    ) -> None:
        """Attach to ``state``, fresh or left by a former process, and rebuild what is derived.

        ``lazy``: the caller calls `adopt_some` until it is done; loads and stores need not wait.
        ``in_place``: the next backend keeps pages in their places, with words in this table.
        ``feeder`` makes memory ahead of need, and keeps ``ready_frames``; without one it is made
        on the spot.  ``defer`` says how a page on a tier is read.
        ``on_full``: should a store wait that finds the pool full?  ``extent_count``: of the tier.
        """
        feeder = feeder or AtOnce()
        self.page_count = state.geometry.page_count
        self.slots = SlotTable(state.slots, self.page_count, feeder)
        self._words, self._used = self.slots.words, self.slots.used  # hot: one look-up less
        self.log = SegmentLog(state, feeder, ready_frames, extent_count)
        self.decoder = Decoder()
        self.dictionaries = Dictionaries(state.dictionaries, self.decoder.learn, feeder)
        self.reader = PageReader(
            self.slots, self.log, state.arena.map, self.decoder, defer, in_place=in_place
        )
        self.load = self.reader.load
        self.dedup = Dedup(state.index, self.log.codec_pages, feeder)
        self.encoder = PageEncoder(self.slots, self.log, self.reader, self.dedup, compressor)
        self._encode = self.encoder.encode
        self._in_place = in_place
        self.footprint = Footprint(state, self.log, self._ready_table_bytes)
        self._head = self.log.heads[Stream.STORE]
        self._raw_head = self.log.heads[Stream.INCOMPRESSIBLE]
        self.on_full = on_full
        # Where nothing leaves, it does not matter which objects stand together.
        self.mixes_streams = not in_place and extent_count is None
        self._mixed_bytes = 0
        self._fill_words = 0
        self.in_place_pages = 0
        self.counters = zeros(StoreCounters)
        self._adoption = Adoption(self.slots, self.log, in_place=in_place)
        self.adopting = True  # the clusters of the slot table are not all counted yet
        while not lazy and self.adopt_some(_ALL):
            pass

    def adopt_some(self, clusters: int = 4) -> bool:
        """Count some more of what a former process left, 0.15 ms a cluster; False: all is."""
        if self.adopting:
            self.adopting = self._adoption.step(clusters)
            self._take_counts()
            if not self.adopting:
                self.dedup.start(ready=True, duplicates=self.log.duplicate_pages)
        return self.adopting

    def _count_first(self, first: int, count: int = 1) -> None:
        """Count the clusters of pages that are about to be changed."""
        for cluster in range(first >> CLUSTER_SHIFT, (first + count - 1 >> CLUSTER_SHIFT) + 1):
            self._adoption.count(cluster)
        self._take_counts()

    def _take_counts(self) -> None:
        found, self._adoption.found = self._adoption.found, Recovered()
        self._fill_words += found.fill_words
        self.in_place_pages += found.in_place_pages
        if found.corrupt_words:
            log.error("%d slot words are corrupt; their pages give EIO", found.corrupt_words)

    def keep_ready(self) -> None:
        """Have the feeder make what stores will need next; see ``feeder.py``."""
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

    # -- the frontswap operations ----------------------------------------------------

    def store(  # noqa: C901  the hot path stays in one piece: each call costs 60 ns
        self, page: int, data: bytes | memoryview, replace: bool = False
    ) -> None:
        """Keep ``data`` (4096 bytes) for ``page``.

        Raises `PoolFull` or another `StoreRefused` and leaves a hole; or `NoRoom`, where
        `on_full` says that waiting will help, having changed nothing (or dropped the old
        version, whose going closed the open segment).
        """
        slots, log, words = self.slots, self.log, self._words
        if self.adopting:
            self._count_first(page)
        old = words[page] if self._used[page >> CLUSTER_SHIFT] else 0
        try:
            word, payload, codec = self._encode(page, data, old)
        except Exception as exc:  # refused, or no memory to compress in: a hole, never stale
            if not (replace and isinstance(exc, CompressesPoorly)):
                self.invalidate_page(page)
                raise
            word, payload, codec = 0, bytes(data), RAW  # nobody else takes a part of a page
        head = self._head if codec > LAST_RAW else self._raw_head
        hopeless = False
        if log.frames.exhausted and not word and not log.fits(head, len(payload)):
            other = self._other_head(len(payload))
            if other is None:
                self._note_full(page)
                hopeless = True
            else:
                head = other
                self._mixed_bytes += (head.stream is Stream.SURVIVORS) * (
                    len(payload) + OBJECT_OVERHEAD
                )
        if old:
            self.counters.duplicate_entry += 1
            if old.bit_count() & 1:
                slots.recount(page >> CLUSTER_SHIFT)
            if not replace:
                words[page] = 0  # crash point: store-clear
                self._forget(old)  # crash point: store-forget
        elif not self._used[page >> CLUSTER_SHIFT]:
            try:
                slots.allocate(page)  # crash point: store-allocate
            except (PoolFull, NoMemory):
                self.encoder.forget_share(word, payload)
                raise
        if not word:
            try:
                check = _checksum(payload, codec) & 0xFFFFFFFF
                word = log.append(head, page, payload, check, codec)  # crash point: store-append
            except PoolFull:
                self._refuse(page, old if replace else 0, was_stored=bool(old))
                # The old version was the last in the open segment.  With frames left there is no
                # memory: no room helps, and a part of a page may not be tried on a hole.
                if not (hopeless or replace) and log.frames.exhausted:
                    self._note_full(page)
                raise
            if codec < LZ4:
                self.encoder.count_raw(codec)
        elif payload:
            self._fill_words += 1
        words[page] = word  # crash point: store-commit
        if not old:
            self._used[page >> CLUSTER_SHIFT] += 1  # crash point: store-count
        elif replace:
            self._forget(old)  # crash point: replace-forget

    def invalidate_page(self, page: int) -> bool:
        """Forget ``page``; returns whether it was stored."""
        if self.adopting:
            self._count_first(page)
        word = self.slots.get(page)
        if not word:
            return False
        self.slots.clear(page)
        self._forget(word)  # crash point: discard-forget
        return True

    def invalidate_area(self, first: int, count: int) -> int:
        """Forget ``count`` pages from ``first``; returns how many were stored."""
        if self.adopting and count:
            self._count_first(first, count)
        forgotten = 0
        for words in self.slots.clear_area(first, min(first + count, self.page_count)):
            for word in filter(None, words):
                self._forget(word)  # crash point: discard-area-forget
                forgotten += 1
        return forgotten

    def owners_of(self, segment: int, first: int = 0, stored: bytes = b"") -> tuple[list[int], int]:
        """Pages that may have an object in a segment, in order, and where to go on.

        A bounded piece; all have been given where the second is `page_count`.  ``stored``: the
        1 MiB of a segment that is on a tier.
        """
        if self.log.table.is_marked(segment, Mark.SHARED):
            return self.slots.sweep(segment, first)
        owners = self.log.owners(segment, stored)
        pages = {page for page in owners if page < self.page_count}
        return sorted(pages), self.page_count

    def set_in_place(self, page: int, check: int) -> None:
        """The bytes of ``page``, of which ``check`` is the checksum, are at their own place now.

        The commit of an eviction or of a store; raises `PoolFull` where a cluster is missing.
        """
        if self.adopting:
            self._count_first(page)
        old = self.slots.get(page)
        if not old and not self._used[page >> CLUSTER_SHIFT]:
            self.slots.allocate(page)  # crash point: place-allocate
        self.slots.commit(page, in_place_word(check))  # crash point: place-commit
        self.in_place_pages += 1  # crash point: place-count
        if old:
            self._forget(old)  # crash point: place-forget

    def loaded_share(self, segment: int) -> float:
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

    def _other_head(self, length: int) -> LogHead | None:
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

    def _note_full(self, page: int) -> None:
        """The pool is full.  Raises `NoRoom` where waiting helps; else the store may try.

        Or, below the limit, `NoMemory`: the reserve is used up.
        """
        if self.log.frames.is_short:
            self.counters.reserve_empty += 1
            raise NoMemory(f"no frame is ready for page {page}")
        self.counters.pool_limit_hit += 1
        if self.on_full is not None and self.on_full():
            raise NoRoom(f"no room for page {page} yet")

    def _refuse(self, page: int, old: int, *, was_stored: bool) -> None:
        """Leave a hole, whatever was there; ``old`` is its word where not forgotten yet."""
        if was_stored:
            self.slots.words[page] = 0  # crash point: refuse-clear
            self.slots.retire(page)
        elif not self._in_place:  # else the next backend's word comes there
            self.slots.release_unused(page)
        if old:
            self._forget(old)
        if not self.log.frames.exhausted:
            self.counters.reject_alloc_fail += 1

    def _forget(self, word: int) -> None:
        """The object or fill of ``word`` has lost its page; a corrupt word has none."""
        if is_corrupt(word):
            return
        if is_object(word):
            if self.log.table.is_live(segment_of(word)):
                self.log.release(word)
        elif is_same_filled(word):
            self._fill_words -= 1
        elif is_in_place(word):
            self.in_place_pages -= 1

    def _ready_table_bytes(self) -> int:
        """Memory of the tables that a feeder made ahead of need."""
        tables = self.slots.ready_bytes + self.log.table.ready_bytes + self.dedup.index.ready_bytes
        return tables + self.dictionaries.ready_bytes

    # -- looking at it ---------------------------------------------------------------

    def statistics(self) -> CacheStatistics:
        """A snapshot; sums over clusters and segments, not for the hot path."""
        return take_snapshot(
            self.log,
            self.dedup,
            self.footprint,
            stored_pages=self.slots.stored_pages,
            uncounted_pages=self._used.count(UNCOUNTED) << CLUSTER_SHIFT if self.adopting else 0,
            fill_words=self._fill_words,
            in_place_pages=self.in_place_pages,
            mixed_bytes=self._mixed_bytes,
        )

    def close(self) -> None:
        """Release every view of the shared state."""
        self.slots.close()
        self.log.close()
