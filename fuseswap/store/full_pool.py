"""Where an object goes when the pool is full, and why it goes nowhere.

    the cleaner's open segments   while they have room, and where it does not matter which objects
                                  stand together
    refused                       `PoolFull`, `OldInTheWay`, `NoMemory`, `StoreRefused`: who
                                  stores waits for room, or for memory, or does without

Called after an append has found no room; it changes nothing but counters.
"""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.counting import counter, zeros
from fuseswap.errors import NoMemory, OldInTheWay, PoolFull, StoreRefused
from fuseswap.store.append_head import AppendHead
from fuseswap.store.object_size import footprint
from fuseswap.store.segment_entry import Stream
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_word import is_object, segment_of
from fuseswap.units import PAGE_SIZE, PageNumber


@dataclass(slots=True)
class FullPoolCounters:
    """What stores find; ``cache_statistics.py`` has what they leave behind."""

    pool_limit_hit: int = counter(
        "Stores that found the pool at its limit; they waited for room, or were refused.",
        like="zswap",
        after="duplicate_entry",
    )
    machine_limit_hit: int = counter(
        "The same below its limit, while others have 4 % of memory or less."
    )
    reject_alloc_fail: int = counter(
        "Stores refused because the system had no memory for another segment.",
        like="zswap",
    )
    reserve_empty: int = counter(
        "Tries of stores that found no segment ready below the limit: they wait for memory."
    )


class FullPool:
    """Of one segment log.

    `mixes_streams`: it does not matter which objects stand together, as where nothing leaves.
    `mixed_bytes`: of objects that went to the cleaner's survivors.
    """

    def __init__(self, segment_log: SegmentLog, *, mixes_streams: bool) -> None:
        self.mixes_streams = mixes_streams
        self.mixed_bytes = 0
        self.counters = zeros(FullPoolCounters)
        self._log = segment_log

    def _other_head(self, length: int) -> AppendHead | None:
        """What the cleaner has left open.

        Not while the cleaner has the last frame: it may need that room to free another.
        """
        if self.mixes_streams and self._log.frames.has_spare:
            for stream in (Stream.STORE, Stream.SURVIVORS, Stream.INCOMPRESSIBLE):
                head = self._log.heads[stream]
                if head.segment and self._log.fits(head, length):
                    return head
        return None

    @property
    def has_room(self) -> bool:
        """Whether a store finds room all the same, whatever becomes of its page."""
        return self._other_head(PAGE_SIZE) is not None

    def find_room(self, page: PageNumber, length: int, old: int) -> AppendHead:
        """Where an object of ``length`` bytes goes.

        Raises `PoolFull`, or `OldInTheWay` where ``old`` is the last of its segment.  Below the
        limit it raises `NoMemory`: the reserve is used up.  Or `PoolFull` where others have next
        to nothing left, or `StoreRefused` where no feeder makes more.
        """
        frames = self._log.frames
        if not frames.exhausted:
            self.counters.reject_alloc_fail += 1
            raise StoreRefused(f"the system has no memory for page {page}")
        head = self._other_head(length)
        if head is None:
            segment, table = segment_of(old), self._log.table
            is_last = is_object(old) and table.is_live(segment) and table.live[segment] == 1
            if is_last and table.bases[segment] >= 0:
                raise OldInTheWay(f"the old version of page {page} takes the last room")
            if frames.is_spent:
                self.counters.machine_limit_hit += 1
                raise PoolFull(f"others have no memory to give: no room for page {page}")
            if frames.is_short:
                self.counters.reserve_empty += 1
                raise NoMemory(f"no frame is ready for page {page}")
            self.counters.pool_limit_hit += 1
            raise PoolFull(f"the pool is at its limit: no room for page {page}")
        self.mixed_bytes += (head.stream is Stream.SURVIVORS) * footprint(length)
        return head
