"""The worker's heap: made before it serves, and neither given back nor grown by a request.

A request that grows the heap waits in the page allocator, and reclaim waits for the request.
There are two heaps:

    malloc     what is larger than 512 bytes: pages, replies, tables.  It gives nothing back,
               has `_SPACE_BYTES` of address space from the start, and the feeder keeps some MiB
               of it resident above what is used
    pymalloc   Python's small objects, in arenas of 1 MiB that it unmaps once they are
               empty: so a few are made beforehand, and a small object in each keeps it there

malloc grows under a lock that every thread needs, so the feeder must not make it grow: it only
touches what malloc has already.  The rest is the process's private memory: data of
libraries, stacks.

A standby has all of this but the memory above what malloc uses.  That is a file in the shared
memory, mapped over a block of malloc's.  The worker that serves has it, and leaves it to the
next one when it dies.  So it is there when there is no other memory, and it is paid for once.

No page below the resident end is missing.  Another thread may allocate behind the block before it
is freed.  Then the top lies above it, and malloc hands the block out first.  So the block is made
resident by itself, and the pages ahead begin where the last ones ended, not at the top.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

from fuseswap.linux import syscalls
from fuseswap.units import MIB, PAGE_SIZE

HEAP_FILE_BYTES = 6 * MIB  # FUSE's buffer, a device, replies, requests that wait (2 MiB each way)
_BLOCK_BYTES = HEAP_FILE_BYTES + 2 * PAGE_SIZE  # with the pages at its ends
_LARGEST_BYTES = 512  # of pymalloc's objects
_SMALL = _LARGEST_BYTES - sys.getsizeof(b"")  # of them, as `bytes`
_SPAN_SHIFT = 19  # every arena holds a whole aligned half MiB
_SPACE_BYTES = 64 * MIB
_STEP_BYTES = 512 << 10
_TRAINING_BYTES = 24 * MIB  # 5 of pages, twice, 11 of zstd, and its compressors
_STANDBY_BYTES = 256 << 10  # above what a standby uses: its threads read a few files a second
_LEAST_BYTES = 1 * MIB  # above the top, while the block is free
_STACK_BYTES = 256 << 10  # below what the main thread has used: lz4 alone takes 130 KiB


class Heap:
    """The two heaps of this process; one object, made early and kept."""

    def __init__(self, small_bytes: int, space_bytes: int = _SPACE_BYTES) -> None:
        """Make ``small_bytes`` of pymalloc's arenas, and have malloc keep what it gets.

        ``space_bytes``: of addresses.  After `protect`: mappings that exist when that is called
        become resident as a whole.
        """
        syscalls.keep_heap()
        objects = [bytes(_SMALL) for _ in range(small_bytes // _LARGEST_BYTES)]
        pins: dict[int, bytes] = {}
        for one in objects:
            pins.setdefault(id(one) >> _SPAN_SHIFT, one)
        self._pins = list(pins.values())
        top, _ = syscalls.heap_top()
        self._resident_to = top & -PAGE_SIZE  # of which on all is there, once it is not 0
        syscalls.extend_heap(space_bytes)
        self._file_end = self._block = self._ahead_bytes = 0
        self._block_missing = 0  # address of `_BLOCK_BYTES` that are to be made resident
        self._enough_to = 0  # while the top is not above it, the block is free
        self._borrowed_at = 0  # the top when `borrow` was called
        self.hole_bytes = 0  # what `give_back` could not return: something lies above it

    def reserve(self) -> None:
        """Have the place for `fill`'s file, the last of what is made before the turn comes.

        So `fill` neither grows the heap nor touches a page that is not there; nor does what a
        standby's threads do meanwhile.
        """
        self._populate_to(syscalls.heap_top()[0])
        self._block = syscalls.reserve_heap(HEAP_FILE_BYTES)
        self._resident_to = syscalls.heap_top()[0] & -PAGE_SIZE  # the block itself is `fill`'s
        self._ahead_bytes = _STANDBY_BYTES
        self.top_up()

    def fill(self, ahead_bytes: int, fd: int | None) -> None:
        """Keep ``ahead_bytes`` of malloc's resident from now on.

        At first it is the file ``fd``, which no other process may use, if there is one.
        """
        block, self._block = self._block, 0
        if block:
            self._fill_block(block, fd)
            if (top := syscalls.heap_top()[0]) > block:  # another has allocated behind it
                self._enough_to = top + _LEAST_BYTES // 2
        self._ahead_bytes = ahead_bytes  # last: from here on the feeder touches what is there
        self.top_up()

    def _fill_block(self, block: int, fd: int | None) -> None:
        """Make it resident, and give it to malloc."""
        self._block_missing = block & -PAGE_SIZE
        if fd is not None:
            self._file_end = syscalls.back_heap(block, HEAP_FILE_BYTES, fd)
            self._block_missing = self._file_end - HEAP_FILE_BYTES
        with contextlib.suppress(OSError):  # no memory: the feeder has it by and by
            self._populate_block()
        syscalls.free_heap(block)

    def _populate_block(self) -> None:
        if self._block_missing:
            syscalls.populate_write(self._block_missing, _BLOCK_BYTES)
            self._block_missing = 0

    def keep_ahead(self, ahead_bytes: int) -> None:
        """Keep so much more resident from now on: the feeder makes it by and by."""
        self._ahead_bytes = max(self._ahead_bytes, ahead_bytes)

    def borrow(self) -> bool:
        """Have `_TRAINING_BYTES` more resident, and large blocks in them; whether that worked.

        May wait, without the interpreter lock.  The training of a dictionary writes to new memory
        with that lock.  Were it not there, requests would wait for the thread that trains.
        """
        top, end = syscalls.heap_top()
        self._borrowed_at = top
        try:
            self._populate_to(min(top + self._ahead_bytes + _TRAINING_BYTES, end))
        except OSError:
            return False
        syscalls.have_large_blocks(True)
        return True

    def give_back(self) -> None:
        """Return what lies far above what is used: after `borrow`.

        Only while no thread allocates without the interpreter lock: malloc must not give away
        meanwhile what this drops.  A block that was allocated beside the training, and stays, keeps
        the top up.  The next training gets the free memory below it first.
        """
        syscalls.have_large_blocks(False)
        top, end = syscalls.heap_top()
        grown = min(max(top - self._borrowed_at, 0), _TRAINING_BYTES)
        self.hole_bytes = max(self.hole_bytes, grown)
        start = max((top + self._ahead_bytes + PAGE_SIZE) & -PAGE_SIZE, self._file_end)
        if start < end & -PAGE_SIZE:
            with contextlib.suppress(OSError):  # before Linux 5.18
                syscalls.drop_pages(start, (end & -PAGE_SIZE) - start)
                self._resident_to = min(self._resident_to, start)

    def top_up(self) -> None:
        """Make what is ahead resident: the feeder's chore.  No lock of malloc's is held."""
        top, end = syscalls.heap_top()
        ahead = self._ahead_bytes
        if top <= self._enough_to:
            ahead = max(ahead - HEAP_FILE_BYTES, _LEAST_BYTES)
        wanted = min(top + ahead, end)
        with contextlib.suppress(OSError):  # no memory: again in a second
            self._populate_block()
            if wanted - self._resident_to >= min(_STEP_BYTES, ahead // 2) > 0:
                self._populate_to(wanted)

    def _populate_to(self, address: int) -> None:
        """Raises `OSError`."""
        wanted = address & -PAGE_SIZE
        if wanted > self._resident_to > 0:
            syscalls.populate_write(self._resident_to, wanted - self._resident_to)
            self._resident_to = wanted


def lock_private() -> None:
    """Make all that is mapped privately resident, but malloc's heap: see `Heap`.

    `mlockall` locks what is mapped after it only as it is touched.
    """
    for name, start, _ in _private_mappings():
        if name == "[stack]":  # the kernel lets it grow down to whatever is touched
            ctypes.memset(start - _STACK_BYTES, 0, _STACK_BYTES)
    for name, start, end in _private_mappings():
        if name not in ("[heap]", "[vvar]"):
            with contextlib.suppress(OSError):  # a limit of an ordinary user's
                syscalls.mlock(start, end - start)


def _private_mappings() -> Iterator[tuple[str, int, int]]:
    """Name, start and end of what this process maps privately and may read."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, modes, _, _, _, *name = line.split(maxsplit=5)
        if modes[3] == "p" and modes[0] == "r":
            start, end = (int(word, 16) for word in span.split("-"))
            yield (name[0] if name else ""), start, end
