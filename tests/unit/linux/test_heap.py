"""The heaps that a worker makes beforehand, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SMALL = """
import gc
from fuseswap.linux.heap import Heap

def size():
    return int(open("/proc/self/statm").read().split()[0])

heap = Heap(4 << 20)
heap.fill(1 << 20, None)
gc.collect()
before = size()
objects = [(number, str(number)) for number in range(20_000)]  # 3 MiB, in objects of up to 64 bytes
print(size() - before)
"""


LARGE = """
import os, resource
from fuseswap.linux import syscalls
from fuseswap.linux.heap import HEAP_FILE_BYTES, Heap

fd = os.memfd_create("heap")
os.ftruncate(fd, HEAP_FILE_BYTES)
heap = Heap(1 << 20)
heap.reserve()
heap.fill(5 << 20, fd)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

faults()
before = faults()
objects = [b"x" * (100_000 + number) for number in range(40)]
print(faults() - before)
"""

STANDBY = """
import resource
from fuseswap.linux import syscalls
from fuseswap.linux.heap import Heap

heap = Heap(1 << 20)
heap.reserve()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

faults()
top, before = syscalls.heap_top()[0], faults()
objects = []
while syscalls.heap_top()[0] - top < 200_000:
    objects.append(b"x" * (20_000 + len(objects)))
print(faults() - before)
"""


def printed(program: str) -> int:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


def test_small_objects_find_their_memory_there() -> None:
    """Growth of the address space, in pages."""
    assert printed(SMALL) == 0


def test_large_objects_find_their_memory_there() -> None:
    """4 MB of them: page faults."""
    assert printed(LARGE) <= 2


def test_a_standby_has_some_ahead() -> None:
    """200 kB above what was free: its feeder reads files with the interpreter lock held."""
    assert printed(STANDBY) <= 2
