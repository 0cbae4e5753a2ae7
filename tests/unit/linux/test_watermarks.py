"""When memory is short, by the numbers of /proc/zoneinfo."""

from __future__ import annotations

import os

import pytest

from fuseswap.linux.watermarks import Watermarks

ZONES = b"""Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 44931
  pages free     %d
        boost    0
        min      26
        low      32
        high     38
        spanned  4095
        managed  3840
        protection: (0, 314)
Node 0, zone    DMA32
  pages free     %d
        min      1796
        low      1934
        high     2072
        spanned  94208
        managed  82839
Node 0, zone  Movable
  pages free     0
        min      32
        low      32
        high     32
        spanned  0
        managed  0
"""


@pytest.mark.parametrize(
    ("dma", "dma32", "reached"), [(340, 1700, True), (340, 2100, False), (20, 5000, False)]
)
def test_min_is_reached_where_the_zones_that_matter_are_below_it(
    tmp_path: object, dma: int, dma32: int, reached: bool
) -> None:
    path = f"{tmp_path}/zoneinfo"
    with open(path, "wb") as file:
        file.write(ZONES % (dma, dma32))
    watermarks = Watermarks(path)
    assert watermarks.are_reached() is reached
    watermarks.close()


@pytest.mark.parametrize(
    ("resident_pages", "poor", "bare"),
    [(400, True, True), (2000, True, False), (3000, True, False), (4000, False, False)],
)
def test_others_are_poor_below_4_percent_of_memory(
    tmp_path: object, resident_pages: int, poor: bool, bare: bool
) -> None:
    """Of all zones, what lies on the LRU lists and what is free: 86679 pages are managed."""
    lru = b"".join(
        b"\n      nr_zone_%s %d" % (kind, resident_pages // 4)
        for kind in (b"inactive_anon", b"active_anon", b"inactive_file", b"active_file")
    )
    path = f"{tmp_path}/zoneinfo"
    with open(path, "wb") as file:
        zones = ZONES % (20, 200)
        file.write(zones.replace(b"\n        spanned", lru + b"\n        spanned", 1))
    watermarks = Watermarks(path)
    assert watermarks.others_are_poor() is poor
    assert watermarks.others_are_bare() is bare
    watermarks.close()


def test_a_kernel_without_zoneinfo_is_never_short() -> None:
    watermarks = Watermarks("/nonexistent")
    watermarks.refresh()
    assert not watermarks.are_reached()
    assert not watermarks.others_are_poor()


def test_watermarks_that_cannot_be_read_stay_as_they_were() -> None:
    levels = Watermarks()
    before = levels._high_bytes
    os.close(levels._fd)
    levels._fd = os.open("/", os.O_RDONLY)  # EISDIR
    levels.refresh()
    levels.close()
    assert levels._high_bytes == before
