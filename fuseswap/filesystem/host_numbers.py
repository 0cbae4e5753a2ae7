"""What a device says of its processes and of the host, and cannot know by itself.

The worker gives them (``worker_memory.py``).  A device that no worker serves, in a test or a
tool, has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseswap.counting import counter, gauge
from fuseswap.store.segment_log import SegmentLog


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """Memory that does not grow with what is stored, and what the worker may do."""

    mem_fixed: int = gauge(
        "bytes",
        "Memory of worker, supervisor and standby themselves, and frames always kept ready.",
        after="mem_used_max",
    )
    mem_standby: int = gauge("bytes", "Memory of the standby alone; mem_fixed has it too.")
    mem_worker: int = gauge(
        "bytes", "The worker's own memory: heap and stacks (RssAnon), all of it locked."
    )
    mem_worker_bound: int = gauge(
        "bytes", "The most mem_worker may be with what is stored; above it the worker leaks."
    )
    journal_bytes: int = gauge(
        "bytes",
        "Memory of the journal of requests in flight; 0 where the kernel sends them again.",
        after="discards",
    )
    seccomp: int = gauge(
        "filters",
        "Filters of system calls that the worker has: 1, or 0 where it may make any.",
    )


@dataclass(frozen=True, slots=True)
class ZswapStatistics:
    """The machine's zswap, which may stand in front; all 0 where there is none."""

    zswap_pool_bytes: int = gauge(
        "bytes", "Memory of zswap's pool, which is in front of every swap.", after="journal_bytes"
    )
    zswap_stored_bytes: int = gauge("bytes", "Pages in zswap's pool, uncompressed.")
    zswap_loads: int = counter("Pages that zswap gave back, since the boot.", after="discards")
    zswap_stores: int = counter("Pages that zswap took, since the boot.")
    zswap_written_back_pages: int = counter(
        "Pages that zswap handed down to the swap below, of all areas, since the boot."
    )


NO_ZSWAP = ZswapStatistics(0, 0, 0, 0, 0)


def _none() -> int:
    return 0


def _alone() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class HostNumbers:
    """Each is asked when a statistic is read, by the serving thread: none may wait."""

    fixed_bytes: Callable[[], int] = _none  # of the processes that serve, and the heap's file
    worker_bytes: Callable[[], int] = _none  # RssAnon of this process
    worker_bound_bytes: Callable[[SegmentLog], int] = lambda log: 0  # beyond it the worker leaks
    standby_bytes: Callable[[], int] = _none
    serving_faults: Callable[[], int] = _none
    zswap: Callable[[], ZswapStatistics] = lambda: NO_ZSWAP
    queue_file: Callable[[], int] = lambda: -1  # /sys/block/loopN/inflight; -1: not found yet
    is_filtered: Callable[[], int] = _none  # whether system calls are (``linux/confine.py``)
    limit_is_shared: Callable[[], bool] = _alone  # with other stripes: it is not set here
    name: str = ""  # of the device
