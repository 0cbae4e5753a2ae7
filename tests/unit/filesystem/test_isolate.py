"""An isolated device shares nothing between pages, and stays so."""

from __future__ import annotations

import pytest

from fuseswap.daemon.config import DeviceConfig
from fuseswap.errors import Isolated
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameter_values import parse_switch
from fuseswap.filesystem.parameters import (
    find_parameter,
    restore_parameters,
    set_parameter,
)
from fuseswap.units import GIB, PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory

PAGE = pages.CORPUS["compressible"]


def isolate(device: Device) -> None:
    set_parameter(device, find_parameter("isolate"), "Y")


def objects_of_two_equal_pages(device: Device) -> int:
    set_parameter(device, find_parameter("dedup"), device.cache.dedup.switch)
    for page in (0, 1):
        device.frontswap.store(PageNumber(page), PAGE)
    words = {device.cache.slots.get(PageNumber(page)) for page in (0, 1)}
    return len(words)


def is_isolated(device: Device) -> bool:
    switch = parse_switch(find_parameter("isolate").get(device))
    return switch and (find_parameter("dedup").get(device) == "off")


def test_equal_pages_are_kept_twice(device: Device) -> None:
    find_parameter("dedup").set(device, "on")
    assert objects_of_two_equal_pages(device) == 1, "or the test shows nothing"
    isolate(device)
    assert objects_of_two_equal_pages(device) == 2


def test_no_dictionary_is_trained(device: Device) -> None:
    isolate(device)
    policy = device.recompression.dictionaries
    policy.pages = 10**9
    assert not policy.is_due


@pytest.mark.parametrize(
    ("name", "value"),
    [("dedup", "on"), ("dedup", "auto"), ("dictionary_gain_percent", "3"), ("isolate", "N")],
)
def test_it_can_not_be_undone(device: Device, name: str, value: str) -> None:
    isolate(device)
    before = find_parameter(name).get(device)
    with pytest.raises(Isolated):
        set_parameter(device, find_parameter(name), value)
    assert find_parameter(name).get(device) == before
    assert is_isolated(device)


def test_the_next_worker_is_isolated_whatever_was_set_before(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    set_parameter(device, find_parameter("dedup"), "on")
    set_parameter(device, find_parameter("dictionary_gain_percent"), "5")
    isolate(device)
    later = Device(memory.attach())
    restore_parameters(later, memory.attach().parameters, strictly=True)
    assert is_isolated(later)
    assert later.recompression.dictionaries.gain_percent == 100


@pytest.mark.parametrize("wanted", [True, False])
def test_up_says_it_first(device: Device, wanted: bool) -> None:
    config = DeviceConfig.parse(
        name="swap0",
        size="64M",
        pool_limit="16M",
        compressor="lz4",
        transport="devfuse",
        mountpoint="/nowhere",
        priority=100,
        memory_bytes=GIB,
        isolate=wanted,
    )
    restore_parameters(device, config.settings(GIB).parameters, strictly=True)
    assert is_isolated(device) == wanted
