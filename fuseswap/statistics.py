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


STATISTICS: tuple[Statistic, ...] = (
    _gauge(
        "stored_pages", "pages", "zswap",
        "Pages held, same-filled ones among them.",
        lambda s: s.cache.stored_pages,
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
        "All memory that grows with what is stored: segments, slot table, segment table.",
        lambda s: s.cache.mem_used_total,
    ),
    _gauge(
        "pool_total_size", "bytes", "zswap",
        "Memory of the arena: segments in use, and free ones kept for the next.",
        lambda s: s.cache.pool_total_size,
    ),
    _gauge(
        "metadata_bytes", "bytes", "",
        "Slot table, segment table, and the owner and checksum of each object.",
        lambda s: s.cache.metadata_bytes,
    ),
    _gauge(
        "segments", "segments", "",
        "Segments of 1 MiB in use.",
        lambda s: s.cache.segments,
    ),
    _counter(
        "loads", "frontswap",
        "Pages asked for, holes among them.",
        lambda s: s.frontswap.loads,
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
        "Stores refused because the pool was at its limit.",
        lambda s: s.cache.pool_limit_hit,
    ),
    _counter(
        "reject_compress_poor", "zswap",
        "Stores that did not compress and were kept raw.",
        lambda s: s.cache.reject_compress_poor,
    ),
    _counter(
        "reject_alloc_fail", "zswap",
        "Stores refused because the system had no memory for another segment.",
        lambda s: s.cache.reject_alloc_fail,
    ),
    _counter(
        "duplicate_entry", "zswap",
        "Stores to a page that was stored already; the old version went first.",
        lambda s: s.cache.duplicate_entry,
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
        "Requests answered with an error other than 'no such file'.",
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
)  # fmt: skip
