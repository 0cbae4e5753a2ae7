"""The invariants of the log, checked from the slot table up.

`check_invariants` reads every present slot word and compares all that is derived
with what it finds.  For any state between two operations, and for the state that
a new worker has rebuilt after a crash.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES, REGISTERED
from fuseswap.codecs.dictionary import number_of as dictionary_of
from fuseswap.codecs.registry import CODECS, FILL, LAST_RAW, LZ4, ZSTD, ZSTD_DICTIONARY
from fuseswap.frontswap.cache_statistics import CacheStatistics
from fuseswap.store.object_size import OWNER_BYTES, footprint
from fuseswap.store.segment_entry import Mark, SegmentState, location_in
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.segment_places import place_in
from fuseswap.store.segment_table import WORDS
from fuseswap.store.slot_word import (
    codec_of,
    cookie_of,
    fill_of,
    fill_word,
    foreign_word,
    is_corrupt,
    is_foreign,
    is_object,
    length_of,
    number_of,
    object_word,
    offset_of,
    segment_of,
)
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import (
    PAGE_SIZE,
    SEGMENT_BYTES,
    SEGMENT_SHIFT,
    Location,
    PageNumber,
    SegmentId,
    segment_range,
)
from tests.support.memory_stores import FrontedCache


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What one object word says."""

    page: PageNumber
    segment: SegmentId
    offset: int
    length: int
    codec: int

    @classmethod
    def of(cls, page: int, word: int) -> StoredObject:
        return cls(
            page=PageNumber(page),
            segment=segment_of(word),
            offset=offset_of(word),
            length=length_of(word),
            codec=codec_of(word),
        )

    @property
    def end(self) -> int:
        return self.offset + footprint(self.length) - OWNER_BYTES

    @property
    def place(self) -> tuple[int, int, int]:
        """Offset, length, codec: the same for all pages of one object."""
        return self.offset, self.length, self.codec


@dataclass(slots=True)
class Census:
    """All that the slot table says."""

    stored: int = 0
    same_filled: int = 0
    in_place: int = 0
    incompressible: int = 0
    by_segment: defaultdict[SegmentId, list[StoredObject]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def distinct(self, segment: SegmentId) -> dict[tuple[int, int, int], list[StoredObject]]:
        """Pages of each object of a segment."""
        found = defaultdict(list)
        for page in self.by_segment.get(segment, []):
            found[page.place].append(page)
        return found

    @property
    def object_bytes(self) -> int:
        """Payload bytes, each object once."""
        return sum(length for s in self.by_segment for _, length, _ in self.distinct(s))


def check_invariants(cache: FrontedCache, *, passing: int = 0) -> None:
    """Raise `AssertionError` where anything derived disagrees with the slot table.

    ``passing``: so many segments at most are on their way from tier to tier, each in a frame.
    """
    census = _take_census(cache)
    _check_segments(cache, census)
    for segment, objects in census.by_segment.items():
        _check_objects(cache, segment, objects)
    _check_sharing(cache, census)
    _check_dictionaries(cache, census)
    _check_frames(cache, passing)
    _check_extents(cache)
    _check_eviction_queue(cache)
    _check_gauges(cache, census)


def _take_census(cache: FrontedCache) -> Census:
    """Read the table, checking words and the ``used`` counts on the way."""
    census = Census()
    slots = cache.slots
    codecs = {LZ4, ZSTD, FILL, ZSTD_DICTIONARY, *REGISTERED}
    for first, words in slots.clusters():
        assert slots.used[first // 512] == len(words) - words.count(0), f"used at page {first}"
        for page, word in enumerate(words, first):
            if word:
                _count(census, page, word, codecs)
    assert census.stored == slots.stored_pages
    assert slots.used_clusters() == len(slots.used) - slots.used.count(0)
    assert slots.ready_bytes == slots.allocated_bytes - slots.used_clusters() * PAGE_SIZE
    return census


def _count(census: Census, page: int, word: int, codecs: set[int]) -> None:
    assert not is_corrupt(word), f"page {page}: its word has a wrong check"
    census.stored += 1
    if is_foreign(word):
        whole = foreign_word(number_of(word), cookie_of(word))
        assert word == whole, f"page {page}: bits beside its cookie"
        census.in_place += 1
        return
    if not is_object(word):
        assert word == fill_word(fill_of(word)), f"page {page}: bits beside its fill"
        census.same_filled += 1
        return
    found = StoredObject.of(page, word)
    raw = found.codec <= LAST_RAW
    assert raw or found.codec in codecs, f"page {page}: codec {found.codec}"
    longest = 8 if found.codec == FILL else PAGE_SIZE if raw else MAX_COMPRESSED_BYTES
    assert found.length <= longest, f"page {page}: {found}"
    census.same_filled += found.codec == FILL
    census.incompressible += raw
    census.by_segment[found.segment].append(found)


def _check_segments(cache: FrontedCache, census: Census) -> None:
    """Live counts are the table's, segments in use have just the live objects' ids."""
    log = cache.log
    in_use = set()
    for segment in segment_range(1, len(log.table.live)):
        objects = census.by_segment.get(segment, [])
        assert log.table.live[segment] == len(objects), f"live of segment {segment}"
        distinct = census.distinct(segment)
        live_bytes = sum(footprint(length) for _, length, _ in distinct)
        assert log.table.live_bytes[segment] == live_bytes, f"live bytes of segment {segment}"
        is_free = log.table.state_of(segment) is SegmentState.FREE
        assert is_free == (not objects), f"segment {segment} is {log.table.state_of(segment)!r}"
        in_frame = log.table.state_of(segment) in (SegmentState.OPEN, SegmentState.SEALED)
        frame = location_in(log.table.entries[segment * WORDS])
        assert isinstance(frame, int) == in_frame
        base = frame << SEGMENT_SHIFT if isinstance(frame, int) else -1
        assert log.table.bases[segment] == base, f"base of segment {segment}"
        place = place_in(log.table.entries[segment * WORDS])
        assert log.table.places.kinds[segment] == place, f"place of segment {segment}"
        if not is_free:
            in_use.add(segment)
    assert set(census.by_segment) == in_use
    assert set(log.table.segments()) == in_use
    assert log.table.in_use == len(in_use)
    assert log.live_bytes == sum(log.table.live_bytes)
    opened = {s for s in in_use if log.table.state_of(s) is SegmentState.OPEN}
    assert opened == {head.segment for head in log.heads if head.segment}
    for head in log.heads:
        if head.segment:
            assert (head.tail, head.bound) == log.table.bounds_of(head.segment)
            assert head.base == log.table.bases[head.segment]


def _check_objects(cache: FrontedCache, segment: SegmentId, objects: list[StoredObject]) -> None:
    """Within the tail, apart from each other, and known to the directory."""
    tail, bound = cache.log.table.bounds_of(segment)
    assert 0 < tail <= bound < SEGMENT_BYTES, f"segment {segment}: tail {tail}, bound {bound}"
    end = 0
    for found in sorted({o.place: o for o in objects}.values(), key=lambda o: o.offset):
        assert found.offset >= end, f"{found} overlaps the object before it"
        end = found.end
    assert end <= tail, f"segment {segment}: an object ends at {end}, the tail is {tail}"
    if cache.log.table.bases[segment] < 0:
        return
    owners = list(cache.log.owners(segment))
    assert len(owners) * OWNER_BYTES == SEGMENT_BYTES - bound
    known = {o.page for o in objects} <= set(owners)
    assert known or cache.log.table.is_marked(segment, Mark.SHARED), (
        f"segment {segment}: owner missing"
    )


def _check_sharing(cache: FrontedCache, census: Census) -> None:
    """References are the table's, in the segments that say so, and the sums are theirs."""
    log = cache.log
    pages = saved = 0
    for segment in segment_range(1, len(log.table.live)):
        extra = 0
        for (offset, length, _), found in census.distinct(segment).items():
            word = object_word(segment, offset, 1, 0)
            assert log.references.count(word) == len(found) - 1, f"references of {found}"
            extra += len(found) - 1
            saved += (len(found) - 1) * length
        assert log.table.extra[segment] == extra, f"extra references of segment {segment}"
        assert not extra or log.table.is_marked(segment, Mark.SHARED)
        pages += extra
    assert (log.duplicate_pages, log.duplicate_bytes) == (pages, saved)
    pages_of, bytes_of = [0] * CODECS, [0] * CODECS
    for segment in census.by_segment:
        for (_, length, codec), found in census.distinct(segment).items():
            pages_of[codec] += len(found)
            bytes_of[codec] += length
    assert (list(log.codec_pages), log.codec_bytes) == (pages_of, bytes_of)


def _check_dictionaries(cache: FrontedCache, census: Census) -> None:
    """No dictionary has more pages than are counted, and each that has some is there."""
    log, use = cache.log, cache.log.dictionary_use
    there = {one.number for one in cache.dictionaries.all}
    pages: Counter[int] = Counter()
    needing: set[int] = set()
    for segment, objects in census.by_segment.items():
        words = [cache.slots.get(o.page) for o in objects if o.codec == ZSTD_DICTIONARY]
        counted = use.of(segment)
        assert use.pages_in(segment) == len(words), f"segment {segment}: pages with a dictionary"
        if words:
            needing.add(segment)
        assert max(counted.values(), default=0) <= len(words) <= sum(counted.values())
        pages.update(counted)
        if log.table.bases[segment] >= 0:
            needed = Counter(dictionary_of(log.stored(word)[CHECK_BYTES:]) for word in words)
            assert needed <= Counter(counted), f"segment {segment}: {needed}, counted {counted}"
            assert needed.keys() <= there
    assert set(use.segments()) == needing
    assert {number: count for number, count in enumerate(use.pages) if count} == pages


def _check_frames(cache: FrontedCache, passing: int) -> None:
    """One frame a segment; memory held is memory taken, and no more than allowed."""
    log = cache.log
    frames = log.frames
    in_frames = [segment for segment, base in enumerate(log.table.bases) if base >= 0]
    bases = [log.table.bases[segment] for segment in in_frames]
    assert len(set(bases)) == len(bases)
    assert len(bases) <= frames.in_use <= len(bases) + passing
    assert log.live_in_frames == sum(log.table.live_bytes[segment] for segment in in_frames)
    dead, held = log.dead_bytes()
    assert 0 <= dead <= held == frames.in_use * SEGMENT_BYTES
    assert frames.exhausted == (frames.available == 0)
    assert all(base % SEGMENT_BYTES == 0 for base in bases)
    assert all(base >> SEGMENT_SHIFT < frames.frame_count for base in bases)
    assert frames.held == frames.in_use + frames.warm
    assert frames.held <= max(frames.limit, frames.in_use)
    if frames.in_use > frames.limit:
        assert frames.warm == 0, "free frames are kept above the limit"


def _check_extents(cache: FrontedCache) -> None:
    """One extent a segment on the tier; any other in use is being written to."""
    log = cache.log
    on_tier = [s for s in log.table.segments() if log.table.state_of(s) is SegmentState.ON_TIER]
    places = {log.table.location_of(segment) for segment in on_tier}
    assert len(places) == len(on_tier)
    assert log.table.in_use == sum(base >= 0 for base in log.table.bases) + len(on_tier)
    if not isinstance(log.tiers, TierTable):
        return
    for entry in log.tiers:
        found = [p.extent for p in places if isinstance(p, Location) and p.tier == entry.number]
        extents = entry.extents
        assert len(found) <= extents.in_use
        assert entry.pages == sum(
            log.table.live[s] for s in on_tier if _tier_of(log, s) == entry.number
        )
        if entry.tier is not None:
            assert all(extent < extents.extent_count for extent in found)
            assert extents.available == extents.extent_count - extents.in_use
    assert {p.tier for p in places if isinstance(p, Location)} <= {e.number for e in log.tiers}


def _tier_of(log: SegmentLog, segment: SegmentId) -> int | None:
    where = log.table.location_of(segment)
    return where.tier if isinstance(where, Location) else None


def _check_eviction_queue(cache: FrontedCache) -> None:
    """Nobody stands in line twice, or who has no frame."""
    log, queue = cache.log, cache.log.eviction_queue
    first, second = queue._lines
    assert first.keys().isdisjoint(second), "in two lines"
    assert first.keys() >= queue._gathered.keys()
    assert all(log.table.live[s] and log.table.bases[s] >= 0 for s in (*first, *second)), (
        "dead, and in line"
    )


def _check_gauges(cache: FrontedCache, census: Census) -> None:
    now = cache.statistics()
    assert cache.foreign_pages == census.in_place
    assert now.stored_pages == census.stored
    assert now.same_filled_pages == census.same_filled
    assert now.incompressible_pages == census.incompressible
    assert now.orig_data_size == census.stored * PAGE_SIZE
    assert now.compr_data_size == census.object_bytes
    assert now.segments == len(census.by_segment)
    assert now.pool_total_size == cache.log.frames.used * SEGMENT_BYTES
    _check_account(cache, now, census)


def _check_account(cache: FrontedCache, now: CacheStatistics, census: Census) -> None:
    """By codec, what was saved, and the ledger: all of it to the byte."""
    fills = sum(
        length for s in census.by_segment for _, length, c in census.distinct(s) if c == FILL
    )
    by_codec = (now.raw_pages, now.lz4_pages, now.zstd_pages, now.zstd_dictionary_pages)
    others, others_bytes = (
        sum(counts[number] for number in REGISTERED)
        for counts in (cache.log.codec_pages, cache.log.codec_bytes)
    )
    assert sum(by_codec) + others + now.same_filled_pages + census.in_place == now.stored_pages
    assert (
        now.raw_bytes + now.lz4_bytes + now.zstd_bytes + now.zstd_dictionary_bytes + fills
        == now.compr_data_size - others_bytes
    )
    assert now.raw_bytes <= now.raw_pages * PAGE_SIZE
    saved = now.duplicate_bytes_saved
    saved += now.same_filled_bytes_saved + now.payload_bytes_saved + now.writeback_bytes_saved
    taken = now.orig_data_size - saved + now.metadata_bytes + now.pool_unused_bytes
    assert taken == now.mem_used_total
    assert min(saved, now.pool_unused_bytes, now.writeback_bytes_saved) >= 0
    assert now.mem_used_max >= now.mem_used_total
    log = cache.log
    marked = [s for s in log.table.segments() if log.table.is_marked(s, Mark.TRIED)]
    assert now.tried_segments == len(marked)
