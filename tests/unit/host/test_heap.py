"""The heaps that a worker makes beforehand."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: the heaps are the process's.
PROGRAM = """
import gc
from fuseswap.host.heap import Heap

def size():
    return int(open("/proc/self/statm").read().split()[0])

heap = Heap(4 << 20)
heap.fill(1 << 20, None)
gc.collect()
before = size()
objects = [(number, str(number)) for number in range(20_000)]  # 3 MiB, in objects of up to 64 bytes
print(size() - before)
"""


def test_small_objects_find_their_memory_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) == 0
