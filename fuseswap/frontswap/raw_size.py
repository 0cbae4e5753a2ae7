"""How much memory raw pages take: each has a check of 4 bytes (``raw_memory.py``).

Apart from it, since commands ask, and have no memory for the rest.
"""

from __future__ import annotations

from fuseswap.units import PAGE_SIZE

CHECKS_A_PAGE = PAGE_SIZE // 4


def file_bytes(slots: int) -> int:
    """Size of the memory of so many slots."""
    return (slots + -(-slots // CHECKS_A_PAGE)) * PAGE_SIZE


def slots_in(size_bytes: int) -> int:
    """How many a file of so many bytes has."""
    pages = size_bytes // PAGE_SIZE
    return pages - -(-pages // (CHECKS_A_PAGE + 1))
