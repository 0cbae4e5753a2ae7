"""How much a device has written back so far, for `writeback` of any kind."""

from __future__ import annotations

from pathlib import Path

from fuseswap.linux.timed_file import read_file

STUCK = "writeback does not go on: are the tiers full, or the budget spent?"


def moved(stats: Path) -> tuple[int, int]:
    """Pages that were written back so far, and units of 4096 bytes."""
    names = ("written_back_pages", "bd_writes")
    pages, units = (int(read_file(stats / name)) for name in names)
    return pages, units
