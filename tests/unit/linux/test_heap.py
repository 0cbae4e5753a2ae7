"""The heaps that a worker makes beforehand, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

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

# Another thread of a standby has allocated meanwhile, and keeps it.
BEHIND = """
import os
from fuseswap.linux import syscalls
from fuseswap.linux.heap import HEAP_FILE_BYTES, Heap

fd = os.memfd_create("heap")
os.ftruncate(fd, HEAP_FILE_BYTES)
heap = Heap(1 << 20)
heap.reserve()
top = syscalls.heap_top()[0]
kept = []
while syscalls.heap_top()[0] - top < 100_000:
    kept.append(b"x" * (20_000 + len(kept)))
heap.fill(5 << 20, fd)
last = syscalls.heap_top()[0] + (1 << 20) >> 12
first = heap._file_end - HEAP_FILE_BYTES >> 12
with open("/proc/self/pagemap", "rb") as file:
    file.seek(first * 8)
    entries = memoryview(file.read((last - first) * 8)).cast("Q")
print(sum(not entry >> 63 for entry in entries))
"""

# Larger than what is ahead, and freed: what malloc gives out again has no hole.
JUMP = """
import ctypes, resource
from fuseswap.linux.heap import HEAP_FILE_BYTES, Heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
heap = Heap(1 << 20)
heap.reserve()
heap.fill(1 << 20, None)
large = [libc.malloc(100_000) for number in range(160)]  # never touched
kept = b"x" * 20_000
heap.top_up()
for block in large:
    libc.free(block)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

faults()
before = faults()
objects = [b"x" * (100_000 - 50 * number) for number in range(160)]
print(faults() - before)
"""

# A dictionary is trained: page faults while the interpreter lock is held make requests wait.
TRAINING = """
import resource
from fuseswap.codecs.recompressor import Recompressor, train
from fuseswap.linux import syscalls
from fuseswap.linux.heap import Heap
from tests.support import pages
from tests.unit.codecs.test_recompressor import with_lz4

objects = [with_lz4(pages.related(number)) for number in range(1280)]
heap = Heap(2 << 20)
heap.fill(5 << 20, None)
train(Recompressor(12), objects[:300])  # what is made once

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

heap.borrow()
top, end = syscalls.heap_top()
before = faults()
train(Recompressor(12), objects)
print(faults() - before)
heap.give_back()
"""

# What stays of a training: the growth of the heap in KiB, while its result is kept; and the hole
# in MiB that is told where another thread's block lies above.
HOLE = """
import ctypes
from fuseswap.codecs.recompressor import Recompressor, train
from fuseswap.linux import syscalls
from fuseswap.linux.heap import Heap
from tests.support import pages
from tests.unit.codecs.test_recompressor import with_lz4

objects = [with_lz4(pages.related(number)) for number in range(1280)]
heap = Heap(2 << 20)
heap.fill(5 << 20, None)
train(Recompressor(12), objects[:300])  # what is made once
heap.borrow()
before = syscalls.heap_top()[0]
trained = train(Recompressor(12), objects)
%s
heap.give_back()
print(%s)
"""
ABOVE = """
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
block = libc.malloc(syscalls.heap_top()[1] - syscalls.heap_top()[0] - (30 << 20))
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_small_objects_find_their_memory_there() -> None:
    """Growth of the address space, in pages."""
    assert printed(SMALL) == 0


def test_large_objects_find_their_memory_there() -> None:
    """4 MB of them: page faults."""
    assert printed(LARGE) <= 2


def test_what_lies_below_the_top_is_there_as_well() -> None:
    """malloc hands the block out first, wherever its top is: pages that are missing."""
    assert printed(BEHIND) == 0


def test_a_growth_past_what_was_ahead_leaves_no_hole() -> None:
    assert printed(JUMP) <= 2


@pytest.mark.slow
def test_a_dictionary_is_trained_in_memory_that_is_there() -> None:
    assert printed(TRAINING) <= 2, "1780 without that"


@pytest.mark.slow
def test_a_training_leaves_no_hole_below_its_result() -> None:
    growth_kib = printed(HOLE % ("", "syscalls.heap_top()[0] - before >> 10"))
    assert growth_kib < 1024, "5300 where the result lay above the samples"


@pytest.mark.slow
def test_a_hole_is_told_where_something_lies_above_it() -> None:
    assert printed(HOLE % ("", "heap.hole_bytes >> 20")) == 0
    assert printed(HOLE % (ABOVE, "heap.hole_bytes >> 20")) == 24, "as much as was borrowed"


def test_a_standby_has_some_ahead() -> None:
    """200 kB above what was free: its feeder reads files with the interpreter lock held."""
    assert printed(STANDBY) <= 2
