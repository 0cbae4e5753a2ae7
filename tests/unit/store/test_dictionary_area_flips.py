"""Bits that flip in the memory of a dictionary: pages are right, or an error, and never wrong."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from fuseswap.errors import CorruptData
from fuseswap.filesystem.device import Device
from fuseswap.store.geometry import DICTIONARY_PLACE_BYTES
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.effort import scaled
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory, fronted_of
from tests.support.recompressed_devices import DICTIONARY, at_once, recompress

FLIPS = scaled(200)
HEAD_BYTES = 16
PAGES = 40
MADE = {page: pages.related(page) for page in range(PAGES)}


def attach(memory: SharedMemory) -> Device:
    return Device(memory.attach(), submit=at_once)


@pytest.fixture
def device(memory: SharedMemory) -> Device:
    """Half of its pages need one dictionary, half another."""
    device = attach(memory)
    for number, data in enumerate((DICTIONARY, DICTIONARY[::-1] + DICTIONARY)):
        device.cache.dictionaries.add(data)
        for page in range(number * PAGES // 2, (number + 1) * PAGES // 2):
            device.swapfile.write(page * PAGE_SIZE, memoryview(MADE[page]))
        trio.run(recompress, device.recompression, clock=MockClock())
    assert device.cache.log.dictionary_use.pages[:2] == [PAGES // 2] * 2
    return device


def flips() -> list[tuple[int, int]]:
    """``(byte, mask)``: half of them in what is before a dictionary, one bit to eight."""
    chance = random.Random(20261121)
    found = []
    for number in range(FLIPS):
        at = chance.randrange(HEAD_BYTES if number % 2 else 64 + 2 * len(DICTIONARY))
        at += chance.choice((0, DICTIONARY_PLACE_BYTES))
        found.append((at, 1 << chance.randrange(8) if number % 4 else chance.randrange(1, 256)))
    return found


def found_in(device: Device) -> Counter[str]:
    """How the pages read: right or corrupt; raises where one is wrong."""
    outcome: Counter[str] = Counter()
    for page, data in MADE.items():
        try:
            assert device.frontswap.load(PageNumber(page)) == data, f"page {page} is wrong"
            outcome["right"] += 1
        except CorruptData:
            outcome["corrupt"] += 1
    return outcome


def test_the_next_worker_reads_right_or_not_at_all(device: Device, memory: SharedMemory) -> None:
    buffer = device.state.dictionaries.buffer
    kept = bytes(buffer)
    outcomes: Counter[str] = Counter()
    for at, mask in flips():
        buffer[at] ^= mask
        outcomes += found_in(attach(memory))
        buffer[:] = kept
    assert outcomes["right"] + outcomes["corrupt"] == FLIPS * PAGES
    assert outcomes["corrupt"] > FLIPS * PAGES // 4  # they do something
    assert found_in(attach(memory)) == {"right": PAGES}


def test_a_worker_that_runs_has_a_copy_of_its_own(device: Device) -> None:
    buffer = device.state.dictionaries.buffer
    for at, mask in flips():
        buffer[at] ^= mask
    assert found_in(device) == {"right": PAGES}
    for page in range(0, PAGES, 2):
        device.swapfile.write(page * PAGE_SIZE, memoryview(MADE[page]))
    trio.run(recompress, device.recompression, clock=MockClock())
    assert found_in(device) == {"right": PAGES}
    check_invariants(fronted_of(device))


def test_whatever_comes_after_is_right_as_well(device: Device, memory: SharedMemory) -> None:
    """Others are added, to a place that seems free perhaps, and pages are recompressed."""
    buffer = device.state.dictionaries.buffer
    kept = bytes(buffer)
    for at, mask in flips()[: FLIPS // 4]:
        buffer[at] ^= mask
        following = attach(memory)
        before = found_in(following)
        following.cache.dictionaries.add(DICTIONARY)
        assert found_in(following) == before
        assert found_in(attach(memory)) == before
        for one in following.cache.dictionaries.all:
            if one.number > 1:
                following.cache.dictionaries.drop(one)
        buffer[:] = kept
    assert found_in(attach(memory)) == {"right": PAGES}
