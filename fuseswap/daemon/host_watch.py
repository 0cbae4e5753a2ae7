"""What the worker wants to know of its host, looked up where waiting is allowed.

To open a file takes memory of the kernel, so the serving thread opens none.  The feeder's thread
calls `look` once a second; the serving thread reads what `look` found.
"""

from __future__ import annotations

import contextlib
import os
from glob import glob

from fuseswap.linux.process import anonymous_bytes, own_memory
from fuseswap.linux.psi import under_memory_pressure


class HostWatch:
    """Of a device with ``swapfile``."""

    def __init__(self, swapfile: str) -> None:
        self._swapfile = swapfile
        self._parent = os.getppid()
        self.standby_pid = 0
        self.standby_bytes = 0
        self.processes_bytes = 0  # of this one, the supervisor (an orphan has none) and the standby
        self.anonymous_bytes = 0  # heap and stacks of this process
        self.is_under_pressure = False
        self.is_filtered = False  # this process may make few system calls
        self.faults = 0  # of the serving thread, since `expect_no_faults`
        self._faults_before: int | None = None
        self._faults_file = os.open(f"/proc/self/task/{os.getpid()}/stat", os.O_RDONLY)
        self._count_faults()  # the kernel makes the file's buffer at the first read
        self.queue_file = -1  # /sys/block/loopN/inflight of the device over the swapfile

    def expect_no_faults(self) -> None:
        """All that requests need is resident from now on: page faults are counted as `faults`."""
        self._faults_before = self._count_faults()

    def _count_faults(self) -> int:
        """Minor and major page faults of the serving thread so far: fields 10 and 12."""
        fields = os.pread(self._faults_file, 1024, 0).rpartition(b")")[2].split()
        return int(fields[7]) + int(fields[9])

    def look(self) -> None:
        """Look at everything; may wait."""
        self.anonymous_bytes = anonymous_bytes()
        if self._faults_before is not None:
            self.faults = self._count_faults() - self._faults_before
        others = [self._parent] if os.getppid() == self._parent else []
        self.standby_bytes = own_memory(self.standby_pid).anonymous if self.standby_pid else 0
        if self.standby_pid:
            others.append(self.standby_pid)
        all_of_them = [own_memory(pid) for pid in (os.getpid(), *others)]
        libraries = max(one.libraries for one in all_of_them)
        self.processes_bytes = sum(one.anonymous for one in all_of_them) + libraries
        self.is_under_pressure = under_memory_pressure()
        if self.queue_file < 0:
            self._find_queue()

    def _find_queue(self) -> None:
        """Open the loop device's count of requests, and read it: its buffer is made then."""
        for path in glob("/sys/block/loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                with open(path) as file:
                    if file.read().strip() != self._swapfile:
                        continue
                queue = os.path.dirname(os.path.dirname(path)) + "/inflight"
                fd = os.open(queue, os.O_RDONLY | os.O_CLOEXEC)
                os.pread(fd, 64, 0)
                self.queue_file = fd
                return
