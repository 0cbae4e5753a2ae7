"""Buffers for direct I/O: page-aligned, resident from the start, and no more of them ever.

Who finds none free waits in line for one that comes back: I/O that is under way ends without
any memory, so the line moves.  A larger one will do.  In line are requests of the
transport, which bounds them, and one segment at a time.

    8 KiB    128    an object, wherever it lies
    64 KiB    24    neighbours, and a run of pages on its way to their places
    136 KiB    4    a window of read-ahead, with both its edges
    1 MiB      1    a whole segment that is read back

These are the backing file's.  A disk that does not answer keeps what it has for good.  So each
file that is attached later, or is half of a mirror, has some of its own (`ATTACHED_SIZES`).
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Sequence

from fuseswap.linux import syscalls
from fuseswap.units import MIB, PAGE_SIZE

SIZES = ((2 * PAGE_SIZE, 128), (16 * PAGE_SIZE, 24), (34 * PAGE_SIZE, 4), (MIB, 1))

ATTACHED_SIZES = ((2 * PAGE_SIZE, 64), (16 * PAGE_SIZE, 12), (34 * PAGE_SIZE, 4), (MIB, 1))

BUFFER_BYTES = sum(size * count for size, count in SIZES)

Use = Callable[[memoryview], None]


class Buffers:
    """``sizes``: bytes (whole pages) and count of each kind, smallest first."""

    def __init__(
        self, sizes: Sequence[tuple[int, int]] = SIZES, memory: mmap.mmap | None = None
    ) -> None:
        """In ``memory`` of `BUFFER_BYTES`, resident, or in some of their own."""
        whole = memoryview(memory or mmap.mmap(-1, sum(size * count for size, count in sizes)))
        self._free: list[tuple[int, list[memoryview]]] = []
        start = 0
        for size, count in sizes:
            end = start + size * count
            self._free.append((size, [whole[at : at + size] for at in range(start, end, size)]))
            start = end
        self._line: deque[tuple[int, Use]] = deque()

    def take(self, size: int, use: Use) -> None:
        """Call ``use`` with at least ``size`` bytes, at once or when one comes back."""
        buffer = None if self._line else self._find(size)
        if buffer is None:
            self._line.append((size, use))
        else:
            use(buffer)

    def _find(self, size: int) -> memoryview | None:
        for held, free in self._free:
            if size <= held and free:
                return free.pop()
        return None

    def give_back(self, buffer: memoryview) -> None:
        """The user of ``buffer`` has done with it; the next in line may get one."""
        for held, free in self._free:
            if held == len(buffer):
                free.append(buffer)
        while self._line and (found := self._find(self._line[0][0])) is not None:
            self._line.popleft()[1](found)


def resident_buffers(sizes: Sequence[tuple[int, int]]) -> Buffers:
    """With memory of their own, all of it taken now."""
    memory = mmap.mmap(-1, sum(size * count for size, count in sizes))
    syscalls.make_resident(memory)
    return Buffers(sizes, memory)
