"""Victims: which segment is cleaned next.

In memory by benefit over cost, ``(1 - u) * age / u``, with u the live share of a segment (LFS,
Rosenblum 1991; RAMCloud runs its log the same way).  Never one more than 98 % live, since copying
it would free next to nothing.  On a tier it is the sparsest.

A choice looks at a window of the segments, and the next one goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.segment_table import SegmentTable
from fuseswap.units import NO_SEGMENT, SEGMENT_BYTES, Location, SegmentId, segment_range

MAX_LIVE_SHARE = 0.98
SPARSE_BYTES = SEGMENT_BYTES * 3 // 4  # on a tier, a fuller segment is not worth its I/O
LAST_RESORT_BYTES = SEGMENT_BYTES * 19 // 20  # on a tier that is full
_WINDOW = 256  # segments looked at for one choice, about 200 us: the best of these, not of all


def round_from(segment: SegmentId, table: SegmentTable) -> Iterator[SegmentId]:
    """Ids of all segments of ``table`` once, from behind ``segment`` round to it."""
    known = len(table.live)
    middle = min(segment + 1, known)
    return chain(segment_range(middle, known), segment_range(1, middle))


class Victims:
    """Chooses among the segments of ``log``, of ``window`` of them at a time."""

    def __init__(self, log: SegmentLog, window: int = _WINDOW) -> None:
        self._log = log
        self._window = window
        self._hand = NO_SEGMENT

    def choose(
        self,
        max_live_share: float = MAX_LIVE_SHARE,
        skip: Callable[[SegmentId], bool] | None = None,
    ) -> SegmentId:
        """The segment in memory that is best cleaned next; 0 where none is worth it.

        None that ``skip`` says another task is to rewrite.
        """
        table = self._log.table
        best, best_score = NO_SEGMENT, 0.0
        newest = table.newest_sequence
        for segment in self._some(lambda s: table.bases[s] >= 0 and table.is_movable(s)):
            share = table.live_bytes[segment] / SEGMENT_BYTES
            if share > max_live_share or (skip is not None and skip(segment)):
                continue
            age = newest - table.sequence_of(segment) + 1
            score = (1 - share) * age / share
            if score > best_score:
                best, best_score = segment, score
        return best

    def choose_on_tier(self, tier: int, most_bytes: int = SPARSE_BYTES) -> SegmentId:
        """The sparsest segment on ``tier`` of those looked at; 0: all hold more than that alive."""
        live_bytes = self._log.table.live_bytes
        on_tier = self._some(partial(self._is_on_tier, tier))
        sparse = [s for s in on_tier if live_bytes[s] <= most_bytes]
        return min(sparse, key=lambda segment: live_bytes[segment], default=NO_SEGMENT)

    def _is_on_tier(self, tier: int, segment: SegmentId) -> bool:
        table = self._log.table
        where = table.location_of(segment)
        on_tier = isinstance(where, Location) and where.tier == tier
        return on_tier and table.live[segment] > 0 and not table.is_pinned(segment)

    def _some(self, wanted: Callable[[SegmentId], bool]) -> Iterator[SegmentId]:
        """Up to a window of segments that are ``wanted``, going on where the last call stopped."""
        seen = 0
        for segment in round_from(self._hand, self._log.table):
            self._hand = segment
            if wanted(segment):
                yield segment
                seen += 1
                if seen == self._window:
                    return
