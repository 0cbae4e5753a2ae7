"""Statistics: one declarative table.

It makes the files in ``stats/``, the OpenMetrics text, ``fuseswap status --json``
and the reference in ``docs/statistics.md``.  To add one, add a row.  Names are
those of zswap, zram and frontswap where these have one; ``like`` says whose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from fuseswap.device import DeviceStatistics


class Kind(Enum):
    """A counter only grows (until the worker restarts); a gauge is a level."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number and where it is read."""

    name: str
    kind: Kind
    unit: str
    like: str
    help: str
    read: Callable[[DeviceStatistics], int]


def _gauge(
    name: str, unit: str, like: str, help_: str, read: Callable[[DeviceStatistics], int]
) -> Statistic:
    return Statistic(name, Kind.GAUGE, unit, like, help_, read)


def _counter(
    name: str, like: str, help_: str, read: Callable[[DeviceStatistics], int]
) -> Statistic:
    return Statistic(name, Kind.COUNTER, "", like, help_, read)


def _write_amplification_percent(now: DeviceStatistics) -> int:
    """100: the cleaner copied nothing."""
    stored = now.cache.appended_bytes
    return (stored + now.cleaner.bytes_copied) * 100 // stored if stored else 0


def _recompression_bytes_saved(now: DeviceStatistics) -> int:
    """Estimated: what this worker recompressed and may still live, at its ratio so far."""
    before, after = now.cleaner.recompressed_bytes_before, now.cleaner.recompressed_bytes_after
    living = min(now.cache.zstd_bytes + now.cache.zstd_dictionary_bytes, after)
    return living * (before - after) // after if after else 0


def _compression_bytes_saved(now: DeviceStatistics) -> int:
    """The two together are exact."""
    return now.cache.payload_bytes_saved - _recompression_bytes_saved(now)


STATISTICS: tuple[Statistic, ...] = (
    _gauge(
        "stored_pages", "pages", "zswap",
        "Pages held, same-filled ones among them.",
        lambda s: s.cache.stored_pages,
    ),
    _gauge(
        "uncounted_pages", "pages", "",
        "At most so many pages a new worker has yet to count; other gauges leave them out.",
        lambda s: s.cache.uncounted_pages,
    ),
    _gauge(
        "same_filled_pages", "pages", "zswap",
        "Pages of one repeated 8-byte word; they take a slot word and nothing else.",
        lambda s: s.cache.same_filled_pages,
    ),
    _gauge(
        "stored_incompressible_pages", "pages", "zswap",
        "Pages kept raw because compressing would have saved less than 3 %.",
        lambda s: s.cache.incompressible_pages,
    ),
    _gauge(
        "orig_data_size", "bytes", "zram",
        "What the stored pages would take uncompressed.",
        lambda s: s.cache.orig_data_size,
    ),
    _gauge(
        "compr_data_size", "bytes", "zram",
        "What they take compressed, without any overhead.",
        lambda s: s.cache.compr_data_size,
    ),
    _gauge(
        "mem_used_total", "bytes", "zram",
        "All memory that grows with what is stored: segments, tables, dictionaries, index.",
        lambda s: s.cache.mem_used_total,
    ),
    _gauge(
        "mem_used_max", "bytes", "zram",
        "The most mem_used_total ever was while the device is up.",
        lambda s: s.cache.mem_used_max,
    ),
    _gauge(
        "mem_fixed", "bytes", "",
        "Memory of worker, supervisor and standby themselves, and frames always kept ready.",
        lambda s: s.mem_fixed(),
    ),
    _gauge(
        "mem_standby", "bytes", "",
        "Memory of the standby alone; mem_fixed has it too.",
        lambda s: s.mem_standby(),
    ),
    _gauge(
        "reserve_bytes", "bytes", "",
        "Free segments whose memory is there, so that no store waits for the system's.",
        lambda s: s.memory.reserve_bytes,
    ),
    _gauge(
        "mem_worker", "bytes", "",
        "The worker's own memory: heap and stacks (RssAnon), all of it locked.",
        lambda s: s.mem_worker(),
    ),
    _gauge(
        "mem_worker_bound", "bytes", "",
        "The most mem_worker may be with what is stored; above it the worker leaks.",
        lambda s: s.mem_worker_bound(),
    ),
    _gauge(
        "pool_total_size", "bytes", "zswap",
        "Memory of the arena: segments in use, and free ones kept beyond the reserve.",
        lambda s: s.cache.pool_total_size,
    ),
    _gauge(
        "duplicate_pages", "pages", "",
        "Pages that share the object of another page with the same contents.",
        lambda s: s.cache.duplicate_pages,
    ),
    _gauge(
        "duplicate_bytes_saved", "bytes", "",
        "What these would take, compressed, if each had an object of its own.",
        lambda s: s.cache.duplicate_bytes_saved,
    ),
    _gauge(
        "dedup_active", "1 or 0", "",
        "Whether every page is looked up (1), or a sample, or none (0).",
        lambda s: s.cache.dedup_active,
    ),
    _gauge(
        "dedup_index_bytes", "bytes", "",
        "Memory of the index of contents and of the counts of shared objects.",
        lambda s: s.cache.dedup_index_bytes,
    ),
    _gauge(
        "dedup_unswept_pages", "pages", "",
        "At most so many pages a sweep for duplicates has yet to look at; 0 where there is none.",
        lambda s: s.dedup_unswept_pages,
    ),
    _gauge(
        "metadata_bytes", "bytes", "",
        "Slot and segment table, dictionaries, index; owner and checksum of each object.",
        lambda s: s.cache.metadata_bytes,
    ),
    _gauge(
        "pool_unused_bytes", "bytes", "",
        "Memory of the arena without living data: dead, not filled yet, or free.",
        lambda s: s.cache.pool_unused_bytes,
    ),
    _gauge(
        "same_filled_bytes_saved", "bytes", "",
        "What same-filled pages would take uncompressed, less what they take.",
        lambda s: s.cache.same_filled_bytes_saved,
    ),
    _gauge(
        "compression_bytes_saved", "bytes", "",
        "What all other pages save by being compressed.",
        _compression_bytes_saved,
    ),
    _gauge(
        "recompression_bytes_saved", "bytes", "",
        "What compressing again, harder, saved on top of that; estimated.",
        _recompression_bytes_saved,
    ),
    _gauge(
        "writeback_bytes_saved", "bytes", "",
        "What living data on the backing file would take in memory.",
        lambda s: s.cache.writeback_bytes_saved,
    ),
    _gauge(
        "raw_pages", "pages", "",
        "Pages kept as they are: stored_incompressible_pages, huge_pages in zram.",
        lambda s: s.cache.raw_pages,
    ),
    _gauge(
        "raw_bytes", "bytes", "",
        "What they take.",
        lambda s: s.cache.raw_bytes,
    ),
    _gauge(
        "lz4_pages", "pages", "",
        "Pages compressed with lz4.",
        lambda s: s.cache.lz4_pages,
    ),
    _gauge(
        "lz4_bytes", "bytes", "",
        "What they take compressed.",
        lambda s: s.cache.lz4_bytes,
    ),
    _gauge(
        "zstd_pages", "pages", "",
        "Pages compressed with zstd without a dictionary.",
        lambda s: s.cache.zstd_pages,
    ),
    _gauge(
        "zstd_bytes", "bytes", "",
        "What they take compressed.",
        lambda s: s.cache.zstd_bytes,
    ),
    _gauge(
        "zstd_dictionary_pages", "pages", "",
        "Pages compressed with zstd and a dictionary.",
        lambda s: s.cache.zstd_dictionary_pages,
    ),
    _gauge(
        "zstd_dictionary_bytes", "bytes", "",
        "What they take compressed.",
        lambda s: s.cache.zstd_dictionary_bytes,
    ),
    _gauge(
        "tried_segments", "segments", "",
        "Segments in which recompressing was tried and gained nothing; they are left alone.",
        lambda s: s.cache.tried_segments,
    ),
    _gauge(
        "segments", "segments", "",
        "Segments of 1 MiB in use.",
        lambda s: s.cache.segments,
    ),
    _counter(
        "loads", "frontswap",
        "Pages asked for and found in memory, holes among them.",
        lambda s: s.frontswap.loads,
    ),
    _counter(
        "tier_ra", "",
        "Windows of 128 KiB read ahead from the backing file (as swap_ra of /proc/vmstat).",
        lambda s: s.writeback.tier_ra,
    ),
    _counter(
        "tier_ra_hit", "",
        "Reads of the backing file that such a window answered.",
        lambda s: s.writeback.tier_ra_hit,
    ),
    _counter(
        "tier_loads", "",
        "Pages asked for and read from the backing file.",
        lambda s: s.tier_loads,
    ),
    _counter(
        "succ_stores", "frontswap",
        "Pages taken.",
        lambda s: s.frontswap.succ_stores,
    ),
    _counter(
        "failed_stores", "frontswap",
        "Pages no backend took; the kernel kept them.",
        lambda s: s.frontswap.failed_stores,
    ),
    _counter(
        "invalidates", "frontswap",
        "Stored pages the kernel freed.",
        lambda s: s.frontswap.invalidates,
    ),
    _counter(
        "pool_limit_hit", "zswap",
        "Stores that found the pool at its limit; they waited for room, or were refused.",
        lambda s: s.cache.pool_limit_hit,
    ),
    _counter(
        "reject_compress_poor", "zswap",
        "Stores that did not compress; they were kept raw, or written to their places.",
        lambda s: s.cache.reject_compress_poor,
    ),
    _counter(
        "compress_skipped", "",
        "Stores kept raw untried, since the page did not compress a moment ago.",
        lambda s: s.cache.compress_skipped,
    ),
    _counter(
        "reject_alloc_fail", "zswap",
        "Stores refused because the system had no memory for another segment.",
        lambda s: s.cache.reject_alloc_fail,
    ),
    _counter(
        "reserve_empty", "",
        "Tries of stores that found no segment ready below the limit: they wait for memory.",
        lambda s: s.memory.reserve_empty,
    ),
    _counter(
        "reserve_refused", "",
        "Stores refused because it did not come in time.",
        lambda s: s.memory.reserve_refused,
    ),
    _counter(
        "reserve_given_back", "",
        "Segments of the reserve returned, since the machine stood still for want of memory.",
        lambda s: s.memory.reserve_given_back,
    ),
    _counter(
        "memory_stalls", "",
        "Times the loop device had requests, and none came, while memory was short.",
        lambda s: s.memory.memory_stalls,
    ),
    _counter(
        "serving_faults", "",
        "Page faults of the thread that serves: what it needs is resident, so there are none.",
        lambda s: s.memory.serving_faults,
    ),
    _counter(
        "duplicate_entry", "zswap",
        "Stores to a page that was stored already; the old version went first.",
        lambda s: s.cache.duplicate_entry,
    ),
    _counter(
        "dedup_merged_pages", "",
        "Stored pages that a sweep gave the object of another page with the same contents.",
        lambda s: s.dedup_merged_pages,
    ),
    _gauge(
        "outstanding_writebacks", "segments", "zswap",
        "Segments being written to the tier right now.",
        lambda s: s.writeback.outstanding_writebacks,
    ),
    _gauge(
        "bd_count", "4096-byte units", "zram",
        "Space taken on the backing file: in whole segments, or pages in their places.",
        lambda s: s.writeback.bd_count,
    ),
    _counter(
        "bd_reads", "zram",
        "4096-byte units read from the backing file.",
        lambda s: s.writeback.bd_reads,
    ),
    _counter(
        "bd_writes", "zram",
        "4096-byte units written to the backing file.",
        lambda s: s.writeback.bd_writes,
    ),
    _counter(
        "written_back_pages", "zswap",
        "Pages that moved from memory to the backing file.",
        lambda s: s.writeback.written_back_pages,
    ),
    _counter(
        "in_place_stores", "",
        "Pages the pool refused and that were written to their places (layout in-place).",
        lambda s: s.writeback.in_place_stores,
    ),
    _counter(
        "writeback_attempted", "zswap",
        "Segments whose write to the backing file was started.",
        lambda s: s.writeback.writeback_attempted,
    ),
    _counter(
        "writeback_failed", "",
        "Writes that failed; what was to leave memory stayed and is tried again.",
        lambda s: s.writeback.writeback_failed,
    ),
    _counter(
        "saved_by_writeback", "zswap",
        "Stores that found the pool full, waited, and went on.",
        lambda s: s.writeback.saved_by_writeback,
    ),
    _counter(
        "store_waits_1ms", "",
        "Writes that waited for room (or for a page on the backing file) for up to 1 ms.",
        lambda s: s.waits[0],
    ),
    _counter(
        "store_waits_10ms", "",
        "The same, for 1 to 10 ms.",
        lambda s: s.waits[1],
    ),
    _counter(
        "store_waits_100ms", "",
        "The same, for 10 to 100 ms.",
        lambda s: s.waits[2],
    ),
    _counter(
        "store_waits_1s", "",
        "The same, for 0.1 to 1 s.",
        lambda s: s.waits[3],
    ),
    _counter(
        "store_waits_10s", "",
        "The same, for 1 to 10 s.",
        lambda s: s.waits[4],
    ),
    _counter(
        "store_waits_longer", "",
        "The same, for more than 10 s.",
        lambda s: s.waits[5],
    ),
    _counter(
        "tier_read_retries", "",
        "Reads from the backing file made again, after an error or for a wrong checksum.",
        lambda s: s.writeback.tier_read_retries,
    ),
    _counter(
        "tier_read_errors", "",
        "Reads from the backing file that failed for good; a page gave EIO.",
        lambda s: s.writeback.tier_read_errors,
    ),
    _counter(
        "segments_cleaned", "",
        "Sparse segments the cleaner emptied and freed.",
        lambda s: s.cleaner.segments_cleaned,
    ),
    _counter(
        "cleaner_copied_bytes", "",
        "Bytes the cleaner copied forward, 8 for each object among them.",
        lambda s: s.cleaner.bytes_copied,
    ),
    _counter(
        "appended_bytes", "",
        "Bytes that stores added to segments, 8 for each object among them.",
        lambda s: s.cache.appended_bytes,
    ),
    _gauge(
        "write_amplification_percent", "percent", "",
        "Bytes written to segments, by stores and cleaner, per byte by stores (0: none yet).",
        _write_amplification_percent,
    ),
    _counter(
        "recompressed_pages", "",
        "Pages that were compressed again, harder: cold ones, and on their way to the file.",
        lambda s: s.cleaner.recompressed_pages,
    ),
    _gauge(
        "dictionaries", "dictionaries", "",
        "Dictionaries kept: the current one, and older ones that pages still need.",
        lambda s: s.dictionaries,
    ),
    _counter(
        "dictionaries_trained", "",
        "Dictionaries that won on pages they were not trained on, and were kept.",
        lambda s: s.dictionaries_trained,
    ),
    _counter(
        "dictionaries_dropped", "",
        "Dictionaries that no page needed any more.",
        lambda s: s.dictionaries_dropped,
    ),
    _counter(
        "dictionary_pages_moved", "",
        "Pages that were compressed anew so that their dictionary could go.",
        lambda s: s.dictionary_pages_moved,
    ),
    _counter(
        "recompressed_bytes_before", "",
        "Bytes those pages took before.",
        lambda s: s.cleaner.recompressed_bytes_before,
    ),
    _counter(
        "recompressed_bytes_after", "",
        "Bytes they took after.",
        lambda s: s.cleaner.recompressed_bytes_after,
    ),
    _counter(
        "checksum_errors", "",
        "Loads that found corrupt data and gave EIO.",
        lambda s: s.cache.checksum_errors,
    ),
    _counter(
        "requests", "",
        "FUSE requests answered.",
        lambda s: s.transport.requests,
    ),
    _counter(
        "wakeups", "",
        "Times the transport slept and was woken.",
        lambda s: s.transport.wakeups,
    ),
    _counter(
        "failed_requests", "",
        "Well-formed requests that failed (EIO, ENOSPC, EINVAL, ...), 'no such file' left out.",
        lambda s: s.transport.failed_requests,
    ),
    _counter(
        "malformed_requests", "",
        "Requests that were not well-formed.",
        lambda s: s.transport.malformed_requests,
    ),
    _counter(
        "discards", "",
        "Ranges the kernel freed (fallocate); the pyfuse3 transport never sees one.",
        lambda s: s.transport.discards,
    ),
    _gauge(
        "journal_bytes", "bytes", "",
        "Memory of the journal of requests in flight; 0 where the kernel sends them again.",
        lambda s: s.journal_bytes,
    ),
    _counter(
        "replayed_requests", "",
        "Requests a former worker had taken and not answered that came from the journal.",
        lambda s: s.transport.replayed_requests,
    ),
)  # fmt: skip
