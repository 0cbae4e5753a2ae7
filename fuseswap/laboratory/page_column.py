"""One number for each page, 0 at first.  Takes memory only around pages that got another one."""

from __future__ import annotations

import mmap

_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)


class PageColumn:
    """Of ``count`` pages; ``code``: a type of `array`, such as ``Q``.  `numbers` is the view."""

    def __init__(self, count: int, code: str) -> None:
        self._item_bytes = memoryview(bytearray(8)).cast(code).itemsize  # type: ignore[call-overload]
        self._memory = mmap.mmap(-1, max(count, 1) * self._item_bytes, flags=_FLAGS)
        self.numbers = memoryview(self._memory).cast(code)  # type: ignore[call-overload]

    def clear(self, first: int, count: int) -> None:
        """Set ``count`` numbers from ``first`` to 0; whole pages of memory are given back."""
        start, end = first * self._item_bytes, (first + count) * self._item_bytes
        inner = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        outer = end // mmap.PAGESIZE * mmap.PAGESIZE
        if inner < outer and self._give_back(inner, outer):
            self._fill(start, inner)
            self._fill(outer, end)
        else:
            self._fill(start, end)

    def _give_back(self, start: int, end: int) -> bool:
        try:
            self._memory.madvise(mmap.MADV_DONTNEED, start, end - start)
        except OSError:  # locked memory stays
            return False
        return True

    def _fill(self, start: int, end: int) -> None:
        self._memory[start:end] = bytes(end - start)
