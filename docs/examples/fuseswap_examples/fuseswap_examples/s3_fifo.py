"""A policy: S3-FIFO (Yang and others, SOSP 2023), of segments.

The small queue is of pages that were stored, the main one of those that survived.  What was loaded
in the small one survives anyway, page by page.  There are no ghosts: no segment comes back.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuseswap.reclaim.policy import Candidate

_MOST_KNOWN = 1024


class S3Fifo:
    """``eviction_policy=s3_fifo``."""

    def __init__(self) -> None:
        self._spared: dict[int, Candidate] = {}  # as they were then; `_MOST_KNOWN` at most

    def evict_which(self, candidates: Sequence[Candidate]) -> int:
        """The oldest that was only stored, while those are a tenth; else the oldest survivor."""
        small = [place for place, one in enumerate(candidates) if not one.survived]
        main = [place for place, one in enumerate(candidates) if one.survived]
        return (small or main)[0] if len(small) * 9 > len(main) or not main else main[0]

    def spares(self, candidate: Candidate) -> bool:
        """A survivor of which a twentieth more was loaded since it was spared last."""
        before = self._spared.pop(candidate.segment, None)
        same = before is not None and before.age_seconds <= candidate.age_seconds
        loaded = before.loaded_share if before is not None and same else 0.0
        if not candidate.survived or candidate.loaded_share <= loaded + 0.05:
            return False
        if len(self._spared) == _MOST_KNOWN:
            del self._spared[next(iter(self._spared))]
        self._spared[candidate.segment] = candidate
        return True
