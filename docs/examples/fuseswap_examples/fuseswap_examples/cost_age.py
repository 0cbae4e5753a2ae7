"""A policy: cost and benefit of cleaning, as LFS and RAMCloud have it, with learned lifetimes.

A copy is wasted where it dies soon.  How long bytes live is learned by their age, by a power of
two of seconds: segments that are offered again have lost some.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuseswap.reclaim.policy import Candidate
from fuseswap.units import SEGMENT_BYTES

_MOST_KNOWN = 1024


class CostAge:
    """``cleaning_policy=cost_age``."""

    def __init__(self) -> None:
        self._seen: dict[int, Candidate] = {}  # `_MOST_KNOWN` at most
        self._died = [1.0] * 64  # bytes, by age
        self._lived = [float(1 << age) for age in range(64)]  # bytes times seconds

    def clean_which(self, candidates: Sequence[Candidate]) -> int:
        """The one whose free space lasts longest, by bytes that have to be copied."""
        worth = [self._worth(one, int(one.age_seconds).bit_length()) for one in candidates]
        return worth.index(max(worth))

    def _worth(self, one: Candidate, age: int) -> float:
        before = self._seen.pop(one.segment, one)
        if len(self._seen) == _MOST_KNOWN:
            del self._seen[next(iter(self._seen))]
        self._seen[one.segment] = one
        if before.age_seconds < one.age_seconds:
            self._died[age] += max(0, before.live_bytes - one.live_bytes)
            self._lived[age] += one.live_bytes * (one.age_seconds - before.age_seconds)
        return (SEGMENT_BYTES / one.live_bytes - 1) * self._lived[age] / self._died[age]
