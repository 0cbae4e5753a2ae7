"""Which pages of a process are in swap, and where: /proc/PID/pagemap.

One 64-bit word a page of its address space.  Of a page in swap bit 62 is set, bits 0 to 4 are the
kernel's number of the swap area (its "type"), and bits 5 to 54 the page there.  The kernel shows
the latter to CAP_SYS_ADMIN alone.  Pages of tmpfs and shared memory that are swapped out do not
show (Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

from fuseswap.units import PAGE_SIZE

_WORD_BYTES = 8
_AT_ONCE = 1 << 16  # pages looked at in one call: 512 KiB of words
_IN_SWAP = 1  # bits 62 and 63
_STATE_SHIFT = 62
_TYPE_MASK = 0x1F
_MOST_AREAS = 24  # types beyond are migration entries and the like (``MAX_SWAPFILES``)
_OFFSET_SHIFT = 5
_OFFSET_MASK = (1 << 50) - 1


def processes() -> list[int]:
    """Every process there is."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def in_swap(pid: int) -> dict[int, array[int]]:
    """Pages of process ``pid`` by type of their area, as page numbers there.

    Empty for one that is gone, or that has no memory of its own.  Raises `PermissionError`.
    """
    found: dict[int, array[int]] = {}
    try:
        ranges = list(_ranges(pid))
        fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return found
    try:
        for start, end in ranges:
            for word in _words(fd, start, end):
                kind = word & _TYPE_MASK
                if kind < _MOST_AREAS:
                    pages = found.setdefault(kind, array("Q"))
                    pages.append(word >> _OFFSET_SHIFT & _OFFSET_MASK)
    except ProcessLookupError:
        pass  # it has ended meanwhile
    finally:
        os.close(fd)
    return found


def _ranges(pid: int) -> Iterator[tuple[int, int]]:
    """First page and the one behind the last of each mapping."""
    with open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            start, _, end = line.split(None, 1)[0].partition(b"-")
            if len(end) < 16:  # not the vsyscall page, which pagemap does not have
                yield int(start, 16) // PAGE_SIZE, int(end, 16) // PAGE_SIZE


def _words(fd: int, start: int, end: int) -> Iterator[int]:
    """The words of pages in swap, from page ``start`` to before ``end``."""
    while start < end:
        wanted = min(end - start, _AT_ONCE) * _WORD_BYTES
        words = array("Q", os.pread(fd, wanted, start * _WORD_BYTES))
        if not words:
            return
        yield from (word for word in words if word >> _STATE_SHIFT == _IN_SWAP)
        start += len(words)
