"""What a process takes in swap: its part of what it shares, by place; and which area is whose."""

from __future__ import annotations

import pytest

from fuseswap.cli.swap_use import DeviceUse, SwapUse, types_of
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import find_parameter, set_parameter
from fuseswap.store.object_size import footprint
from fuseswap.store.slot_word import length_of
from fuseswap.store.table_view import TableView
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory


@pytest.fixture
def device(memory: SharedMemory) -> Device:
    device = Device(memory.attach())
    set_parameter(device, find_parameter("dedup"), "on")
    device.swapfile.write(0, memoryview(pages.compressible(7)))  # mkswap's
    device.swapfile.write(1 * PAGE_SIZE, memoryview(pages.filled(3)))
    for page in (2, 3):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(1)))
    device.swapfile.write(4 * PAGE_SIZE, memoryview(pages.compressible(2)))
    return device


@pytest.fixture
def view(memory: SharedMemory, device: Device) -> TableView:
    return TableView(*(memory.fds[name] for name in ("header", "slots", "segments")))


def alone(*mapped: int) -> dict[int, int]:
    return dict.fromkeys(mapped, 1)


def test_each_kind_of_page_is_counted(view: TableView) -> None:
    use = DeviceUse(view).of([1, 2, 3, 4, 50], alone(1, 2, 3, 4, 50))
    assert (use.pages, use.same_filled, use.duplicates, use.elsewhere) == (5, 1, 2, 1)
    whole = [footprint(length_of(view.word(PageNumber(page)))) for page in (2, 4)]
    assert use.taken_bytes == sum(whole)
    assert use.tier_bytes == 0
    assert use.age_seconds == 0, "its segment is open"


def test_a_part_of_what_is_shared(view: TableView) -> None:
    """By other pages, and by other processes that have the same page after a fork."""
    whole = footprint(length_of(view.word(PageNumber(2))))
    assert DeviceUse(view).of([2], alone(2)).taken_bytes == round(whole / 2)
    assert DeviceUse(view).of([2], {2: 3}).taken_bytes == round(whole / 6)


def test_what_nobody_has_is_counted_without_the_header(view: TableView) -> None:
    assert DeviceUse(view).unseen([1, 2]) == 2
    assert DeviceUse(view).unseen([]) == 4
    assert DeviceUse(view).unseen([1, 2, 3, 4, 50]) == 0, "one more was seen than is stored"


def test_sums_are_of_all_parts() -> None:
    one, other = SwapUse(pages=3), SwapUse(pages=4, same_filled=1)
    one.note_on_tier("a", 10.0)
    other.note_on_tier("a", 5.0)
    other.note_on_tier("b", 1.0)
    one.ages.update([1, 9])
    other.ages.update([9])
    one.add(other)
    assert (one.pages, one.same_filled, one.by_tier, one.age_seconds) == (
        7, 1, {"a": 15.0, "b": 1.0}, 9,
    )  # fmt: skip
    assert SwapUse().age_seconds is None


def test_areas_are_found_though_types_have_gaps(view: TableView) -> None:
    """Type 0 was switched off: the kernel numbers what is left 1 and 2, and does not say so."""
    ours = {"/dev/loop7": DeviceUse(view)}
    areas = ["/dev/sda2", "/dev/loop7"]
    assert types_of(areas, {1: [70, 71], 2: [1, 2]}, ours) == {"/dev/sda2": 1, "/dev/loop7": 2}
    assert types_of(areas, {5: [1, 2, 3]}, ours) == {"/dev/loop7": 5}, "alone, by its pages"
    assert types_of(areas, {5: [70, 71]}, ours) == {"/dev/sda2": 5}
    assert types_of(areas, {}, ours) == {}
