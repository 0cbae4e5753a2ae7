"""Memory of a tier process on a machine that has none left.

A page at the server waits for this process, and reclaim may wait for that page.  So it has what a
request takes before the request comes.  Sockets take more of the kernel.  While memory is short
that comes from what the kernel keeps for real-time threads.
"""

from __future__ import annotations

from fuseswap.linux import syscalls
from fuseswap.linux.heap import Heap, lock_private
from fuseswap.linux.watermarks import Watermarks
from fuseswap.units import MIB

_SMALL_BYTES = 1 * MIB  # of Python's small objects
_AHEAD_BYTES = 4 * MIB  # a segment on its way, in a client's copies


class ProcessMemory:
    """Of this process and thread; made once its memory is locked."""

    def __init__(self, watermarks: Watermarks | None = None) -> None:
        self._heap = Heap(_SMALL_BYTES)
        self._heap.fill(_AHEAD_BYTES, None)
        lock_private()
        self._watermarks = watermarks or Watermarks()
        self._is_short = False

    def look(self) -> None:
        """Twice a second: make what is ahead, and see whether memory is short."""
        self._heap.top_up()
        if (short := self._watermarks.are_near()) != self._is_short:
            self._is_short = short
            syscalls.set_real_time(short)
