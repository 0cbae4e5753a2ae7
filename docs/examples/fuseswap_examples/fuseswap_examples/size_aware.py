"""A policy: a page that takes twice the memory of others leaves first.

To be worth its place it would have to be loaded twice as often.  Never a page of less than half.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.reclaim.policy import Candidate
from fuseswap.units import PAGE_SIZE

_TIMES = 2
_LEAST = PAGE_SIZE // 2


class SizeAware:
    """``admission_policy=size_aware``."""

    def largest_kept(self, candidates: Sequence[Candidate]) -> int:
        """Twice the mean size of what is in line, in bytes."""
        live_bytes = sum(one.live_bytes for one in candidates)
        mean = live_bytes // sum(one.live_pages for one in candidates)
        return min(max(_TIMES * mean, _LEAST), MAX_COMPRESSED_BYTES)
