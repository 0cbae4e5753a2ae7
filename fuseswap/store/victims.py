"""Victims: which segment is cleaned next.

In memory by benefit over cost, ``(1 - u) * age / u``, with u the live share of a segment (LFS,
Rosenblum 1991; RAMCloud runs its log the same way).  Never one more than 98 % live, since copying
it would free next to nothing.  On a tier it is the sparsest.

A choice looks at a window of the segments, and the next one goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest
from itertools import islice
from operator import itemgetter
from typing import Protocol

from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.segment_places import IN_MEMORY, on_tier
from fuseswap.units import NO_SEGMENT, SEGMENT_BYTES, Location, SegmentId

MAX_LIVE_SHARE = 0.98
SPARSE_BYTES = SEGMENT_BYTES * 3 // 4  # on a tier, a fuller segment is not worth its I/O
LAST_RESORT_BYTES = SEGMENT_BYTES * 19 // 20  # on a tier that is full
OFFERED = 16
_WINDOW = 256  # segments looked at for one choice, about 200 us: the best of these, not of all


class Preference(Protocol):
    """Which of the best is cleaned (``reclaim/policy.py``)."""

    @property
    def is_default(self) -> bool:
        """Whether it is the first."""

    def of(self, segments: Sequence[SegmentId]) -> SegmentId:
        """One of ``segments``, best first, of which there is at least one."""


class Victims:
    """Chooses among the segments of ``log``, of ``window`` of them at a time.

    ``preference``: which of the best `OFFERED` is taken; None: the best.
    """

    def __init__(
        self, log: SegmentLog, preference: Preference | None = None, window: int = _WINDOW
    ) -> None:
        self._log = log
        self._preference = preference
        self._window = window
        # How far it came, in memory and on each tier: as many as there are tiers.
        self._hands: dict[tuple[int, ...], SegmentId] = {}

    def choose(
        self,
        max_live_share: float = MAX_LIVE_SHARE,
        skip: Callable[[SegmentId], bool] | None = None,
    ) -> SegmentId:
        """The segment in memory that is best cleaned next; 0 where none is worth it.

        None that is on its way to a tier: its objects would stay, and its write be for nothing.
        None that ``skip`` says another task is to rewrite.
        """
        scored = self._scored(max_live_share, skip)
        preference = self._preference
        if preference is None or preference.is_default:
            return max(scored, key=itemgetter(0), default=(0.0, NO_SEGMENT))[1]
        best = [segment for _, segment in nlargest(OFFERED, scored, key=itemgetter(0))]
        return preference.of(best) if best else NO_SEGMENT

    def _scored(
        self, max_live_share: float, skip: Callable[[SegmentId], bool] | None
    ) -> Iterator[tuple[float, SegmentId]]:
        table, in_line = self._log.table, self._log.eviction_queue
        newest = table.newest_sequence
        for segment in self._some(IN_MEMORY):
            if not table.is_movable(segment) or not table.live[segment] or segment not in in_line:
                continue
            share = table.live_bytes[segment] / SEGMENT_BYTES
            if share > max_live_share or (skip is not None and skip(segment)):
                continue
            age = newest - table.sequence_of(segment) + 1
            yield (1 - share) * age / share, segment

    def choose_on_tier(self, tier: int, most_bytes: int = SPARSE_BYTES) -> SegmentId:
        """The sparsest segment on ``tier`` of those looked at; 0: all hold more than that alive."""
        live_bytes = self._log.table.live_bytes
        sparse = [
            segment
            for segment in self._some((on_tier(tier),))
            if live_bytes[segment] <= most_bytes and self._is_on_tier(tier, segment)
        ]
        return min(sparse, key=lambda segment: live_bytes[segment], default=NO_SEGMENT)

    def _is_on_tier(self, tier: int, segment: SegmentId) -> bool:
        table = self._log.table
        where = table.location_of(segment)
        is_there = isinstance(where, Location) and where.tier == tier
        return is_there and table.live[segment] > 0 and not table.is_pinned(segment)

    def _some(self, kinds: tuple[int, ...]) -> Iterator[SegmentId]:
        """A window of the segments of ``kinds``, going on where the last call stopped."""
        places = self._log.table.places
        hand = self._hands.get(kinds, NO_SEGMENT)
        for segment in islice(places.round_from(kinds, hand), self._window):
            self._hands[kinds] = segment
            yield segment
