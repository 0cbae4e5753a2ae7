"""Whether threads wait for a processor, as the kernel counts them at this moment.

The fourth field of ``/proc/loadavg``, ``3/210``, has the threads that run or want to.  More of them
than processors: some wait.  A look is one `pread`, 1 us, and makes no memory: the kernel has its
page for the text since the first.  PSI brings its totals up to date every 2 s, which is too late.

lxcfs puts a file of its own over it in containers.  Such a file is never read: another process,
which may be swapped out, would have to answer.
"""

from __future__ import annotations

import os

_LOADAVG = "/proc/loadavg"
_BYTES = 64


class RunQueue:
    """Open until `close`; without the file it is never crowded."""

    def __init__(self, path: str = _LOADAVG, processors: int | None = None) -> None:
        self._processors = processors or os.cpu_count() or 1
        self._fd: int | None = None
        try:
            if os.stat(path).st_dev == os.stat(os.path.dirname(path)).st_dev:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self.is_crowded()
        except (OSError, ValueError, IndexError):
            self.close()

    def is_crowded(self) -> bool:
        """Whether more threads want to run than there are processors.

        Also where this thread has real-time priority: it gives way to no other thread.
        """
        if self._fd is None:
            return False
        is_crowded = self._runnable(self._fd) > self._processors
        return is_crowded or os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)

    def _runnable(self, fd: int) -> int:
        return int(os.pread(fd, _BYTES, 0).split(b"/", 1)[0].rsplit(None, 1)[1])

    def close(self) -> None:
        """Never crowded from now on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
