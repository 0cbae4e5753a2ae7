"""What the worker wants to know of its host, looked up where waiting is allowed.

To open a file takes memory of the kernel, so the serving thread opens none.  The feeder's thread
calls `look` once a second; the serving thread reads what `look` found.
"""

from __future__ import annotations

import contextlib
import os
from glob import glob

from fuseswap.filesystem.tree import SWAPFILE
from fuseswap.linux import loop, mount
from fuseswap.linux.process import anonymous_bytes, own_memory, start_ticks
from fuseswap.linux.psi import under_memory_pressure
from fuseswap.linux.zswap_use import ZswapUse, zswap_use


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
        self.zswap = ZswapUse()
        self.faults = 0  # of the serving thread, since `expect_no_faults`
        self._faults_before: int | None = None
        self._faults_file = os.open(f"/proc/self/task/{os.getpid()}/stat", os.O_RDONLY)
        self._count_faults()  # the kernel makes the file's buffer at the first read
        self.queue_file = -1  # /sys/block/loopN/inflight of the device over the swapfile
        self._queue_fd = -1  # open, once there was one
        self._loop: tuple[str, int | None] = "", None  # and the number of its attachment
        self._known_standby = 0, 0  # process id, and when it began

    def expect_no_faults(self) -> None:
        """It serves: all that requests need is resident, and page faults count as `faults`."""
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
        standby = self._standby()
        self.standby_bytes = own_memory(standby).anonymous if standby else 0
        if standby:
            others.append(standby)
        all_of_them = [own_memory(pid) for pid in (os.getpid(), *others)]
        libraries = max(one.libraries for one in all_of_them)
        self.processes_bytes = sum(one.anonymous for one in all_of_them) + libraries
        self.is_under_pressure = under_memory_pressure()
        with contextlib.suppress(OSError):
            self.zswap = zswap_use()
        if self._faults_before is not None:
            self._look_for_queue()

    def _standby(self) -> int:
        """As it was told; 0 where that process has ended, and its number may be another's."""
        pid = self.standby_pid
        if pid != self._known_standby[0]:
            self._known_standby = pid, start_ticks(pid) if pid else 0
        started = self._known_standby[1]
        return pid if started and start_ticks(pid) == started else 0

    def _look_for_queue(self) -> None:
        """Find the loop device over the swapfile, and look whether it still is that.

        Only once this worker serves: the kernel asks it about the file behind the device.  Before
        that the feeder would wait here, and the worker for what the feeder makes, for 5 s.
        """
        device, sequence = self._loop
        if device and loop.sequence(device) == sequence and loop.backing_of(device):
            return
        self._loop = "", None
        self.queue_file = -1
        for path in glob("/sys/block/loop*/loop/backing_file"):
            device = f"/dev/{path.split('/')[3]}"
            with contextlib.suppress(OSError):
                if loop.backing_of(device) == self._swapfile and self._is_ours(device):
                    sequence = loop.sequence(device)
                    self._open_queue(os.path.dirname(os.path.dirname(path)) + "/inflight")
                    self._loop = device, sequence
                    return

    def _is_ours(self, device: str) -> bool:
        """Another file may have our path, in another mount namespace."""
        connection = mount.connection_of(os.path.dirname(self._swapfile))
        if connection is None:
            return False
        return loop.inode_of(device) == (os.makedev(0, int(connection)), SWAPFILE)

    def _open_queue(self, path: str) -> None:
        """Read it, too: its buffer is made then.  Keeps the number of one that was open.

        A read at this moment gets the count of one or the other.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if self._queue_fd < 0:
            self._queue_fd = fd
        else:
            os.dup2(fd, self._queue_fd, inheritable=False)
            os.close(fd)
        os.pread(self._queue_fd, 64, 0)
        self.queue_file = self._queue_fd
