"""Which pages of a process are in swap, and where: /proc/PID/pagemap.

One 64-bit word a page of its address space.  A page in swap has bit 62 set.  Bits 0 to 4 are the
kernel's number of the swap area, its "type", and bits 5 to 54 the page there.  The kernel shows
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
    for _, words in _looks(pid):
        for word in (word for word in words if word >> _STATE_SHIFT == _IN_SWAP):
            kind = word & _TYPE_MASK
            if kind < _MOST_AREAS:
                found.setdefault(kind, array("Q")).append(word >> _OFFSET_SHIFT & _OFFSET_MASK)
    return found


def in_swap_at(pid: int, at_once: int) -> Iterator[list[int]]:
    """Where process ``pid`` has pages in swap: page numbers of its address space, so many at once.

    Raises `PermissionError`.
    """
    for first, words in _looks(pid):
        pages = [first + at for at, word in enumerate(words) if _is_in_swap(word)]
        for at in range(0, len(pages), at_once):
            yield pages[at : at + at_once]


def _is_in_swap(word: int) -> bool:
    return word >> _STATE_SHIFT == _IN_SWAP and word & _TYPE_MASK < _MOST_AREAS


def _looks(pid: int) -> Iterator[tuple[int, array[int]]]:
    """The words of all its mappings, some at once, each time with the number of the first page."""
    try:
        ranges = list(_ranges(pid))
        fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        for start, end in ranges:
            for at in range(start, end, _AT_ONCE):
                wanted = min(end - at, _AT_ONCE) * _WORD_BYTES
                yield at, array("Q", os.pread(fd, wanted, at * _WORD_BYTES))
    except ProcessLookupError:
        return  # it has ended meanwhile
    finally:
        os.close(fd)


def _ranges(pid: int) -> Iterator[tuple[int, int]]:
    """First page and the one behind the last of each mapping."""
    with open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            start, _, end = line.split(None, 1)[0].partition(b"-")
            if len(end) < 16:  # not the vsyscall page, which pagemap does not have
                yield int(start, 16) // PAGE_SIZE, int(end, 16) // PAGE_SIZE
