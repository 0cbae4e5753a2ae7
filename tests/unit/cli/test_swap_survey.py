"""What is where in a swapfile, in cells; and that the work is bounded, whatever the size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from fuseswap.cli.swap_survey import (
    AGES,
    MOST_CELLS,
    MOST_CLUSTERS,
    SIZE_STEP,
    Cell,
    State,
    survey,
)
from fuseswap.filesystem.device import Device
from fuseswap.store.geometry import CLUSTER_PAGES
from fuseswap.store.slot_word import (
    OBJECT,
    ZERO_FILLED,
    foreign_word,
    length_of,
    object_word,
    spoiled,
)
from fuseswap.store.table_view import TableView
from fuseswap.units import PAGE_SIZE, PageNumber, SegmentId
from tests.support import pages
from tests.support.memory_stores import SMALL, SharedMemory
from tests.support.tiered_devices import Tiered

HUGE_PAGES = (16 << 40) // PAGE_SIZE


def write(device: Device, page: int, data: bytes) -> None:
    device.swapfile.write(page * PAGE_SIZE, memoryview(data))


def view_of(memory: SharedMemory) -> TableView:
    return TableView(*(memory.fds[name] for name in ("header", "slots", "segments")))


def set_word(memory: SharedMemory, page: int, word: int) -> None:
    os.pwrite(memory.fds["slots"], word.to_bytes(8, "little"), page * 8)


@dataclass
class Slots:
    """A slot table of 16 TiB, sparse."""

    fd: int
    looked: list[int] = field(default_factory=list)

    def fill(self, cluster: int) -> None:
        os.pwrite(self.fd, ZERO_FILLED.to_bytes(8, "little") * CLUSTER_PAGES, cluster * PAGE_SIZE)


@pytest.fixture
def slots() -> Iterator[Slots]:
    fd = os.memfd_create("slots")
    os.ftruncate(fd, HUGE_PAGES * 8)
    yield Slots(fd)
    os.close(fd)


@pytest.fixture
def huge(memory: SharedMemory, slots: Slots) -> TableView:
    """Notes the clusters whose words were read."""

    class Noting(TableView):
        def words(self, cluster: int):  # type: ignore[no-untyped-def]
            slots.looked.append(cluster)
            return super().words(cluster)

    memory.attach()
    return Noting(memory.fds["header"], slots.fd, memory.fds["segments"])


def test_each_page_is_in_its_state(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    write(device, 0, pages.filled(3))
    for page in (1, 2, 700):
        write(device, page, pages.compressible(page))
    write(device, 3, pages.incompressible(9))
    set_word(memory, 4, foreign_word(2, 77))
    set_word(memory, 5, spoiled(ZERO_FILLED))
    set_word(memory, 6, object_word(SegmentId(8), 0, 100, 4))  # of a segment that is free
    found = survey(view_of(memory), SMALL.page_count)
    assert found.states == [3, 1, 1, 0, 1, 2]
    assert found.ages == [4, 0, 0, 0, 0, 0], "their segments are open"
    assert not found.is_sample


def test_cells_are_all_of_the_swapfile_in_order(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    for page in (0, 511, 512, 1279):
        write(device, page, pages.filled(0))
    found = survey(view_of(memory), SMALL.page_count, cells=16)
    assert (found.cell_pages, len(found.cells)) == (128, 10)
    assert [cell.looked for cell in found.cells] == [128] * 10
    assert [cell.stored for cell in found.cells] == [1, 0, 0, 1, 1, 0, 0, 0, 0, 1]
    assert found.cells[0].main_state is State.SAME_FILLED
    assert found.cells[1].main_state is None


def test_the_last_cell_has_the_pages_that_are_left(memory: SharedMemory) -> None:
    write(Device(memory.attach()), 1279, pages.filled(0))
    found = survey(view_of(memory), SMALL.page_count, cells=2)
    assert [cell.looked for cell in found.cells] == [1024, 256]
    assert found.looked == SMALL.page_count


def test_nothing_is_shown_behind_the_last_page(memory: SharedMemory) -> None:
    write(Device(memory.attach()), 3, pages.filled(0))
    found = survey(view_of(memory), SMALL.page_count)
    assert (found.pages, found.page_count) == (CLUSTER_PAGES, SMALL.page_count)
    assert sum(found.states) == 1


async def test_pages_on_a_tier_are_found_there(tiered: Tiered) -> None:
    on_tier = await tiered.move_out()
    assert on_tier
    found = survey(view_of(tiered.memory), tiered.cache.page_count)
    assert found.states[State.ON_TIER] == len(on_tier) == sum(found.on_tiers)
    in_memory = len(tiered.expected) - len(on_tier)
    assert found.states[State.COMPRESSED] == in_memory == sum(found.in_memory)


def test_an_empty_table_has_no_cells(huge: TableView) -> None:
    found = survey(huge, HUGE_PAGES)
    assert (found.pages, found.cells, found.states) == (0, [], [0] * len(State))


def test_sizes_are_those_of_the_objects(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    write(device, 1, pages.compressible(1))
    write(device, 2, pages.incompressible(2))
    view = view_of(memory)
    found = survey(view, SMALL.page_count)
    length = length_of(view.word(PageNumber(1)))
    assert found.in_memory[(length - 1) // SIZE_STEP] == 1
    assert found.in_memory[-1] == 1
    assert sum(found.in_memory) == 2
    assert sum(found.on_tiers) == 0


def test_the_age_of_a_cell_is_its_median() -> None:
    assert Cell(ages=[0] * AGES).age is None
    assert Cell(ages=[1, 0, 0, 0, 0, 0]).age == 0
    assert Cell(ages=[1, 0, 5, 0, 0, 2]).age == 2
    assert Cell(ages=[2, 0, 0, 0, 0, 3]).age == 5


def test_up_to_so_many_clusters_all_are_read(huge: TableView, slots: Slots) -> None:
    for cluster in (0, 5, 1 << 22):
        slots.fill(cluster)
    found = survey(huge, HUGE_PAGES)
    assert slots.looked == [0, 5, 1 << 22]
    assert not found.is_sample
    assert found.states[State.SAME_FILLED] == 3 * CLUSTER_PAGES
    assert len(found.cells) <= MOST_CELLS
    assert found.pages == ((1 << 22) + 1) * CLUSTER_PAGES


def test_of_more_some_of_each_cell_are_read(huge: TableView, slots: Slots) -> None:
    for cluster in range(100):
        slots.fill(cluster)
    found = survey(huge, HUGE_PAGES, cells=8, most=40)
    assert found.is_sample
    assert len(slots.looked) <= 40
    assert slots.looked == sorted(set(slots.looked))
    assert all(cell.looked for cell in found.cells)
    assert all(cell.stored == cell.looked for cell in found.cells), "all that is there is stored"
    assert len(found.cells) <= 8


def test_16_tib_take_no_more_looks_than_4_gib(huge: TableView, slots: Slots) -> None:
    """Every 1024th cluster: 8192 in all, from the first to the last."""
    for cluster in range(0, HUGE_PAGES // CLUSTER_PAGES, 1024):
        slots.fill(cluster)
    slots.fill(HUGE_PAGES // CLUSTER_PAGES - 1)
    found = survey(huge, HUGE_PAGES)
    assert found.pages == HUGE_PAGES
    assert len(found.cells) == MOST_CELLS
    assert MOST_CELLS <= len(slots.looked) <= MOST_CLUSTERS


def test_a_word_is_followed_nowhere_out_of_bounds(memory: SharedMemory) -> None:
    Device(memory.attach())
    set_word(memory, 1, object_word(SegmentId((1 << 21) - 1), 1048568, 4096, 15))
    assert object_word(SegmentId(1), 0, 1, 4) & OBJECT
    found = survey(view_of(memory), SMALL.page_count)
    assert found.states[State.NOT_FOUND] == 1
