"""A snapshot of the cache's numbers; ``statistics.py`` gives them their names for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """One moment of the cache.  Names as in zswap and zram where they have one."""

    stored_pages: int
    same_filled_pages: int
    incompressible_pages: int
    orig_data_size: int
    compr_data_size: int
    pool_total_size: int
    pool_limit_bytes: int
    metadata_bytes: int
    mem_used_total: int
    mem_used_max: int
    pool_unused_bytes: int
    raw_pages: int
    raw_bytes: int
    lz4_pages: int
    lz4_bytes: int
    zstd_pages: int
    zstd_bytes: int
    zstd_dictionary_pages: int
    zstd_dictionary_bytes: int
    same_filled_bytes_saved: int
    payload_bytes_saved: int
    writeback_bytes_saved: int
    tried_segments: int
    uncounted_pages: int
    segments: int
    appended_bytes: int
    pool_limit_hit: int
    reject_compress_poor: int
    compress_skipped: int
    reject_alloc_fail: int
    duplicate_entry: int
    duplicate_pages: int
    duplicate_bytes_saved: int
    dedup_index_bytes: int
    dedup_active: int
    checksum_errors: int
