"""Processes that do nothing but compute, and how far they got.

Each counts loops in 8 bytes of shared memory, so that reading them costs it nothing.  They are
ordinary processes, at the niceness of the benchmark and outside the memory cgroup under pressure.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

from fuseswap.errors import HostError

_COUNTER = struct.Struct("<Q")
_SPIN = """
import mmap, struct, sys
memory = mmap.mmap(int(sys.argv[1]), 0)
put, at, count = struct.Struct("<Q").pack_into, int(sys.argv[2]), 0
while True:
    for _ in range(20000):
        pass
    count += 1
    put(memory, at, count)
"""
_START_TIMEOUT_S = 20.0
_LOOK_S = 0.05
_ALONE_S = 1.0


class Computing:
    """``processes`` that compute; what they did since a moment, as a share of what they can."""

    def __init__(self, memory: mmap.mmap, processes: int) -> None:
        self._memory = memory
        self.processes = processes
        self.alone_per_s = 0.0
        self._began = 0.0
        self._before = 0

    def loops(self) -> int:
        """All loops so far."""
        return sum(_COUNTER.unpack_from(self._memory, 8 * n)[0] for n in range(self.processes))

    def measure_alone(self) -> None:
        """How fast they are with nothing beside them."""
        self.begin()
        time.sleep(_ALONE_S)
        self.alone_per_s = (self.loops() - self._before) / (time.monotonic() - self._began)

    def begin(self) -> None:
        """From here on."""
        self._began, self._before = time.monotonic(), self.loops()

    def lost(self) -> dict[str, float]:
        """Since `begin`: what they computed of what they do alone, and processor time they lost."""
        seconds = time.monotonic() - self._began
        share = (self.loops() - self._before) / (self.alone_per_s * seconds)
        processors = min(self.processes, len(os.sched_getaffinity(0)))
        return {
            "computed_percent": 100 * share,
            "computing_lost_s": processors * seconds * (1 - share),
        }


@contextlib.contextmanager
def counters(processes: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Zeros to count in, 8 bytes for each, and the descriptor they are shared by."""
    fd = os.memfd_create("computing")
    try:
        os.ftruncate(fd, max(8 * processes, mmap.PAGESIZE))
        with mmap.mmap(fd, 0) as memory:
            yield memory, fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def computing(processes: int) -> Iterator[Computing]:
    """So many of them meanwhile; they have started, and were measured alone."""
    started = []
    with counters(processes) as (memory, fd):
        try:
            for number in range(processes):
                line = (sys.executable, "-c", _SPIN, str(fd), str(8 * number))
                started.append(subprocess.Popen(line, pass_fds=(fd,), start_new_session=True))
            found = Computing(memory, processes)
            if processes:
                _wait_until_all_count(memory, processes)
                found.measure_alone()
            yield found
        finally:
            for process in started:
                process.kill()
            for process in started:
                process.wait()


def _wait_until_all_count(memory: mmap.mmap, processes: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not all(_COUNTER.unpack_from(memory, 8 * number)[0] for number in range(processes)):
        if time.monotonic() > deadline:
            raise HostError("a computing process did not start")
        time.sleep(_LOOK_S)
