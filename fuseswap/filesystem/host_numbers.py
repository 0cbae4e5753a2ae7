"""What a device says of its processes and of the host, and cannot know by itself.

The worker gives them (``worker_memory.py``).  A device that no worker serves, in a test or a
tool, has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseswap.store.segment_log import SegmentLog


def _none() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class HostNumbers:
    """Each is asked when a statistic is read, by the serving thread: none may wait."""

    fixed_bytes: Callable[[], int] = _none  # of the processes that serve, and the heap's file
    worker_bytes: Callable[[], int] = _none  # RssAnon of this process
    worker_bound_bytes: Callable[[SegmentLog], int] = lambda log: 0  # beyond it the worker leaks
    standby_bytes: Callable[[], int] = _none
    serving_faults: Callable[[], int] = _none
    queue_file: Callable[[], int] = lambda: -1  # /sys/block/loopN/inflight; -1: not found yet
