"""A region: sparse memory that is shared, and really given back."""

from __future__ import annotations

import os

import pytest

from fuseswap.store.region import Region
from tests.support.memory_stores import SharedMemory

KIB4 = 4096


@pytest.fixture
def region(memory: SharedMemory) -> Region:
    return memory.regions()["arena"]


def test_a_touched_byte_takes_a_page(region: Region) -> None:
    assert region.allocated_bytes() == 0
    region.buffer[5 * KIB4 + 1] = 1
    assert region.allocated_bytes() == KIB4


def test_punched_bytes_are_zero_and_their_memory_is_gone(region: Region) -> None:
    region.buffer[: 4 * KIB4] = b"x" * (4 * KIB4)
    region.punch(KIB4, 2 * KIB4)
    assert region.allocated_bytes() == 2 * KIB4
    assert bytes(region.buffer[: 4 * KIB4]) == (b"x" * KIB4 + bytes(2 * KIB4) + b"x" * KIB4)


def test_populate_takes_memory_and_keeps_what_is_there(region: Region) -> None:
    region.buffer[KIB4] = 7
    region.populate(0, 8 * KIB4)
    assert region.allocated_bytes() == 8 * KIB4
    assert region.buffer[KIB4] == 7


def test_populate_reaches_the_last_byte(region: Region) -> None:
    size = region.size_bytes
    region.populate(size - KIB4, KIB4)
    assert list(region.extents()) == [(size - KIB4, size)]


def test_extents_are_the_runs_that_are_there(region: Region) -> None:
    assert list(region.extents()) == []
    region.populate(0, KIB4)
    region.populate(3 * KIB4, 2 * KIB4)
    assert list(region.extents()) == [(0, KIB4), (3 * KIB4, 5 * KIB4)]


def test_another_mapping_sees_the_same_bytes(memory: SharedMemory) -> None:
    first, second = (memory.regions()["arena"] for _ in range(2))
    first.buffer[12345] = 42
    assert second.buffer[12345] == 42
    first.close()
    assert second.buffer[12345] == 42


def test_the_first_data_of_a_range() -> None:
    fd = os.memfd_create("region")
    os.ftruncate(fd, 64 * 4096)
    region = Region(fd)
    region.buffer[20 * 4096] = 1
    assert region.first_data(0, 64 * 4096) == 20 * 4096
    assert region.first_data(0, 20 * 4096) is None
    assert region.first_data(21 * 4096, 64 * 4096) is None
    region.close()
    os.close(fd)
