"""What writeback counts.  Its parts add to one object; `Writeback.statistics` completes it."""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.counting import counter, gauge


@dataclass(slots=True)
class WritebackStatistics:
    """Writeback so far, and in a snapshot also what others count for it.

    ``bd_*`` are 4096-byte units, as in zram's bd_stat.
    """

    tier_ra: int = counter(
        "Windows of 128 KiB read ahead from a tier (as swap_ra of /proc/vmstat).",
        after="loads",
    )
    tier_ra_hit: int = counter("Reads of tiers that such a window answered.")
    tier_loads: int = counter("Pages asked for and read from tiers, or in place.")
    outstanding_writebacks: int = gauge(
        "segments",
        "Segments being written to tiers right now.",
        like="zswap",
        after="dedup_merged_pages",
    )
    bd_count: int = gauge(
        "4096-byte units",
        "Space taken on tiers: in whole segments, or pages in their places.",
        like="zram",
    )
    bd_reads: int = counter("4096-byte units read from tiers, or in place.", like="zram")
    bd_writes: int = counter("4096-byte units written to tiers, or in place.", like="zram")
    written_back_pages: int = counter(
        "Pages that moved from memory to tiers, or in place.", like="zswap"
    )
    in_place_stores: int = counter(
        "Pages the pool refused and that were written to their places (layout in-place)."
    )
    writeback_attempted: int = counter("Segments whose write to a tier was started.", like="zswap")
    writeback_failed: int = counter(
        "Writes that failed; the pages stayed in memory, and are tried again."
    )
    saved_by_writeback: int = counter(
        "Stores that found the pool full, waited, and went on.", like="zswap"
    )
    tier_read_retries: int = counter(
        "Reads from tiers made again, after an error or for a wrong checksum."
    )
    tier_read_errors: int = counter("Reads from tiers that failed for good; a page gave EIO.")
