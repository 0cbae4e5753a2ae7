"""Memory and processor time of a process, from the counters of the kernel."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

from fuseswap.linux.process import own_bytes, used_seconds
from fuseswap.units import MIB


def test_own_memory_counts() -> None:
    before = own_bytes(os.getpid())
    assert before > MIB
    with mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapping:
        for at in range(0, 64 * MIB, mmap.PAGESIZE):
            mapping[at] = 1
        assert own_bytes(os.getpid()) - before > 60 * MIB


def test_shared_memory_does_not() -> None:
    before = own_bytes(os.getpid())
    fd = os.memfd_create("arena")
    os.ftruncate(fd, 64 * MIB)
    with mmap.mmap(fd, 64 * MIB) as mapping:
        for at in range(0, 64 * MIB, mmap.PAGESIZE):
            mapping[at] = 1
        assert own_bytes(os.getpid()) - before < 8 * MIB
    os.close(fd)


def test_a_process_that_has_ended_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert own_bytes(process.pid) == 0  # a zombie
    assert own_bytes(process.pid) == 0
    assert used_seconds(process.pid) is None


def test_own_time_counts() -> None:
    before = used_seconds(os.getpid())
    assert before is not None
    began = time.process_time()
    while time.process_time() - began < 0.05:
        pass
    after = used_seconds(os.getpid())
    assert after is not None
    assert after - before >= 0.03  # in steps of 0.01 s
