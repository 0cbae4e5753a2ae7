"""How near the machine is to its watermarks: what decides whether an allocation waits.

    free > high          kswapd sleeps
    low < free < high    kswapd works, once it was woken
    min < free < low     the same; a thread that allocates goes on
    free < min           it reclaims by itself, or waits
    free < min / 2       so do real-time threads (ALLOC_MIN_RESERVE, mm/page_alloc.c)

A swap device that takes all memory leaves the OOM killer's victim no page of its own to free.  What
its pages took comes back with its discards, and by then the killer has taken the next one.  So
others keep a little: free pages and those on the LRU lists (`others_are_poor`).

``min`` is raised for a while when the kernel steals from the wrong kind of block
(``vm.watermark_boost_factor``).  In a guest of 384 MiB it rose from 2 to 7 MiB, and loop's thread
waited for 130 s.  /proc/zoneinfo has the raised one.  The feeder reads that, since it may wait; any
thread may ask sysinfo(2) for the free memory.
"""

from __future__ import annotations

import os
import re
import time

from fuseswap.linux import syscalls
from fuseswap.units import PAGE_SIZE

_REFRESH_S = 0.25
_NEAR_BYTES = 4 << 20  # above high: kswapd works, or will in a moment
_ZONE = re.compile(
    rb"\n +pages free +(\d+)\n(?: +boost +\d+\n)? +min +(\d+)\n +low +\d+\n +high +(\d+)\n"
    rb"(?:.*\n)*? +managed +(\d+)\n"
)
_LRU = re.compile(rb"nr_zone_(?:in)?active_(?:anon|file) +(\d+)")
_POOR_SHARE = 25  # 4 % of memory
_POOR_BYTES = (4 << 20, 64 << 20)  # at least, at most
_BARE_SHARE = 100  # 1 %
_TEXT_BYTES = 64 << 10  # of all zones: 2 KiB each
_SMALL_SHARE = 8  # a zone of less than an eighth of memory is kept from most allocations


class Watermarks:
    """The watermarks of all zones together."""

    def __init__(self, path: str = "/proc/zoneinfo") -> None:
        """A kernel without ``path`` has none: memory is never short then."""
        self._high_bytes = 0
        self._is_reached = False
        self._others_are_poor = self._others_are_bare = False
        self._read_at = 0.0
        self._buffer = memoryview(bytearray(_TEXT_BYTES))  # not made when memory is short
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self.refresh()

    def refresh(self) -> None:
        """Read them again: the kernel moves them.  Takes no memory but the first time.

        Where they can't be read they stay as they were.
        """
        self._read_at = time.monotonic()
        if self._fd < 0:
            return
        length = 0
        try:
            while count := os.preadv(self._fd, [self._buffer[length:]], length):
                length += count
        except OSError:
            return
        zones = [tuple(map(int, found)) for found in _ZONE.findall(self._buffer[:length])]
        pages = sum(managed for _, _, _, managed in zones)
        self._high_bytes = sum(high for _, _, high, managed in zones if managed) * PAGE_SIZE
        self._is_reached = all(
            free < least + least // 8
            for free, least, _, managed in zones
            if managed * _SMALL_SHARE > pages
        )
        theirs = sum(free for free, *_ in zones) + sum(
            map(int, _LRU.findall(self._buffer[:length]))
        )
        poor = min(max(pages * PAGE_SIZE // _POOR_SHARE, _POOR_BYTES[0]), _POOR_BYTES[1])
        self._others_are_poor = bool(zones) and theirs * PAGE_SIZE < poor
        bare = max(pages // _BARE_SHARE, sum(least for _, least, _, _ in zones))
        self._others_are_bare = self._others_are_poor and theirs < bare

    def are_near(self) -> bool:
        """Whether memory is short: kswapd works.  The feeder's to call."""
        near = syscalls.free_bytes() < self._high_bytes + _NEAR_BYTES
        if near and time.monotonic() - self._read_at > _REFRESH_S:
            self.refresh()
        return near

    def are_reached(self) -> bool:
        """Whether free memory is at min in every zone that matters, as of the last look.

        Or an eighth above it: those who allocate wait, or are about to.
        """
        return self._is_reached

    def others_are_poor(self) -> bool:
        """Whether all others together have so little resident that the pool must not grow.

        4 % of memory, 64 MiB at most; as of the last look.
        """
        return self._others_are_poor

    def others_are_bare(self) -> bool:
        """Whether they have next to nothing: 1 % of memory, or what the kernel keeps for itself.

        Reclaim finds nothing then, and so the OOM killer is asked.
        """
        return self._others_are_bare

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
