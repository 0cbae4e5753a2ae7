"""What the worker's own memory may come to: beyond that it leaks, and `status` says so.

All of it is locked, so a leak takes memory from everybody else, and they are killed in the
worker's place.  Counted is RssAnon: heap and stacks.  Store, tables and buffers of the backing
file are shared memory, which has bounds of its own.

    bound = what there was when the worker became ready
          + `ALLOWANCE_BYTES`            whatever it does, at once
          + `EACH_SEGMENT_BYTES`         for each segment there is, in memory or on a tier
          + the counts of shared objects (``store/refcounts.py``)
          + the hole that the training of a dictionary left in the heap (``linux/heap.py``)

The heap is not expected to shrink again, so it is what may be held at most, and not now.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fuseswap.daemon.host_watch import HostWatch
from fuseswap.filesystem.host_numbers import HostNumbers, ZswapStatistics
from fuseswap.filesystem.open_files import MAX_KEPT_BYTES
from fuseswap.linux.process import anonymous_bytes
from fuseswap.store.segment_log import SegmentLog
from fuseswap.units import MIB

# Copies of writes that wait: `_MAX_WAITING_BYTES` of ``transport/devfuse.py``, and one more.
_WAITING_BYTES = 3 * MIB
# Read windows, segments that are read back, contexts of compressors, a dictionary in training
# (5 MiB of samples), replies, and the holes that all of it leaves in the heap.
_AT_WORK_BYTES = 11 * MIB
ALLOWANCE_BYTES = _WAITING_BYTES + MAX_KEPT_BYTES + _AT_WORK_BYTES
# Columns of the log and a free id, 60 bytes; a place in line; its dictionaries, 300.
EACH_SEGMENT_BYTES = 512


class WorkerMemory:
    """Of this process, from when it became ready."""

    def __init__(
        self, watch: HostWatch, heap_file: int | None, hole_bytes: Callable[[], int] = lambda: 0
    ) -> None:
        """``heap_file``: what the heap was made of, left by the worker before.

        ``hole_bytes``: of `Heap`.
        """
        self._watch = watch
        self._hole_bytes = hole_bytes
        self._heap_file = heap_file
        self._ready_bytes = 0

    def is_ready(self) -> None:
        """The worker is.  Not a second time: it would count what has leaked so far."""
        self._ready_bytes = self._ready_bytes or anonymous_bytes()

    def bound_bytes(self, log: SegmentLog) -> int:
        """The most that may be held, with what is stored in ``log`` now."""
        tables = EACH_SEGMENT_BYTES * len(log.table.live) + log.references.allocated_bytes
        return self._ready_bytes + ALLOWANCE_BYTES + tables + self._hole_bytes()

    def fixed_bytes(self) -> int:
        """Memory of the processes that serve."""
        heap = 0 if self._heap_file is None else os.fstat(self._heap_file).st_blocks * 512
        return self._watch.processes_bytes + heap

    def zswap(self) -> ZswapStatistics:
        """As the watch saw it last."""
        use = self._watch.zswap
        return ZswapStatistics(
            zswap_pool_bytes=use.pool_bytes,
            zswap_stored_bytes=use.stored_bytes,
            zswap_loads=use.loaded_pages,
            zswap_stores=use.stored_pages,
            zswap_written_back_pages=use.written_back_pages,
        )

    def numbers(
        self, limit_is_shared: Callable[[], bool] = lambda: False, name: str = ""
    ) -> HostNumbers:
        """For the device ``name``; whether its pool limit is shared comes from elsewhere."""
        watch = self._watch
        return HostNumbers(
            fixed_bytes=self.fixed_bytes,
            worker_bytes=lambda: watch.anonymous_bytes,
            worker_bound_bytes=self.bound_bytes,
            standby_bytes=lambda: watch.standby_bytes,
            serving_faults=lambda: watch.faults,
            zswap=self.zswap,
            queue_file=lambda: watch.queue_file,
            is_filtered=lambda: int(watch.is_filtered),
            limit_is_shared=limit_is_shared,
            name=name,
        )
