"""A policy: the segment that frees most memory a byte of reading it back goes first."""

from __future__ import annotations

from collections.abc import Sequence

from fuseswap.reclaim.policy import Candidate


class LargestFirst:
    """``eviction_policy=largest_first``, ``recompression_policy=largest_first``."""

    def evict_which(self, candidates: Sequence[Candidate]) -> int:
        """The place of the one with most cold bytes; the older one of two."""
        return max(range(len(candidates)), key=lambda place: _cold_bytes(candidates[place]))

    def recompress_which(self, candidates: Sequence[Candidate]) -> int:
        """The same: it has most to gain."""
        return self.evict_which(candidates)


def _cold_bytes(candidate: Candidate) -> float:
    return candidate.live_bytes * (1 - candidate.loaded_share)
