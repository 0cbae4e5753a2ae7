"""Memory of the entries of the segment table, made ahead of need (``memory_reserve.py``)."""

from __future__ import annotations

from functools import partial

from fuseswap.store.geometry import SEGMENT_ENTRY_BYTES
from fuseswap.store.memory_reserve import Feeder
from fuseswap.store.region import Region
from fuseswap.units import PAGE_SIZE

_AHEAD_BYTES = 64 << 10  # 2048 entries: 2 GiB of segments


class EntriesAhead:
    """Of ``segment_count`` entries in ``region``; a former worker used the first ``used``."""

    def __init__(self, region: Region, segment_count: int, feeder: Feeder, used: int = 0) -> None:
        self._region = region
        self._segment_count = segment_count
        self._feeder = feeder
        self._ready_bytes = 0  # from the start of the region: resident
        self._ordering = False
        if feeder.deferred:
            self._get_ready_now(used * SEGMENT_ENTRY_BYTES)

    def _get_ready_now(self, used_bytes: int) -> None:
        """Before anything is served: what a former worker used, and `_AHEAD_BYTES`.

        What that had made ahead is not used: each worker in a row would make more.
        """
        used = -(-used_bytes // PAGE_SIZE) * PAGE_SIZE
        wanted = min(used + _AHEAD_BYTES, self._region.size_bytes)
        self._region.populate(0, wanted)
        self._ready_bytes = wanted

    def usable(self, known: int) -> int:
        """How many entries beyond the first ``known`` may be used: their memory is there."""
        left = self._segment_count - known
        if not self._feeder.deferred:
            return left
        ahead = self._ready_bytes // SEGMENT_ENTRY_BYTES - known
        if ahead < min(left, _AHEAD_BYTES // SEGMENT_ENTRY_BYTES // 2) and not self._ordering:
            self._ordering = True
            at = self._ready_bytes
            length = min(_AHEAD_BYTES, self._region.size_bytes - at)
            self._feeder.populate(self._region, at, length, partial(self._made, length))
        return min(left, ahead)

    def _made(self, length: int, made: bool) -> None:
        self._ordering = False
        self._ready_bytes += length if made else 0

    def ready_bytes(self, known: int) -> int:
        """Memory of entries that no segment has used yet; ``known``: how many were used."""
        used = -(-known * SEGMENT_ENTRY_BYTES // PAGE_SIZE) * PAGE_SIZE
        return max(0, self._ready_bytes - used)
