"""What a table says of itself costs what is stored, not what could be."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

import pytest

from fuseswap.store.region import Region
from fuseswap.store.slot_table import SlotTable
from fuseswap.units import FIRST_PAGE, PAGE_SIZE, PageNumber

PAGES = 1 << 32  # 16 TiB: 8 million clusters
LAST = PageNumber(PAGES - 1)
WORD = 0b11
MOST_LOOKS = 100


class Watched:
    """`SlotTable.used`, of which at most `MOST_LOOKS` are looked at, and never all."""

    def __init__(self, used: array[int]) -> None:
        self._used = used
        self.looks = 0

    def __len__(self) -> int:
        return len(self._used)

    def __getitem__(self, index: int | slice) -> int | array[int]:
        self.looks += 1 if isinstance(index, int) else len(range(*index.indices(len(self))))
        assert self.looks <= MOST_LOOKS
        return self._used[index]


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlotTable]:
    """One page is stored, in the last cluster."""
    fd = os.memfd_create("slots", os.MFD_CLOEXEC)
    os.ftruncate(fd, 8 * PAGES)
    table = SlotTable(Region(fd), PAGES)
    table.allocate(LAST)
    table.commit(LAST, WORD)
    monkeypatch.setattr(table, "used", Watched(table.used))
    yield table
    table.close()
    os.close(fd)


def test_numbers_look_at_clusters_that_are_there(slots: SlotTable) -> None:
    assert slots.stored_pages == 1
    assert slots.allocated_bytes == PAGE_SIZE
    assert slots.used_clusters() == 1
    assert slots.ready_bytes == 0
    assert slots.uncounted == 0


def test_so_does_the_way_to_the_next_page(slots: SlotTable) -> None:
    assert slots.next_stored(FIRST_PAGE) == LAST
    assert [page for page, _ in slots.clusters()] == [PAGES - 512]


def test_runs_end_where_clusters_are_missing_or_asked_no_further(slots: SlotTable) -> None:
    for cluster in (0, 1, 2, 5):
        slots.allocate(PageNumber(512 * cluster))
    last = PAGES // 512 - 1
    assert list(slots.present_runs()) == [(0, 3), (5, 6), (last, last + 1)]
    assert list(slots.present_runs(1, 6)) == [(1, 3), (5, 6)]
    assert list(slots.present_runs(1, 2)) == [(1, 2)]
