"""What an object takes in zsmalloc, the allocator of zram and zswap (Linux, mm/zsmalloc.c).

Sizes are in classes 16 bytes apart.  A class lays its objects end to end in the one to eight pages
that waste least.  Classes with as many objects in as many pages are one.  An object has a handle
of 8 bytes in front.  zram keeps what does not fit in a class with several objects as a whole page.
"""

from __future__ import annotations

import functools

from fuseswap.units import PAGE_SIZE

_DELTA = PAGE_SIZE >> 8
_SMALLEST = 32
_MOST_PAGES = 8  # CONFIG_ZSMALLOC_CHAIN_SIZE
_HANDLE_BYTES = 8


@functools.cache
def _classes() -> dict[int, tuple[int, int]]:
    """Pages and objects of the class of each size."""
    return {size: _layout(size) for size in range(_SMALLEST, PAGE_SIZE + 1, _DELTA)}


def _layout(size: int) -> tuple[int, int]:
    pages = min(range(1, _MOST_PAGES + 1), key=lambda n: n * PAGE_SIZE % size)
    return pages, pages * PAGE_SIZE // size


def object_bytes(length: int) -> float:
    """Memory for a payload of ``length`` bytes, in a class whose pages are full."""
    size = max(length + _HANDLE_BYTES, _SMALLEST)
    if size > PAGE_SIZE:
        return PAGE_SIZE
    pages, objects = _classes()[-(-size // _DELTA) * _DELTA]
    return pages * PAGE_SIZE / objects if pages < objects else PAGE_SIZE
