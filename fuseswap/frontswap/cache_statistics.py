"""A snapshot of what the cache holds, as levels; what happens is counted where it happens.

Derived from the slot table and the log when it is asked for, never kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fuseswap.codecs.registry import FILL, LAST_RAW, LZ4, RAW, ZSTD, ZSTD_DICTIONARY
from fuseswap.core.modules import is_compiled
from fuseswap.counting import counter, gauge
from fuseswap.dedup.policy import Dedup, Mode
from fuseswap.store.full_pool import FullPool
from fuseswap.store.memory_usage import MemoryUsage
from fuseswap.store.segment_entry import Stream
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.units import PAGE_SIZE, SEGMENT_SHIFT


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """One moment of the cache.  Names as in zswap and zram where they have one."""

    pool_limit_bytes: int  # a parameter
    payload_bytes_saved: int  # `Balance` shares it out between two statistics
    stored_pages: int = gauge("pages", "Pages held, same-filled ones among them.", like="zswap")
    uncounted_pages: int = gauge(
        "pages",
        "At most so many pages a new worker has yet to count; other gauges leave them out.",
    )
    same_filled_pages: int = gauge(
        "pages",
        "Pages of one repeated 8-byte word; they take a slot word and nothing else.",
        like="zswap",
    )
    incompressible_pages: int = gauge(
        "pages",
        "Pages kept raw because compressing would have saved less than 3 %.",
        name="stored_incompressible_pages",
        like="zswap",
    )
    orig_data_size: int = gauge(
        "bytes", "What the stored pages would take uncompressed.", like="zram"
    )
    compr_data_size: int = gauge(
        "bytes", "What they take compressed, without any overhead.", like="zram"
    )
    mem_used_total: int = gauge(
        "bytes",
        "All memory that grows with what is stored: segments, tables, dictionaries, index.",
        like="zram",
    )
    mem_used_max: int = gauge(
        "bytes", "The most mem_used_total ever was while the device is up.", like="zram"
    )
    pool_total_size: int = gauge(
        "bytes",
        "Memory of the arena: segments in use, and free ones kept beyond the reserve.",
        like="zswap",
    )
    duplicate_pages: int = gauge(
        "pages", "Pages that share the object of another page with the same contents."
    )
    duplicate_bytes_saved: int = gauge(
        "bytes", "What these would take, compressed, if each had an object of its own."
    )
    dedup_active: int = gauge(
        "1 or 0", "Whether every page is looked up (1), or a sample, or none (0)."
    )
    dedup_index_bytes: int = gauge(
        "bytes", "Memory of the index of contents and of the counts of shared objects."
    )
    metadata_bytes: int = gauge(
        "bytes",
        "Slot and segment table, dictionaries, index; owner, checksum and padding of objects.",
    )
    pool_unused_bytes: int = gauge(
        "bytes", "Memory of the arena without living data: dead, not filled yet, or free."
    )
    same_filled_bytes_saved: int = gauge(
        "bytes", "What same-filled pages would take uncompressed, less what they take."
    )
    writeback_bytes_saved: int = gauge("bytes", "What living data elsewhere would take in memory.")
    raw_pages: int = gauge(
        "pages", "Pages kept as they are: stored_incompressible_pages, huge_pages in zram."
    )
    raw_bytes: int = gauge("bytes", "What they take.")
    lz4_pages: int = gauge("pages", "Pages compressed with lz4.")
    lz4_bytes: int = gauge("bytes", "What they take compressed.")
    zstd_pages: int = gauge("pages", "Pages compressed with zstd without a dictionary.")
    zstd_bytes: int = gauge("bytes", "What they take compressed.")
    zstd_dictionary_pages: int = gauge("pages", "Pages compressed with zstd and a dictionary.")
    zstd_dictionary_bytes: int = gauge("bytes", "What they take compressed.")
    tried_segments: int = gauge(
        "segments",
        "Segments in which recompressing was tried and gained nothing; they are left alone.",
    )
    segments: int = gauge("segments", "Segments of 1 MiB in use.")
    core_compiled: int = gauge(
        "1 or 0", "Whether the modules that a page passes through are compiled."
    )
    appended_bytes: int = counter(
        "Bytes that stores added to segments, 8 to 15 for each object among them."
    )


class Counted(Protocol):
    """What the cache is made of, and what it counts: `fill_words` name no object."""

    log: SegmentLog
    slots: SlotTable
    dedup: Dedup
    memory_usage: MemoryUsage
    full_pool: FullPool
    fill_words: int


def take_snapshot(cache: Counted, in_place_pages: int, uncounted_pages: int) -> CacheStatistics:
    """What there is now."""
    log, dedup, memory_usage = cache.log, cache.dedup, cache.memory_usage
    stored_pages, fill_words = cache.slots.stored_pages, cache.fill_words
    pages, sizes = log.codec_pages, log.codec_bytes
    raw_pages, raw_bytes = sum(pages[:LZ4]), sum(sizes[:LZ4])
    same_filled = fill_words + pages[FILL]
    words, live_bytes = sum(pages), log.live_bytes
    pool, tables = memory_usage.pool_bytes, memory_usage.table_bytes
    own = (log.heads[stream] for stream in (Stream.STORE, Stream.INCOMPRESSIBLE))
    return CacheStatistics(
        stored_pages=stored_pages,
        uncounted_pages=uncounted_pages,
        same_filled_pages=same_filled,
        incompressible_pages=raw_pages,
        orig_data_size=stored_pages * PAGE_SIZE,
        compr_data_size=sum(sizes),
        mem_used_total=pool + tables,
        mem_used_max=memory_usage.note_peak(),
        pool_total_size=pool,
        duplicate_pages=log.duplicate_pages,
        duplicate_bytes_saved=log.duplicate_bytes,
        dedup_active=int(dedup.mode == Mode.ON),
        dedup_index_bytes=dedup.index.allocated_bytes + log.references.allocated_bytes,
        metadata_bytes=tables + live_bytes - sum(sizes),
        pool_unused_bytes=pool - log.live_in_frames,
        same_filled_bytes_saved=same_filled * PAGE_SIZE - sizes[FILL],
        writeback_bytes_saved=live_bytes - log.live_in_frames + in_place_pages * PAGE_SIZE,
        raw_pages=raw_pages,
        raw_bytes=raw_bytes,
        lz4_pages=pages[LZ4],
        lz4_bytes=sizes[LZ4],
        zstd_pages=pages[ZSTD],
        zstd_bytes=sizes[ZSTD],
        zstd_dictionary_pages=pages[ZSTD_DICTIONARY],
        zstd_dictionary_bytes=sizes[ZSTD_DICTIONARY],
        tried_segments=log.table.tried_segments,
        segments=log.table.in_use,
        core_compiled=int(is_compiled()),
        appended_bytes=sum(head.appended_bytes for head in own) + cache.full_pool.mixed_bytes,
        pool_limit_bytes=log.frames.limit << SEGMENT_SHIFT,
        payload_bytes_saved=(words - pages[FILL]) * PAGE_SIZE
        - (sum(sizes) - sizes[FILL])
        - log.duplicate_bytes,
    )


@dataclass(frozen=True, slots=True)
class CodecStatistics:
    """One moment of one codec."""

    codec: str
    codec_pages: int = gauge(
        "pages",
        "Pages of each codec; `fill`: same-filled, and the word fits in no slot word.",
        labels=("codec",),
    )
    codec_bytes: int = gauge(
        "bytes", "What the pages of each codec take compressed.", labels=("codec",)
    )


def by_codec(
    labels: Mapping[int, str], pages: Sequence[int], sizes: Sequence[int]
) -> list[CodecStatistics]:
    """All codecs of ``labels``; these, ``pages``, and ``sizes`` in bytes, are by their number."""
    found = []
    for number, label in labels.items():
        end = LAST_RAW + 1 if number == RAW else number + 1
        found.append(CodecStatistics(label, sum(pages[number:end]), sum(sizes[number:end])))
    return found
