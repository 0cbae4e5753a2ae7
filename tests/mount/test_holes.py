"""fallocate and lseek on the swapfile: discards arrive, and holes are where they were punched."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.linux import syscalls
from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, device_mounted

pytestmark = pytest.mark.no_swap

PAGE = b"a page of text. " * 256
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
PUNCH = PUNCH_HOLE | KEEP_SIZE


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDevice]:
    with device_mounted(tmp_path_factory.mktemp("mnt"), "size=64M") as mounted:
        yield mounted


@pytest.fixture
def fd(device: TestDevice) -> Iterator[int]:
    opened = os.open(device.swapfile, os.O_RDWR)
    yield opened
    syscalls.fallocate(opened, PUNCH, 0, 64 * MIB)
    os.close(opened)


@pytest.mark.parametrize("mode", [PUNCH, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
def test_a_range_reads_as_zeros(device: TestDevice, fd: int, mode: int) -> None:
    os.pwrite(fd, PAGE * 16, 0)
    syscalls.fallocate(fd, mode, 1000, 5 * 4096)
    expected = bytearray(PAGE * 16)
    expected[1000 : 1000 + 5 * 4096] = bytes(5 * 4096)
    assert os.pread(fd, 16 * 4096, 0) == expected
    assert device.stat("stored_pages") == 12


def test_holes_and_data_are_found(fd: int) -> None:
    os.pwrite(fd, PAGE * 4, 8 * 4096)
    os.pwrite(fd, PAGE, 10_000 * 4096)
    syscalls.fallocate(fd, PUNCH, 9 * 4096, 4096)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 8 * 4096
    assert os.lseek(fd, 8 * 4096, os.SEEK_HOLE) == 9 * 4096
    assert os.lseek(fd, 9 * 4096, os.SEEK_DATA) == 10 * 4096
    assert os.lseek(fd, 12 * 4096, os.SEEK_DATA) == 10_000 * 4096
    with pytest.raises(OSError, match="No such device or address") as caught:
        os.lseek(fd, 10_001 * 4096, os.SEEK_DATA)
    assert caught.value.errno == errno.ENXIO


def test_freed_pages_give_their_memory_back(device: TestDevice, fd: int) -> None:
    source = random.Random(3)
    for at in range(0, 32 * MIB, MIB):
        os.pwrite(fd, source.randbytes(MIB), at)
    assert device.stat("pool_total_size") >= 32 * MIB
    assert device.swapfile.stat().st_blocks * 512 >= 32 * MIB
    syscalls.fallocate(fd, PUNCH, 0, 32 * MIB)
    assert device.stat("stored_pages") == 0
    device.wait_for_pool_below(4 * MIB)
    assert device.stat("invalidates") >= 8192
    assert device.stat("discards") >= 1


def test_random_writes_and_punches_against_a_model(fd: int) -> None:
    area, source = 2 * MIB, random.Random(4)
    model = bytearray(area)
    for _ in range(1500):
        size = source.choice((1, 100, 512, 4096, 4096, 8192, 70_000, 2 * MIB))
        offset = source.randrange(max(1, area - size))
        if source.random() < 0.5:
            offset -= offset % 4096
        size = min(size, area - offset)
        doing = source.randrange(10)
        if doing < 4:
            data = (source.randbytes(61) * (size // 61 + 1))[:size]
            assert os.pwrite(fd, data, offset) == size
            model[offset : offset + size] = data
        elif doing < 7:
            syscalls.fallocate(fd, source.choice((PUNCH, ZERO_RANGE)), offset, size)
            model[offset : offset + size] = bytes(size)
        else:
            assert os.pread(fd, size, offset) == model[offset : offset + size]
    assert os.pread(fd, MIB, 0) + os.pread(fd, MIB, MIB) == model
    assert _data_pages(fd, area) >= {
        n // 4096 for n in range(0, area, 4096) if any(model[n : n + 4096])
    }


def _data_pages(fd: int, area: int) -> set[int]:
    """Page numbers that SEEK_DATA and SEEK_HOLE call data."""
    found: set[int] = set()
    at = 0
    while at < area:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.update(range(start // 4096, at // 4096))
    return found


def test_preallocation_is_refused(fd: int) -> None:
    with pytest.raises(OSError, match="not supported") as caught:
        syscalls.fallocate(fd, 0, 0, MIB)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_pyfuse3_sees_no_discards(tmp_path: Path) -> None:
    with device_mounted(tmp_path, "size=64M", transport="pyfuse3") as device:
        with open(device.swapfile, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), PAGE, 0)
            with pytest.raises(OSError, match="not supported"):
                syscalls.fallocate(file.fileno(), PUNCH, 0, 4096)
            assert os.pread(file.fileno(), 4096, 0) == PAGE
        assert device.status()["discards"] is False
