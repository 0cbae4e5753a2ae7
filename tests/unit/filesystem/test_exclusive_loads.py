"""Exclusive loads: what was read goes, what was stored since stays, and never on a swap."""

from __future__ import annotations

import pytest

from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import find_parameter, set_parameter
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.memory_stores import SharedMemory

HEADER = pages.compressible(1)[:-10] + b"SWAPSPACE2"


@pytest.fixture
def device(memory: SharedMemory) -> Device:
    """Five pages from page 1 on."""
    device = Device(memory.attach())
    for page in range(1, 6):
        write(device, page, pages.compressible(page))
    switch(device, "Y")
    return device


def switch(device: Device, text: str) -> None:
    set_parameter(device, find_parameter("exclusive_loads"), text)


def write(device: Device, page: int, data: bytes) -> None:
    device.swapfile.write(page * PAGE_SIZE, memoryview(data))


def read(device: Device, page: int, count: int = 1) -> bytes:
    return device.swapfile.read(page * PAGE_SIZE, count * PAGE_SIZE)


def stored(device: Device) -> list[int]:
    return [page for page in range(8) if device.cache.slots.words[page]]


def later(device: Device) -> None:
    """Two seconds."""
    device.swapfile.settle()
    device.swapfile.settle()


def test_a_page_that_was_read_goes_once_its_reply_is_out(device: Device) -> None:
    assert read(device, 1) == read(device, 1) == pages.compressible(1)
    device.swapfile.settle()
    assert stored(device) == [1, 2, 3, 4, 5], "a worker that dies now is asked again"
    device.swapfile.settle()
    assert stored(device) == [2, 3, 4, 5]
    assert read(device, 1) == pages.ZERO


@pytest.mark.parametrize("settled", [False, True])
def test_what_was_stored_since_stays(device: Device, settled: bool) -> None:
    read(device, 1)
    if settled:
        device.swapfile.settle()
    write(device, 1, pages.compressible(9))
    later(device)
    later(device)
    assert read(device, 1) == pages.compressible(9)


def test_a_part_of_a_page_is_no_page(device: Device) -> None:
    assert (
        device.swapfile.read(PAGE_SIZE + 512, 3 * PAGE_SIZE)[:8] == pages.compressible(1)[512:520]
    )
    device.swapfile.write(5 * PAGE_SIZE, memoryview(b"part"))
    later(device)
    assert stored(device) == [1, 4, 5]
    assert read(device, 5) == b"part" + pages.compressible(5)[4:]


def test_off_nothing_goes_and_so_by_default(memory: SharedMemory, device: Device) -> None:
    switch(device, "N")
    read(device, 1, 5)
    later(device)
    assert stored(device) == [1, 2, 3, 4, 5]
    assert not Device(memory.attach()).swapfile.exclusive_loads


def test_it_is_refused_on_a_swap(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    write(device, 0, HEADER)
    with pytest.raises(InvalidArgument, match="this is a swap"):
        switch(device, "Y")
    assert not device.swapfile.exclusive_loads
    read(device, 0)
    later(device)
    assert stored(device) == [0]


@pytest.mark.parametrize("pieces", [1, 8])
def test_it_goes_off_once_there_is_a_swap(
    device: Device, caplog: pytest.LogCaptureFixture, pieces: int
) -> None:
    read(device, 1, 5)
    size = PAGE_SIZE // pieces
    for at in range(0, PAGE_SIZE, size):
        device.swapfile.write(at, memoryview(HEADER[at : at + size]))
    assert not device.swapfile.exclusive_loads
    assert "exclusive_loads is off" in caplog.text
    read(device, 0, 6)
    later(device)
    assert stored(device) == [0, 1, 2, 3, 4, 5]
