"""Numbers that are made of two parts' numbers: what the cleaner adds, and who saved how much."""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.counting import gauge
from fuseswap.frontswap.cache_statistics import CacheStatistics
from fuseswap.store.copier import CopierStatistics


@dataclass(frozen=True, slots=True)
class Balance:
    """One moment of cache and cleaners.  The two savings together are exact."""

    write_amplification_percent: int = gauge(
        "percent",
        "Bytes written to segments, by stores and cleaner, per byte by stores (0: none yet).",
        after="appended_bytes",
    )
    compression_bytes_saved: int = gauge(
        "bytes", "What all other pages save by being compressed.", after="same_filled_bytes_saved"
    )
    recompression_bytes_saved: int = gauge(
        "bytes", "What compressing again, harder, saved on top of that; estimated."
    )


def balance(cache: CacheStatistics, cleaner: CopierStatistics) -> Balance:
    """Of both, at the same moment."""
    stored = cache.appended_bytes
    written = stored + cleaner.bytes_copied  # the cleaner copied nothing: 100 %
    again = _recompression_bytes_saved(cache, cleaner)
    return Balance(
        write_amplification_percent=written * 100 // stored if stored else 0,
        compression_bytes_saved=cache.payload_bytes_saved - again,
        recompression_bytes_saved=again,
    )


def _recompression_bytes_saved(cache: CacheStatistics, cleaner: CopierStatistics) -> int:
    """Estimated: what this worker recompressed and may still live, at its ratio so far."""
    before, after = cleaner.recompressed_bytes_before, cleaner.recompressed_bytes_after
    living = min(cache.zstd_bytes + cache.zstd_dictionary_bytes, after)
    return living * (before - after) // after if after else 0
