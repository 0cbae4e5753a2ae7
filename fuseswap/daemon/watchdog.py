"""The watchdog: is the worker alive and yet stuck?  And of one that ended: had it served?

The worker writes another number into the header once a second, from a task beside the
transport.  One that is stopped, spins or hangs does not.  One that waits for a slow tier
does, however long its requests take: how old they are says nothing.

Looks are counted, not seconds: the machine, or the supervisor with its worker, may
have been stopped between two of them.  Without a request in the kernel's queue it takes
`_QUIET_TIMES` as many, since it can't be seen whether one was taken and not answered.
"""

from __future__ import annotations

import mmap
import select
import struct
import time

PROGRESS_AT = 512  # in the header (see store/superblock.py): requests the worker has answered
HEARTBEAT_AT = 520  # in the header (see store/superblock.py)
_HEARTBEAT = struct.Struct("<Q")
_QUIET_TIMES = 3
_HEALTHY_AFTER_S = 0.1


class Watchdog:
    """Looks at one heartbeat in ``header``; `is_overdue` is called about once a second."""

    def __init__(self, header: mmap.mmap, fuse_fd: int, patience_s: float) -> None:
        """``patience_s`` 0: never overdue."""
        self._header = header
        self._patience_looks = patience_s
        self._queue = select.poll()
        self._queue.register(fuse_fd, select.POLLIN)
        self.begin()

    def begin(self) -> None:
        """Another worker serves."""
        self._last = self._heartbeat()
        self._looks = 0
        self._began = time.monotonic()

    def did_well(self) -> bool:
        """Whether the worker that ended had served: then its end is no failure of starting.

        Once for each, and before the next one begins.
        """
        (answered,) = _HEARTBEAT.unpack_from(self._header, PROGRESS_AT)
        _HEARTBEAT.pack_into(self._header, PROGRESS_AT, 0)
        return answered > 0 and time.monotonic() - self._began > _HEALTHY_AFTER_S

    def is_overdue(self) -> bool:
        """Whether the worker has to be replaced; at the earliest ``patience_s`` from now again."""
        beat = self._heartbeat()
        if beat != self._last or not self._patience_looks:
            self._last = beat
            self._looks = 0
            return False
        self._looks += 1
        patience = self._patience_looks * (1 if self._queue.poll(0) else _QUIET_TIMES)
        if self._looks < patience:
            return False
        self._looks = 0
        return True

    def _heartbeat(self) -> int:
        (beat,) = _HEARTBEAT.unpack_from(self._header, HEARTBEAT_AT)
        return int(beat)
